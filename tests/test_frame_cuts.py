from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmssl.cuts.frames import FrameViews
from mmssl.types import Box, InputError, InputSpec, Source, Span


def source(seconds: float = 4.0, start: float = 0.5, **more) -> Source:
    return Source("a", Path("a.mp4"), 25.0, **{"width": 320, "height": 240, "video": Span(start, start + seconds), **more})


def plans(views: FrameViews, count: int = 200, **more):
    return [views.plan(source(**more), np.random.default_rng(seed)).requests["video"] for seed in range(count)]


def test_frames_are_even_lie_in_the_picture_stream_and_reach_both_its_ends():
    requests = plans(FrameViews(frames=4, fps=(5.0, 5.0), size=64))
    times = np.array([request.times for request in requests])
    np.testing.assert_allclose(np.diff(times, axis=1), 0.2, rtol=1e-6)
    assert 0.5 <= times.min() < 0.55 and 4.4 < times.max() < 4.5
    assert {request.size for request in requests} == {64}


def test_rates_are_drawn_from_the_whole_range():
    times = np.array([request.times for request in plans(FrameViews(frames=3, fps=(2.0, 10.0), size=64))])
    rates = 1 / np.diff(times, axis=1)[:, 0]
    assert 2.0 <= rates.min() < 2.3 and 9.7 < rates.max() <= 10.0
    assert times.max() < 4.5


def test_one_box_serves_all_frames_and_is_square_in_pixels():
    boxes = [request.box for request in plans(FrameViews(size=64, crop=(0.4, 0.6)))]
    assert all(isinstance(box, Box) and box.width * 320 == pytest.approx(box.height * 240) for box in boxes)
    assert 0.4 <= min(box.height for box in boxes) < 0.45 and 0.55 < max(box.height for box in boxes) <= 0.6
    assert FrameViews(size=64).whole(source()) is None
    region = FrameViews(size=64, region=(0.5, 0.0, 0.5, 1.0))
    assert region.whole(source()) == Box(0.5, pytest.approx(1 / 6), 0.5, pytest.approx(2 / 3))
    assert all(request.box.left >= 0.5 for request in plans(region, 20))


def test_what_is_too_short_or_has_no_picture_is_rejected_with_a_reason():
    views = FrameViews(frames=4, fps=(3.0, 8.0), size=64)  # the slowest cut lasts 1.0 s
    assert views.reject(source(1.01)) is None
    assert views.reject(source(1.0)) == "shorter than 1.0 s"
    assert views.reject(source(video=None)) == "no picture"
    unknown = source(width=0, height=0)
    assert views.reject(unknown) is None
    assert views.plan(unknown, np.random.default_rng(0)).requests["video"].box is None
    assert "size unknown" in (FrameViews(size=64, region=(0.0, 0.0, 0.5, 0.5)).reject(unknown) or "")


def test_the_encoder_fills_in_the_size():
    assert FrameViews().resolve(InputSpec(size=96)).size == 96
    assert FrameViews(size=64).resolve(InputSpec(size=96)).size == 64
    with pytest.raises(InputError, match=r"views\.size must say which"):
        FrameViews().resolve(InputSpec())
    with pytest.raises(InputError, match="call resolve first"):
        FrameViews().plan(source(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"frames": 1}, "frames is 1"),
        ({"fps": (0.0, 5.0)}, "fps is"),
        ({"fps": (6.0, 5.0)}, "fps is"),
        ({"crop": (0.0, 1.0)}, "crop is"),
        ({"region": (0.5, 0.0, 0.6, 1.0)}, "region is"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        FrameViews(**arguments)
