"""Ways to cut a source that several objectives share: a moment of picture and sound, and the same with a shifted sound.

Times are seconds on the presentation clock, levels are RMS in dBFS. Window starts and frame times are drawn from continuous
ranges, never from the grid of frame times: a network reads a sampling grid more easily than it hears (Arandjelovic and
Zisserman, "Objects that Sound", ECCV 2018, arXiv:1712.06651).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mmssl.cuts.pictures import (
    WHOLE,
    check,
    check_crop,
    check_region,
    draw_box,
    even_times,
    fill_size,
    region_box,
    region_problem,
    spread_times,
)
from mmssl.types import LOUDNESS_HOP, Box, Frames, InputError, InputSpec, Plan, Source, Span, Views, Wave

ONSET_RISE = 6.0  # dB above the quieter of the two hops before: four times the power, more than a decaying sound wavers
ONSET_RANGE = 20.0  # dB below the loudest hop of the source down to which an onset counts as loud
TRIES = 32  # draws of a pair of windows before one that is too quiet is accepted


# What a source holds -----------------------------------------------------------------------------------------------------


def shared_span(source: Source) -> Span:
    """When there is picture and sound; empty where either is missing."""
    if source.video is None or source.audio is None:
        return Span(0.0, 0.0)
    return source.video.overlap(source.audio)


def window_levels(loudness: tuple[float, ...], starts: np.ndarray, seconds: float) -> np.ndarray:
    """Level in dBFS of the windows of `seconds` that begin at `starts` (K,), from `Source.loudness`; at least -200."""
    edges = np.arange(len(loudness) + 1) * LOUDNESS_HOP
    energy = np.concatenate(([0.0], np.cumsum(10.0 ** (np.asarray(loudness, dtype=np.float64) / 10.0)))) * LOUDNESS_HOP
    power = (np.interp(starts + seconds, edges, energy) - np.interp(starts, edges, energy)) / seconds
    return 10.0 * np.log10(np.maximum(power, 1e-20))


def loud_onsets(loudness: tuple[float, ...], *, min_loudness: float) -> np.ndarray:
    """Moments (K,) in seconds at which a loud sound sets in: the middle of each hop that rises by `ONSET_RISE`.

    A knock, a bounce, a syllable after a pause. Steady sounds have none.
    """
    level = np.maximum(np.asarray(loudness, dtype=np.float64), -200.0)
    if level.size < 2:
        return np.empty(0)
    before = level[:-1]
    # An impact can fall across two hops, so the rise is measured from the quieter of the two before.
    quieter = np.minimum(before, np.concatenate((before[:1], before[:-1])))
    floor = max(min_loudness, float(level.max()) - ONSET_RANGE)
    rising = (level[1:] - quieter >= ONSET_RISE) & (level[1:] >= before) & (level[1:] >= floor)
    return (np.flatnonzero(rising) + 1.5) * LOUDNESS_HOP


# Drawing -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Starts:
    """Ranges of window starts, each at most one loudness hop wide, and which of them are audible."""

    edges: np.ndarray  # (K + 1,) seconds, rising
    audible: np.ndarray  # (K,) bool

    @property
    def middles(self) -> np.ndarray:
        return (self.edges[1:] + self.edges[:-1]) / 2


def _starts(source: Source, span: Span, seconds: float, min_loudness: float) -> _Starts:
    low, high = span.start, max(span.start, span.end - seconds)
    inner = np.arange(math.floor(low / LOUDNESS_HOP) + 1, math.ceil(high / LOUDNESS_HOP)) * LOUDNESS_HOP
    edges = np.concatenate(([low], inner[(inner > low) & (inner < high)], [high]))
    found = _Starts(edges, np.ones(len(edges) - 1, dtype=bool))
    if source.loudness:
        found.audible[:] = window_levels(source.loudness, found.middles, seconds) >= min_loudness
    return found


def draw_window(
    source: Source, span: Span, seconds: float, rng: np.random.Generator, *, loud: float = 0.0, min_loudness: float = -60.0
) -> float:
    """Draw the start of a window of `seconds` inside `span`, uniform over all audible ones.

    With probability `loud` the draw is uniform over those windows that hold a loud onset in their middle four fifths, where
    the source has any. Windows below `min_loudness` dBFS are not drawn, unless there are no others.
    """
    starts = _starts(source, span, seconds, min_loudness)
    allowed = starts.audible if starts.audible.any() else np.ones_like(starts.audible)
    if rng.random() < loud:
        onsets = loud_onsets(source.loudness, min_loudness=min_loudness)
        first = np.searchsorted(onsets, starts.middles + 0.1 * seconds)
        holds = np.searchsorted(onsets, starts.middles + 0.9 * seconds) > first
        if (holds & allowed).any():
            allowed = holds & allowed
    reach = np.cumsum(np.diff(starts.edges) * allowed)
    place = rng.random() * reach[-1]
    if reach[-1] <= 0.0:  # the window fills the span: there is one start
        return float(starts.edges[0])
    cell = int(np.searchsorted(reach, place, side="right"))
    return float(starts.edges[cell + 1] - (reach[cell] - place))


def _unusable(source: Source, views: PairViews | SyncViews, seconds: float, shortest: float) -> str | None:
    if not source.has_video:
        return "no picture"
    if not source.has_audio:
        return "no sound"
    if problem := region_problem(source, views.region):
        return problem
    span = shared_span(source)
    if span.seconds < shortest:
        return f"shorter than {shortest:.1f} s"
    return None if _starts(source, span, seconds, views.min_loudness).audible.any() else "silent"


# Filling in what the encoders were built for -----------------------------------------------------------------------------


def _rate(asked: int | None, sound: InputSpec) -> int:
    rate = asked or sound.rate
    if not rate:
        raise InputError("the audio encoder takes any sample rate, so views.rate must say which, for example 16000")
    if sound.rate and rate != sound.rate:
        raise InputError(f"views.rate is {rate} Hz but the audio encoder takes {sound.rate} Hz; leave views.rate out")
    return rate


def _check_fits(frames: int | None, fps: float | None, seconds: float | None) -> None:
    if frames and fps and seconds:
        lasts = (frames - 1) / fps
        check(
            lasts < seconds,
            f"{frames} frames at {fps:g} fps last {lasts:.2f} s, longer than the {seconds:g} s of sound that they must lie in; "
            "lower views.frames or raise views.seconds",
        )


# Views -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PairViews(Views):
    """Frames and one sound window around the same moment; the frames lie inside the window.

    Requests `video` (T, 3, size, size) and `audio` (seconds * rate,); with `apart` > 0 also `audio_apart`, a second window of the
    same source that begins at least `seconds + apart` earlier or later, so that `apart` seconds lie between the two.

    None in `frames`, `seconds`, `fps`, `size`, `rate` stands for what the encoders were built for (`resolve`).
    """

    frames: int | None = None  # T; 1 where the encoder takes any number
    seconds: float | None = None  # of sound; 1.0 where the encoder takes any length
    fps: float | None = None  # spacing of the frames; 0: one at random in each T-th part of the window
    size: int | None = None  # pixels
    rate: int | None = None  # Hz
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture
    loud: float = 0.0  # share of draws from windows that hold a loud onset: contact sounds
    min_loudness: float = -60.0  # dBFS; quieter windows are not drawn, sources without louder ones are "silent"
    apart: float = 0.0  # seconds between the window and a second one of the same source; 0: no second one

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        check(0.0 <= self.loud <= 1.0, f"views.loud is {self.loud}; it is a share of draws, 0 to 1")
        check(self.frames is None or self.frames >= 1, f"views.frames is {self.frames}; at least one frame is needed")
        check(self.seconds is None or self.seconds > 0, f"views.seconds is {self.seconds}; give a length above 0")
        check(self.apart >= 0.0, f"views.apart is {self.apart}; give seconds >= 0 (0: no second window)")
        _check_fits(self.frames, self.fps, self.seconds)

    def resolve(self, picture: InputSpec, sound: InputSpec) -> PairViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoder say, or where they differ."""
        return replace(
            self,
            frames=self.frames or picture.frames or 1,
            seconds=self.seconds or sound.seconds or 1.0,
            fps=picture.fps if self.fps is None else self.fps,
            size=fill_size(self.size, picture),
            rate=_rate(self.rate, sound),
        )

    def reject(self, source: Source) -> str | None:
        """ "no picture", "no sound", "shorter than 1.0 s" (of picture and sound together), "silent", or no size to cut a region of."""
        _, seconds, _, _ = self._numbers()
        shortest = 2 * seconds + self.apart if self.apart > 0 else seconds
        return _unusable(source, self, seconds, shortest)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the window, the frames in it, the crop, and with `apart` the other window."""
        frames, seconds, size, rate = self._numbers()
        span = shared_span(source)
        within = span
        if self.apart > 0:  # leave room for the other window after this one, or before it
            room = seconds + self.apart
            within = Span(span.start, span.end - room) if rng.random() < 0.5 else Span(span.start + room, span.end)
        start = draw_window(source, within, seconds, rng, loud=self.loud, min_loudness=self.min_loudness)
        times = even_times(start, seconds, frames, self.fps) if self.fps else spread_times(start, seconds, frames, rng)
        requests = {
            "video": Frames(times, size, draw_box(source, self.crop, rng, region=self.region)),
            "audio": Wave(start, seconds, rate),
        }
        if self.apart > 0:
            requests["audio_apart"] = Wave(self._other(span, start, seconds, rng), seconds, rate)
        return Plan(requests)

    def _other(self, span: Span, start: float, seconds: float, rng: np.random.Generator) -> float:
        early = max(0.0, start - seconds - self.apart - span.start)  # room before the window, and after it
        late = max(0.0, span.end - seconds - (start + seconds + self.apart))
        place = rng.random() * (early + late)
        if early + late == 0.0:  # the two windows fill the span, so the other one is at the far end
            return span.end - seconds if start - span.start < span.end - seconds - start else span.start
        return span.start + place if place < early else start + seconds + self.apart + (place - early)

    def _numbers(self) -> tuple[int, float, int, int]:
        if self.frames is None or self.seconds is None or self.size is None or self.rate is None:
            raise InputError(f"{self} still has a None; call resolve with the encoders' specs first")
        return self.frames, self.seconds, self.size, self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncViews(Views):
    """Evenly spaced frames, the sound window that belongs to them, and one of the same source that is shifted in time.

    Requests `video` (T, 3, size, size), `audio` and `audio_shifted` (seconds * rate,); labels `shift` (seconds, signed) and
    `overlap` (1 where an overlapping, super-hard, window was asked for, else 0).

    Two windows are drawn as a pair without order and a fair coin says which of them the frames go with. So true and shifted
    windows have the very same distribution over positions, earlier and later are equally likely, and neither the sound nor
    the picture alone says anything about the label.
    """

    seconds: float | None = None  # of sound; 1.0 where the encoder takes any length
    fps: float | None = None  # of the frames; 12.5 where the encoder takes any
    frames: int | None = None  # T; as many as fit `seconds` at `fps` where the encoder takes any number
    size: int | None = None  # pixels
    rate: int | None = None  # Hz
    min_shift: float = 0.5  # seconds between the starts
    max_shift: float | None = None  # None: as far as the source allows
    overlapping: float = 0.0  # share of draws whose windows overlap (shift >= min_shift, < seconds): super-hard negatives
    crop: tuple[float, float] = (0.8, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture
    min_loudness: float = -60.0  # dBFS; pairs with a quieter window are drawn only where no other turns up

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        check(self.min_shift > 0.0, f"views.min_shift is {self.min_shift}; a shift of 0 is no shift")
        check(0.0 <= self.overlapping <= 1.0, f"views.overlapping is {self.overlapping}; it is a share of draws, 0 to 1")
        check(
            self.max_shift is None or self.max_shift > self.min_shift,
            f"views.max_shift is {self.max_shift} s but views.min_shift is {self.min_shift} s; it must be larger",
        )
        if self.seconds is not None:
            check(
                self.overlapping == 0.0 or self.min_shift < self.seconds,
                f"windows of {self.seconds} s that are {self.min_shift} s apart cannot overlap; lower views.min_shift",
            )
        _check_fits(self.frames, self.fps, self.seconds)

    def resolve(self, picture: InputSpec, sound: InputSpec) -> SyncViews:
        """These views with every None but `max_shift` filled in. Raises `InputError` as `PairViews.resolve` does."""
        seconds = self.seconds or sound.seconds or 1.0
        fps = self.fps or picture.fps or 12.5
        return replace(
            self,
            seconds=seconds,
            fps=fps,
            frames=self.frames or picture.frames or max(1, math.floor(seconds * fps + 1e-6)),
            size=fill_size(self.size, picture),
            rate=_rate(self.rate, sound),
        )

    def reject(self, source: Source) -> str | None:
        """ "no picture", "no sound", "shorter than 1.5 s" (one window and the smallest shift), "silent", or no size for a region."""
        seconds = self._numbers()[0]
        return _unusable(source, self, seconds, seconds + self.min_shift)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw two windows, which of them is true, and the crop."""
        seconds, fps, frames, size, rate = self._numbers()
        overlap = bool(rng.random() < self.overlapping)
        first, second = self._two_starts(source, overlap, rng)
        true, shifted = (first, second) if rng.random() < 0.5 else (second, first)
        return Plan(
            {
                "video": Frames(
                    even_times(true, seconds, frames, fps), size, draw_box(source, self.crop, rng, region=self.region)
                ),
                "audio": Wave(true, seconds, rate),
                "audio_shifted": Wave(shifted, seconds, rate),
            },
            {"shift": shifted - true, "overlap": int(overlap)},
        )

    def _two_starts(self, source: Source, overlap: bool, rng: np.random.Generator) -> tuple[float, float]:
        seconds = self._numbers()[0]
        span = shared_span(source)
        longest = min(span.seconds - seconds, self.max_shift or math.inf)
        if overlap:
            low, high = self.min_shift, min(longest, seconds)
        elif longest > seconds:  # the clip allows windows that do not touch
            low, high = max(self.min_shift, seconds), longest
        else:
            low, high = self.min_shift, longest
        first = second = span.start
        for _ in range(TRIES):
            shift = rng.uniform(min(low, high), high)
            first = rng.uniform(span.start, max(span.start, span.end - seconds - shift))
            second = first + shift
            # The test treats both windows alike, so it leaves their distributions equal.
            if not source.loudness or bool(
                (window_levels(source.loudness, np.array([first, second]), seconds) >= self.min_loudness).all()
            ):
                break
        return float(first), float(second)

    def _numbers(self) -> tuple[float, float, int, int, int]:
        if None in (self.seconds, self.fps, self.frames, self.size, self.rate):
            raise InputError(f"{self} still has a None; call resolve with the encoders' specs first")
        assert self.seconds and self.fps and self.frames and self.size and self.rate
        return self.seconds, self.fps, self.frames, self.size, self.rate
