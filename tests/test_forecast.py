"""Cuts that look ahead: one crop, whole steps of the source's pictures, every moment inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmssl.cuts.forecast import BlockViews, PredictionViews, frame_step
from mmssl.types import Frames, InputError, InputSpec, Source, Span

VIEWS = [PredictionViews(past=4, future=4, fps=10.0, size=32), BlockViews(blocks=4, frames=2, fps=10.0, size=32)]
each = pytest.mark.parametrize("views", VIEWS, ids=["prediction", "blocks"])


def film(fps: float = 25.0, seconds: float = 4.0, start: float = 0.0) -> Source:
    return Source("a", Path("a.mp4"), fps, 320, 240, Span(start, start + seconds))


def video(views, source, seed: int) -> Frames:
    (request,) = views.plan(source, np.random.default_rng(seed)).requests.values()
    assert isinstance(request, Frames)
    return request


@each
@pytest.mark.parametrize("fps", [10.0, 24.0, 25.0, 29.97, 30.0, 50.0, 7.5])
@pytest.mark.parametrize("start", [0.0, 0.48])
def test_pictures_are_a_whole_number_of_the_sources_own_apart(views, fps, start):
    """Else the rhythm of steps of unlike length tells which of the later moments is which."""
    source = film(fps, 4.0, start)
    step = frame_step(source, 10.0)
    for seed in range(30):
        shown = (np.array(video(views, source, seed).times) - start) * fps
        assert set(np.diff(np.floor(shown))) == {step}
        assert ((shown % 1 > 0.2) & (shown % 1 < 0.8)).all()  # far from where one picture gives way to the next
        assert shown[0] >= 0 and shown[-1] < np.floor(4.0 * fps + 1e-3)


@each
def test_every_start_is_drawn(views):
    source = film(10.0, 1.0)  # 10 pictures, 8 needed
    firsts = {int(video(views, source, seed).times[0] * 10) for seed in range(60)}
    assert firsts == {0, 1, 2}


@each
def test_one_box_serves_all_pictures(views):
    boxes = {video(views, film(), seed).box for seed in range(10)}
    assert len(boxes) == 10
    assert len(views.plan(film(), np.random.default_rng(0)).requests) == 1


@each
def test_too_short_and_unknown_sources_are_rejected_by_reason(views):
    assert views.reject(film(10.0, 0.8)) is None
    assert views.reject(film(10.0, 0.7)) == "fewer than 8 pictures"
    assert views.reject(film(25.0, 0.5)) == "fewer than 15 pictures"
    assert views.reject(film(0.0)) == "frame rate unknown"
    assert views.reject(Source("b", Path("b.wav"))) == "no picture"


def test_what_the_encoder_was_built_for_fills_in():
    clips, pictures, any_ = InputSpec(64, 8, 12.5), InputSpec(128, 1), InputSpec(96)
    found = PredictionViews().resolve(clips, "video")
    assert (found.past, found.fps, found.size) == (8, 12.5, 64)
    found = PredictionViews(fps=5.0).resolve(pictures, "frame")
    assert (found.past, found.fps, found.size) == (4, 5.0, 128)
    found = BlockViews().resolve(clips, "video")
    assert (found.frames, found.fps) == (8, 12.5)
    assert (BlockViews().resolve(pictures, "frame").frames, BlockViews().resolve(pictures, "frame").fps) == (1, 4.0)
    assert (BlockViews().resolve(any_, "video").frames, BlockViews().resolve(any_, "video").fps) == (4, 12.5)
    with pytest.raises(InputError, match="size must say which"):
        BlockViews().resolve(InputSpec(), "frame")
    with pytest.raises(InputError, match="call resolve"):
        BlockViews().reject(film())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PredictionViews(past=0), "past is 0"),
        (lambda: PredictionViews(future=0), "future is 0"),
        (lambda: BlockViews(blocks=1), "blocks is 1"),
        (lambda: BlockViews(frames=0), "frames is 0"),
        (lambda: BlockViews(fps=0.0), r"fps is 0\.0"),
        (lambda: BlockViews(crop=(0.9, 0.5)), "crop is"),
        (lambda: PredictionViews(region=(0.5, 0.0, 0.6, 1.0)), "region is"),
    ],
)
def test_bad_values_are_named(make, says):
    with pytest.raises(InputError, match=says):
        make()
