from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmssl.cuts.pairs import PairViews, SyncViews, draw_window, loud_onsets, shared_span, window_levels
from mmssl.cuts.pictures import draw_box, even_times, spread_times
from mmssl.types import LOUDNESS_HOP, Frames, InputError, InputSpec, Source, Span, Wave

PICTURE, SOUND = InputSpec(size=128), InputSpec(rate=16000)
PAIR = PairViews(frames=2, seconds=1.0).resolve(PICTURE, SOUND)
SYNC = SyncViews(seconds=1.0, fps=10.0).resolve(PICTURE, SOUND)


def clip(seconds: float = 4.0, *, loudness=(), video=True, audio=True, start: float = 0.0) -> Source:
    span = Span(start, start + seconds)
    return Source("clip", Path("clip.mp4"), 25.0, 360, 288, span if video else None, span if audio else None, (), tuple(loudness))


def plans(views, source, count: int = 2000):
    return [views.plan(source, np.random.default_rng(k)) for k in range(count)]


def uniform_gap(values, low: float, high: float) -> float:
    """Kolmogorov-Smirnov distance from the uniform distribution."""
    x = np.sort((np.asarray(values) - low) / (high - low))
    return float(np.abs(x - (np.arange(len(x)) + 0.5) / len(x)).max())


def two_sample_gap(a, b) -> float:
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate((a, b))
    return float(np.abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max())


# Levels and onsets -------------------------------------------------------------------------------------------------------


def test_window_levels_are_mean_powers_in_decibels():
    loudness = (-20.0, -20.0, -math.inf, -10.0)
    levels = window_levels(loudness, np.array([0.0, 0.2, 0.15, 0.35]), 0.1)
    by_hand = [-20.0, -200.0, 10 * math.log10(0.5 * 10**-2.0), 10 * math.log10(0.5 * 10**-1.0)]
    assert levels == pytest.approx(by_hand)


def test_loud_onsets_are_rises_not_decays_nor_steady_sound():
    decay = [-60.0] * 10 + [-20.0, -24.0, -28.0, -32.0, -36.0] + [-60.0] * 5
    assert loud_onsets(tuple(decay), min_loudness=-60.0) == pytest.approx([1.05])
    across = [-60.0] * 10 + [-25.0, -20.0, -24.0] + [-60.0] * 5  # an impact that falls across two hops
    assert 1.15 in np.round(loud_onsets(tuple(across), min_loudness=-60.0), 2)
    assert len(loud_onsets((-20.0, -21.0, -19.0, -20.0), min_loudness=-60.0)) == 0
    faint = [-80.0] * 5 + [-65.0] + [-80.0] * 5 + [-20.0] + [-80.0] * 3  # 45 dB below the loudest: not loud
    assert loud_onsets(tuple(faint), min_loudness=-90.0) == pytest.approx([1.15])
    assert len(loud_onsets((), min_loudness=-60.0)) == 0


# Pairs -------------------------------------------------------------------------------------------------------------------


def test_frames_lie_inside_the_sound_window_and_both_inside_the_source():
    for source in (clip(4.0), clip(1.0), clip(3.0, start=0.4)):
        span = shared_span(source)
        for plan in plans(PAIR, source, 300):
            frames, wave = plan.requests["video"], plan.requests["audio"]
            assert isinstance(frames, Frames)
            assert isinstance(wave, Wave)
            assert span.start <= wave.start <= span.end - wave.seconds + 1e-9
            assert all(wave.start <= t < wave.start + wave.seconds for t in frames.times)
            assert list(frames.times) == sorted(frames.times)
            assert (frames.size, wave.rate, len(frames.times)) == (128, 16000, 2)


def test_neither_sound_nor_frames_start_on_the_frame_grid():
    """Objects that Sound: sound that starts at multiples of the frame period gives positives away."""
    drawn = plans(PAIR, clip(4.0))
    starts = np.array([plan.requests["audio"].start for plan in drawn])
    times = np.array([plan.requests["video"].times[0] for plan in drawn])
    loud = plans(PairViews(loud=1.0).resolve(PICTURE, SOUND), clip(8.0, loudness=([-50.0] * 9 + [-10.0]) * 8))
    for values in (starts, times, np.array([plan.requests["audio"].start for plan in loud])):
        for grid in (0.04, LOUDNESS_HOP):
            assert uniform_gap(values % grid, 0.0, grid) < 0.05
    assert uniform_gap(starts, 0.0, 3.0) < 0.04
    assert uniform_gap(times - starts, 0.0, 0.5) < 0.04


def test_draws_stay_out_of_silence_and_are_uniform_elsewhere():
    source = clip(10.0, loudness=[-20.0] * 30 + [-90.0] * 40 + [-20.0] * 30)
    starts = np.array([draw_window(source, Span(0, 10), 1.0, np.random.default_rng(k), min_loudness=-40.0) for k in range(4000)])
    # A range of starts, one hop wide, is judged by its middle.
    near = [window_levels(source.loudness, starts + shift, 1.0) for shift in (-LOUDNESS_HOP / 2, LOUDNESS_HOP / 2)]
    assert (np.maximum(*near) >= -40.0).all()
    inside = starts[starts < 2.9]
    assert uniform_gap(inside, 0.0, 2.9) < 0.04
    assert 0.45 < (starts < 5.0).mean() < 0.55


@pytest.mark.parametrize("loud", [0.0, 0.5, 1.0])
def test_loud_share_of_windows_hold_an_onset(loud):
    """Two knocks in 20 s: a blind draw holds one in its middle rarely, a loud draw always."""
    level = [-50.0] * 200
    level[50] = level[140] = -10.0
    source = clip(20.0, loudness=level)
    views = PairViews(loud=loud).resolve(PICTURE, SOUND)
    starts = np.array([plan.requests["audio"].start for plan in plans(views, source)])
    holds = np.zeros(len(starts), dtype=bool)
    for onset in (5.05, 14.05):
        holds |= (starts + 0.04 <= onset) & (onset <= starts + 0.96)
    blind = 2 * 0.8 / 19
    assert holds.mean() == pytest.approx(loud + (1 - loud) * blind, abs=0.04)
    if loud == 1.0:
        offsets = (5.05 - starts)[starts < 10]
        assert uniform_gap(offsets, 0.1, 0.9) < 0.08  # the knock may be anywhere in the window


def test_loud_draws_fall_back_to_audible_windows_where_there_are_no_onsets():
    steady = clip(5.0, loudness=[-20.0] * 50)
    starts = [plan.requests["audio"].start for plan in plans(PairViews(loud=1.0).resolve(PICTURE, SOUND), steady)]
    assert uniform_gap(starts, 0.0, 4.0) < 0.04
    unmeasured = [plan.requests["audio"].start for plan in plans(PairViews(loud=1.0).resolve(PICTURE, SOUND), clip(5.0))]
    assert uniform_gap(unmeasured, 0.0, 4.0) < 0.04


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (clip(4.0), None),
        (clip(4.0, audio=False), "no sound"),
        (clip(4.0, video=False), "no picture"),
        (clip(0.9), "shorter than 1.0 s"),
        (clip(4.0, loudness=[-90.0] * 40), "silent"),
        (clip(4.0, loudness=[-math.inf] * 40), "silent"),
        (clip(4.0, loudness=[-90.0] * 39 + [-30.0]), None),
        (Source("x", Path("x"), 25.0, 10, 10, Span(0.0, 2.0), Span(1.5, 9.0)), "shorter than 1.0 s"),
    ],
)
def test_pair_views_reject_with_reasons_that_group(source, reason):
    assert PAIR.reject(source) == reason


def test_a_loose_window_is_never_drawn_from_a_source_that_was_accepted_for_one_loud_spot():
    source = clip(30.0, loudness=[-90.0] * 299 + [-30.0])
    starts = [plan.requests["audio"].start for plan in plans(PAIR, source, 200)]
    assert min(starts) > 28.8


def test_apart_windows_keep_their_distance_on_both_sides():
    views = PairViews(seconds=1.0, apart=0.5).resolve(PICTURE, SOUND)
    assert views.reject(clip(2.4)) == "shorter than 2.5 s"
    for seconds in (2.5, 3.0, 8.0):
        gaps = []
        for plan in plans(views, clip(seconds), 500):
            first, other = plan.requests["audio"].start, plan.requests["audio_apart"].start
            assert min(first, other) >= 0.0
            assert max(first, other) <= seconds - 1.0 + 1e-9
            gaps.append(other - first)
        assert np.abs(gaps).min() >= 1.5 - 1e-9
        assert 0.4 < np.mean(np.array(gaps) > 0) < 0.6


def test_boxes_are_square_in_pixels_inside_the_picture_and_reach_its_corners():
    for width, height in ((360, 288), (120, 640), (64, 64)):
        source = Source("x", Path("x"), 25.0, width, height)
        boxes = [draw_box(source, (0.5, 1.0), np.random.default_rng(k)) for k in range(1000)]
        for box in boxes:
            assert box is not None
            assert box.width * width == pytest.approx(box.height * height)
            assert 0.5 <= box.width * width / min(width, height) <= 1.0 + 1e-9
            assert 0.0 <= box.left <= 1.0 - box.width + 1e-12
            assert 0.0 <= box.top <= 1.0 - box.height + 1e-12
        assert min(b.left for b in boxes if b) < 0.02
        assert max(b.left + b.width for b in boxes if b) > 0.98
    assert draw_box(Source("x", Path("x")), (0.5, 1.0), np.random.default_rng(0)) is None


def test_a_region_holds_all_crops_and_is_what_evaluation_sees():
    source = Source("x", Path("x"), 25.0, 360, 288)
    region = (0.25, 0.5, 0.4, 0.5)  # 144 x 144 pixels
    boxes = [draw_box(source, (0.5, 1.0), np.random.default_rng(k), region=region) for k in range(1000)]
    for box in boxes:
        assert box is not None
        assert box.width * 360 == pytest.approx(box.height * 288)
        assert 0.5 <= box.width * 360 / 144 <= 1.0 + 1e-9
        assert 0.25 <= box.left <= 0.65 - box.width + 1e-12
        assert 0.5 <= box.top <= 1.0 - box.height + 1e-12
    assert min(b.left for b in boxes if b) < 0.26
    assert max(b.left + b.width for b in boxes if b) > 0.64
    for views in (PairViews(region=region), SyncViews(region=region)):
        seen = views.whole(source)
        assert seen is not None
        assert (seen.left, seen.top, seen.width, seen.height) == pytest.approx(region)
    assert SyncViews().whole(source) is None
    oblong = SyncViews(region=(0.0, 0.0, 1.0, 0.5)).whole(source)  # 360 x 144 pixels: the square in its middle
    assert oblong is not None
    assert (oblong.left, oblong.top, oblong.width, oblong.height) == pytest.approx((0.3, 0.0, 0.4, 0.5))


@pytest.mark.parametrize("views", [PAIR, SYNC], ids=["pair", "sync"])
def test_a_region_of_a_picture_of_unknown_size_is_refused_and_not_replaced_by_the_middle(views):
    unknown = replace(clip(5.0), width=0, height=0)
    assert views.reject(unknown) is None
    assert replace(views, region=(0.25, 0.5, 0.4, 0.5)).reject(unknown) == "size unknown, so views.region cannot be cut"


def test_times():
    assert even_times(1.0, 1.0, 4, 10.0) == pytest.approx((1.35, 1.45, 1.55, 1.65))
    assert even_times(0.0, 1.0, 1, 10.0) == (0.5,)
    drawn = np.array([spread_times(2.0, 1.0, 4, np.random.default_rng(k)) for k in range(500)])
    for part in range(4):
        assert uniform_gap(drawn[:, part], 2.0 + part / 4, 2.25 + part / 4) < 0.08


def test_frames_at_a_rate_are_evenly_spaced():
    views = PairViews(frames=5, fps=10.0).resolve(PICTURE, SOUND)
    plan = views.plan(clip(4.0), np.random.default_rng(0))
    assert np.diff(plan.requests["video"].times) == pytest.approx([0.1] * 4)


# Synchronisation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3.0, 10.0])
def test_true_and_shifted_windows_have_one_distribution(seconds):
    """What the sound alone or the picture alone could say about the label: nothing."""
    drawn = plans(SYNC, clip(seconds, loudness=[-70.0] * 3 + [-20.0] * int(seconds * 10 - 6) + [-70.0] * 3), 4000)
    true = np.array([plan.requests["audio"].start for plan in drawn])
    shifted = np.array([plan.requests["audio_shifted"].start for plan in drawn])
    shift = np.array([plan.labels["shift"] for plan in drawn])
    assert shift == pytest.approx(shifted - true)
    assert two_sample_gap(true, shifted) < 0.045  # 1 % critical value for 4,000 + 4,000 draws: 0.036 if they were independent
    assert 0.47 < (shift > 0).mean() < 0.53
    assert two_sample_gap(shift, -shift) < 0.045
    for starts in (true, shifted):
        assert starts.min() >= 0.0
        assert starts.max() <= seconds - 1.0 + 1e-9
        assert uniform_gap(starts % 0.04, 0.0, 0.04) < 0.03


def test_shifts_do_not_overlap_where_the_clip_allows_and_never_fall_below_the_smallest():
    for seconds, least in ((3.0, 1.0), (10.0, 1.0), (1.8, 0.5)):
        shifts = np.abs([plan.labels["shift"] for plan in plans(SYNC, clip(seconds), 500)])
        assert shifts.min() >= least - 1e-9
        assert shifts.max() <= seconds - 1.0 + 1e-9
    near = SyncViews(seconds=1.0, fps=10.0, overlapping=0.5).resolve(PICTURE, SOUND)
    drawn = plans(near, clip(5.0), 1000)
    overlap = np.array([plan.labels["overlap"] for plan in drawn])
    shifts = np.abs([plan.labels["shift"] for plan in drawn])
    assert 0.45 < overlap.mean() < 0.55
    assert (shifts[overlap == 1] <= 1.0).all()
    assert (shifts[overlap == 1] >= 0.5).all()
    assert (shifts[overlap == 0] >= 1.0).all()
    far = SyncViews(seconds=1.0, fps=10.0, max_shift=1.5).resolve(PICTURE, SOUND)
    assert max(abs(plan.labels["shift"]) for plan in plans(far, clip(9.0), 500)) <= 1.5


def test_sync_frames_cover_their_own_sound_window():
    plan = SYNC.plan(clip(3.0), np.random.default_rng(1))
    frames, wave = plan.requests["video"], plan.requests["audio"]
    assert len(frames.times) == 10
    assert np.diff(frames.times) == pytest.approx([0.1] * 9)
    assert frames.times[0] - wave.start == pytest.approx(wave.start + 1.0 - frames.times[-1])


def test_sync_views_prefer_audible_windows_and_reject():
    source = clip(6.0, loudness=[-20.0] * 40 + [-90.0] * 20)
    for plan in plans(SYNC, source, 300):
        starts = np.array([plan.requests["audio"].start, plan.requests["audio_shifted"].start])
        assert (window_levels(source.loudness, starts, 1.0) >= -60.0).all()
    assert SYNC.reject(clip(1.4)) == "shorter than 1.5 s"
    assert SYNC.reject(clip(3.0)) is None
    assert SYNC.reject(clip(3.0, audio=False)) == "no sound"
    assert SYNC.reject(clip(3.0, loudness=[-100.0] * 30)) == "silent"


# Filling in and bad values -----------------------------------------------------------------------------------------------


def test_resolve_takes_numbers_from_the_encoders_and_keeps_what_was_said():
    spec = InputSpec(size=112, frames=16, fps=8.0)
    views = PairViews(seconds=2.0).resolve(spec, InputSpec(rate=22050, seconds=3.0))
    assert (views.size, views.frames, views.fps, views.rate, views.seconds) == (112, 16, 8.0, 22050, 2.0)
    assert PairViews(size=64, seconds=2.0).resolve(spec, SOUND).size == 64
    sync = SyncViews().resolve(InputSpec(size=96, frames=8, fps=8.0), InputSpec(rate=16000, seconds=1.5))
    assert (sync.size, sync.frames, sync.fps, sync.seconds) == (96, 8, 8.0, 1.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PairViews(crop=(0.9, 0.5)), r"crop is \(0.9, 0.5\)"),
        (lambda: PairViews(region=(0.5, 0.0, 0.6, 1.0)), r"region is \(0.5, 0.0, 0.6, 1.0\)"),
        (lambda: SyncViews(region=(0.0, 0.0, 0.0, 1.0)), "region is"),
        (lambda: PairViews(loud=1.5), "loud is 1.5"),
        (lambda: PairViews(frames=0), "frames is 0"),
        (lambda: PairViews(seconds=-1.0), "seconds is -1.0"),
        (lambda: PairViews(apart=-1.0), "apart is -1.0"),
        (lambda: PairViews(frames=16, seconds=1.0, fps=8.0), "last 1.88 s"),
        (lambda: PairViews(frames=16, seconds=1.0).resolve(InputSpec(size=8, fps=8.0), SOUND), "last 1.88 s"),
        (lambda: PairViews(rate=8000).resolve(PICTURE, SOUND), "8000 Hz but the audio encoder takes 16000 Hz"),
        (lambda: PairViews().resolve(InputSpec(), SOUND), "views.size must say which"),
        (lambda: PairViews().resolve(PICTURE, InputSpec()), "views.rate must say which"),
        (lambda: SyncViews(min_shift=0.0), "a shift of 0 is no shift"),
        (lambda: SyncViews(max_shift=0.4), "max_shift is 0.4"),
        (lambda: SyncViews(overlapping=2.0), "overlapping is 2.0"),
        (lambda: SyncViews(overlapping=0.5, min_shift=2.0).resolve(PICTURE, SOUND), "cannot overlap"),
        (lambda: SyncViews(frames=50, fps=10.0, seconds=1.0), "last 4.90 s"),
        (lambda: PairViews().plan(clip(), np.random.default_rng(0)), "call resolve"),
        (lambda: SyncViews().reject(clip()), "call resolve"),
    ],
)
def test_bad_values_are_named_with_their_limit(make, says):
    with pytest.raises(InputError, match=says):
        make()
