"""Ways to cut pictures alone: one clip, or several clips of one source in the order of time.

Times are seconds on the presentation clock. Every start and every gap is drawn from a continuous range, so that no time stands in a fixed
relation to the frames, or to the key frames, of the file: key frames look different from the others, and a network reads them easily.
All pictures of a cut share one crop box. Pictures are never asked for more densely than the source shows them: a repeated picture
gives the sampling away (Wei et al., CVPR 2018; Benaim et al., CVPR 2020 name such cues).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mmssl.cuts.pictures import WHOLE, check, check_crop, check_region, draw_box, fill_size, region_box, region_problem
from mmssl.types import MOTION_HOP, Box, Frames, InputError, InputSpec, Plan, Source, Span, Views

FPS = 12.5  # frames a second where neither the views nor the encoder say
FRAMES = 8  # of a clip for an encoder that sees each picture alone
RATE_SLACK = 0.995  # 29.97 frames a second count as 30


def video_span(source: Source) -> Span:
    """When there is picture; empty where there is none."""
    return Span(0.0, 0.0) if source.video is None else source.video


def unusable(source: Source, *, seconds: float, fps: float, region: tuple[float, float, float, float] = WHOLE) -> str | None:
    """Why `seconds` of pictures, `fps` a second, cannot be cut from a source; None where they can."""
    if not source.has_video:
        return "no picture"
    if problem := region_problem(source, region):
        return problem
    if source.fps < fps * RATE_SLACK:
        return f"fewer than {fps:g} frames a second, so pictures would repeat"
    return f"shorter than {seconds:.2f} s" if video_span(source).seconds < seconds else None


def window_motion(motion: tuple[float, ...], starts: np.ndarray, seconds: float) -> np.ndarray:
    """Mean motion (K,) of the windows of `seconds` that begin at `starts` (K,), from `Source.motion`; 0 beyond its ends."""
    edges = np.arange(len(motion) + 1) * MOTION_HOP
    total = np.concatenate(([0.0], np.cumsum(np.asarray(motion, dtype=np.float64)))) * MOTION_HOP
    return (np.interp(starts + seconds, edges, total) - np.interp(starts, edges, total)) / seconds


def draw_start(source: Source, seconds: float, rng: np.random.Generator, *, motion: float = 0.0) -> float:
    """Draw when a window of `seconds` begins.

    With probability `motion` the density of starts is proportional to the mean motion of their windows (Misra et al. 2016, section 3.1,
    weigh by optical flow); else, and where the index measured no motion or there is none, it is uniform.
    """
    span = video_span(source)
    low, high = span.start, max(span.start, span.end - seconds)
    by_motion, place = rng.random() < motion, float(rng.random())
    if by_motion and source.motion and high > low:
        inner = np.arange(np.floor(low / MOTION_HOP) + 1, np.ceil(high / MOTION_HOP)) * MOTION_HOP
        edges = np.concatenate(([low], inner[(inner > low) & (inner < high)], [high]))
        weights = window_motion(source.motion, (edges[1:] + edges[:-1]) / 2, seconds) * np.diff(edges)
        if weights.sum() > 0.0:
            return float(np.interp(place, np.concatenate(([0.0], np.cumsum(weights))) / weights.sum(), edges))
    return low + place * (high - low)


def draw_apart(
    source: Source,
    members: int,
    seconds: float,
    gap: tuple[float, float],
    rng: np.random.Generator,
    *,
    motion: float = 0.0,
) -> np.ndarray:
    """Draw starts (members,), rising, of clips that last `seconds` each, with gaps between them uniform in `gap` seconds.

    In a short source the upper end of `gap` gives way.
    """
    room = (video_span(source).seconds - members * seconds) / (members - 1)
    gaps = rng.uniform(gap[0], max(gap[0], min(gap[1], room)), members - 1)
    offsets = np.arange(members) * seconds + np.concatenate(([0.0], np.cumsum(gaps)))
    return draw_start(source, float(offsets[-1]) + seconds, rng, motion=motion) + offsets


def clip_times(starts: np.ndarray, frames: int, fps: float) -> tuple[float, ...]:
    """Times of `frames` pictures, 1 / `fps` apart, of each clip that begins at `starts` (M,): M * frames numbers, clip by clip."""
    return tuple(float(t) for t in (starts[:, None] + np.arange(frames) / fps).ravel())


def check_motion(motion: float) -> None:
    """Raise `InputError` unless `motion` is a share."""
    check(0.0 <= motion <= 1.0, f"views.motion is {motion}; it is a share of draws, 0 to 1")


def check_counts(frames: int | None, fps: float | None, *, least: int = 1) -> None:
    """Raise `InputError` for too few frames, or a rate that is none."""
    check(frames is None or frames >= least, f"views.frames is {frames}; at least {least} are needed")
    check(fps is None or fps > 0.0, f"views.fps is {fps}; give frames a second, above 0")


def several(asked: int | None, picture: InputSpec) -> int:
    """Frames of a clip of more than one picture: as the views ask, or the encoder, or `FRAMES`."""
    return asked or (picture.frames if picture.frames > 1 else FRAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipViews(Views):
    """One clip of evenly spaced pictures. Request `video` (T, 3, size, size).

    None in `frames`, `fps`, `size` stands for what the encoder was built for, in `region` for what the objective needs (`resolve`).
    """

    frames: int | None = None  # T; 8 where the encoder sees pictures alone
    fps: float | None = None  # 12.5 where the encoder takes any
    size: int | None = None  # pixels
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] | None = (
        None  # left, top, width, height of what is looked at, shares of the picture
    )

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region or WHOLE)
        check_counts(self.frames, self.fps)

    def resolve(self, picture: InputSpec, *, least: int = 1, region: tuple[float, float, float, float] = WHOLE) -> ClipViews:
        """These views with every None filled in, for an objective that needs at least `least` frames.

        Raises `InputError` where there are fewer, or where neither views nor encoder say a size.
        """
        frames, fps = several(self.frames, picture), self.fps or picture.fps or FPS
        check_counts(frames, fps, least=least)
        return replace(self, frames=frames, fps=fps, size=fill_size(self.size, picture), region=self.region or region)

    def reject(self, source: Source) -> str | None:
        """ "no picture", "shorter than 0.64 s", "fewer than 12.5 frames a second ...", or no size to cut a region of."""
        frames, fps, _ = self._numbers()
        return unusable(source, seconds=frames / fps, fps=fps, region=self.region or WHOLE)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region or WHOLE)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw where the clip begins, and the crop."""
        frames, fps, size = self._numbers()
        start = draw_start(source, frames / fps, rng)
        times = clip_times(np.array([start]), frames, fps)
        return Plan({"video": Frames(times, size, draw_box(source, self.crop, rng, region=self.region or WHOLE))})

    def _numbers(self) -> tuple[int, float, int]:
        if self.frames is None or self.fps is None or self.size is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        return self.frames, self.fps, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderViews(Views):
    """M clips of one source in the order of time, with gaps between them. Request `video` (M * T, 3, size, size), clip by clip.

    With T = 1 the clips are single pictures. The order that an objective asks about is made after encoding, from the same features
    (`mmssl.nn.arrangement`), so nothing about a picture can say which question it serves.

    None stands for what the encoder was built for, or what the objective needs (`resolve`).
    """

    needs_motion: ClassVar[bool] = True

    members: int | None = None  # M; fixed by the objective
    frames: int | None = None  # T of each clip; 1 where the encoder sees pictures alone
    fps: float | None = None  # of the pictures in a clip; a single picture counts as 1 / fps long
    gap: tuple[float, float] | None = None  # seconds between the end of a clip and the next one, drawn for each gap
    motion: float = (
        1.0  # share of draws in which windows count by how much moves in them; no effect where the index has no motion
    )
    size: int | None = None  # pixels
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        check_motion(self.motion)
        check_counts(self.frames, self.fps)
        gap = self.gap
        check(gap is None or 0.0 <= gap[0] <= gap[1], f"views.gap is {gap}; give (least, most) seconds, 0 <= least <= most")

    def resolve(self, picture: InputSpec, *, members: int, gap: tuple[float, float]) -> OrderViews:
        """These views with every None filled in, for an objective that orders `members` clips.

        Raises `InputError` where `views.members` asks for another number, or nobody says a size.
        """
        check(
            self.members in (None, members),
            f"views.members is {self.members}, but this objective orders {members} clips; leave it out",
        )
        return replace(
            self,
            members=members,
            frames=self.frames or picture.frames or 1,
            fps=self.fps or picture.fps or FPS,
            gap=self.gap or gap,
            size=fill_size(self.size, picture),
        )

    def reject(self, source: Source) -> str | None:
        """ "no picture", "shorter than 1.20 s", "fewer than 12.5 frames a second ...", or no size to cut a region of."""
        members, frames, fps, gap, _ = self._numbers()
        seconds = members * frames / fps + (members - 1) * gap[0]
        return unusable(source, seconds=seconds, fps=fps, region=self.region)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the gaps, where the window that holds all clips begins, and the crop."""
        members, frames, fps, gap, size = self._numbers()
        starts = draw_apart(source, members, frames / fps, gap, rng, motion=self.motion)
        box = draw_box(source, self.crop, rng, region=self.region)
        return Plan({"video": Frames(clip_times(starts, frames, fps), size, box)})

    def _numbers(self) -> tuple[int, int, float, tuple[float, float], int]:
        if None in (self.members, self.frames, self.fps, self.gap, self.size):
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        assert self.members and self.frames and self.fps and self.gap and self.size
        return self.members, self.frames, self.fps, self.gap, self.size
