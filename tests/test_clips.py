"""Cuts of pictures alone: inside the film, dense in time without a grid, one box, and rejected with a reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mmssl.cuts.clips import ClipViews, OrderViews, draw_apart, draw_start, unusable, window_motion
from mmssl.types import MOTION_HOP, InputError, InputSpec, Views
from tests.tiny_films import source

SPEC = InputSpec(size=16)
GAP = (0.2, 0.6)


def order(**given) -> OrderViews:
    return OrderViews(**given).resolve(SPEC, members=5, gap=GAP)


def times_of(views, film, seed: int) -> np.ndarray:
    return np.array(views.plan(film, np.random.default_rng(seed)).requests["video"].times)


@pytest.mark.parametrize("start", [0.0, 1.3])
@pytest.mark.parametrize("seconds", [1.3, 3.0, 30.0])
def test_five_clips_rise_keep_their_gaps_and_stay_in_the_film(seconds, start):
    views, film = order(frames=1), source(seconds, start=start)
    for seed in range(100):
        times = times_of(views, film, seed)
        gaps = np.diff(times) - 1 / 12.5
        assert (gaps >= GAP[0] - 1e-9).all() and (gaps <= GAP[1] + 1e-9).all()
        assert times[0] >= start and times[-1] < start + seconds


def test_gaps_are_drawn_one_by_one_and_give_way_in_short_films():
    long = np.array([np.diff(times_of(order(), source(30.0), seed)) for seed in range(300)])
    assert abs(np.corrcoef(long[:, 0], long[:, 1])[0, 1]) < 0.15
    assert long.std(axis=0).min() > 0.08
    short = np.array([np.diff(times_of(order(), source(1.5), seed)) for seed in range(50)])
    assert short.sum(axis=1).max() <= 1.5


def test_clips_of_several_frames_are_evenly_spaced():
    views = OrderViews(frames=4, fps=10.0).resolve(SPEC, members=3, gap=GAP)
    times = times_of(views, source(6.0), 1).reshape(3, 4)
    np.testing.assert_allclose(np.diff(times, axis=1), 0.1)
    assert (times[1:, 0] - times[:-1, -1] >= 0.1 + GAP[0] - 1e-9).all()


@pytest.mark.parametrize("place", range(5))
def test_no_time_prefers_a_place_between_frames_or_between_key_frames(place):
    """Key frames each 10 frames at 25 a second: the phase of every member must be uniform."""
    times = np.array([times_of(order(motion=0.0), source(10.0), seed)[place] for seed in range(4000)])
    for period in (0.04, 0.4):
        counts, _ = np.histogram(times % period, bins=10, range=(0, period))
        assert np.abs(counts - 400).max() < 5 * 400**0.5  # 5 standard deviations


def test_pictures_are_never_the_same_frame_twice():
    for seed in range(200):
        for fps in (12.5, 25.0, 29.97):
            views = order(frames=1, fps=12.5, gap=(0.0, 0.1))
            frames = np.floor(times_of(views, source(10.0, fps=fps), seed) * fps + 1e-6)
            assert len(set(frames)) == 5


def test_one_box_serves_all_pictures():
    requests = order().plan(source(), np.random.default_rng(0)).requests
    assert list(requests) == ["video"] and len(requests["video"].times) == 5


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        (dataclasses.replace(source(), video=None), "no picture"),
        (source(1.19), "shorter than 1.20 s"),
        (source(fps=10.0), "fewer than 12.5 frames a second, so pictures would repeat"),
        (source(1.21), None),
    ],
)
def test_a_source_that_cannot_be_cut_is_rejected_with_what_it_lacks(film, reason):
    assert order().reject(film) == reason


def test_a_region_needs_the_size_of_the_picture():
    film = dataclasses.replace(source(), width=0)
    assert order().reject(film) is None
    assert order().plan(film, np.random.default_rng(0)).requests["video"].box is None
    region = (0.1, 0.1, 0.8, 0.8)
    assert order(region=region).reject(film) == "size unknown, so views.region cannot be cut"
    box = order(region=region, crop=(1.0, 1.0)).plan(source(), np.random.default_rng(0)).requests["video"].box
    assert box.top == pytest.approx(0.1) and box.height == pytest.approx(0.8)
    assert order(region=region).whole(source()).height == pytest.approx(0.8)
    assert ClipViews(region=region).resolve(SPEC).whole(source()).height == pytest.approx(0.8)


def test_motion_weighs_the_windows_and_its_absence_does_not_matter():
    """All motion lies in the second from 8 to 9 of 12."""
    moving = tuple(10.0 if 8 <= k * MOTION_HOP < 9 else 0.0 for k in range(48))
    views = order(gap=(0.0, 0.0))  # windows of 0.4 s

    def middles(film, **given) -> np.ndarray:
        chosen = dataclasses.replace(views, **given)
        return np.array([times_of(chosen, film, seed).mean() for seed in range(400)])

    busy = middles(source(12.0, motion=moving))
    assert busy.min() > 7.4 and busy.max() < 9.4
    assert np.ptp(busy) > 1.0  # not one place: a range
    for film, given in (
        (source(12.0), {}),
        (source(12.0, motion=(0.0,) * 48), {}),
        (source(12.0, motion=moving), {"motion": 0.0}),
    ):
        anywhere = middles(film, **given)
        assert anywhere.min() < 1.0 and anywhere.max() > 11.0
        assert abs(anywhere.mean() - 6.0) < 0.7
    some = middles(source(12.0, motion=moving), motion=0.5)
    assert 0.4 < ((some > 7.4) & (some < 9.4)).mean() < 0.75
    assert OrderViews.needs_motion and issubclass(OrderViews, Views)


def test_motion_of_a_window_is_its_mean_by_the_parts_that_it_covers():
    motion = (0.0, 4.0, 8.0)
    found = window_motion(motion, np.array([0.0, 0.25, 0.125, 0.5]), 0.25)
    assert found.tolist() == pytest.approx([0.0, 4.0, 2.0, 8.0])


def test_starts_are_weighed_within_a_film_that_begins_late():
    film = source(4.0, start=2.0, motion=(9.0,) * 8 + (0.0,) * 12 + (5.0,) * 4)  # before it begins: of no film; then from 5 s on
    starts = [draw_start(film, 0.5, np.random.default_rng(k), motion=1.0) for k in range(200)]
    assert min(starts) > 4.2 and max(starts) <= 5.5


def test_a_film_that_just_fits_has_one_cut():
    film = source(1.2)
    starts = draw_apart(film, 5, 0.08, GAP, np.random.default_rng(0))
    assert starts[0] == pytest.approx(0.0) and starts[-1] == pytest.approx(1.12)


def test_what_the_encoder_was_built_for_is_filled_in():
    video = InputSpec(size=64, frames=16, fps=10.0)
    assert ClipViews().resolve(video) == ClipViews(frames=16, fps=10.0, size=64, region=(0.0, 0.0, 1.0, 1.0))
    assert ClipViews().resolve(InputSpec(size=64, frames=1)).frames == 8
    assert OrderViews().resolve(video, members=3, gap=GAP).frames == 16
    assert OrderViews(gap=(0.0, 0.1)).resolve(SPEC, members=3, gap=GAP).gap == (0.0, 0.1)
    assert unusable(source(fps=29.97), seconds=1.0, fps=30.0) is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: OrderViews(motion=2.0), "views.motion is 2.0"),
        (lambda: OrderViews(gap=(0.5, 0.1)), r"views.gap is \(0.5, 0.1\)"),
        (lambda: OrderViews(frames=0), "views.frames is 0"),
        (lambda: OrderViews(fps=-1.0), "views.fps is -1.0"),
        (lambda: OrderViews(members=4).resolve(SPEC, members=5, gap=GAP), "views.members is 4.*orders 5"),
        (lambda: ClipViews(frames=1).resolve(SPEC, least=2), "views.frames is 1; at least 2"),
        (lambda: ClipViews().resolve(InputSpec()), "views.size must say which"),
        (lambda: ClipViews(size=16).reject(source()), "still has a None"),
        (lambda: OrderViews(size=16).reject(source()), "still has a None"),
    ],
)
def test_bad_values_are_named(make, says):
    with pytest.raises(InputError, match=says):
        make()
