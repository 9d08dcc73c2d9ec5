"""Ways to cut a clip for objectives that look ahead: evenly spaced pictures, in blocks, or parted into past and future.

Two leaks are closed here, by construction. All pictures of a clip are cut from one box, or a crop that wanders would tell its time. And the
spacing is a whole number of the source's own pictures, each asked for well inside the time that it is shown: at 10 fps a source of 25 fps
would step by 2, 3, 2, 3, ... pictures, a rhythm that goes on into the future and marks which of the later moments is which. (A source of
variable rate keeps some of it: `Source.fps` is its average.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mmssl.cuts.pictures import WHOLE, check, check_crop, check_region, draw_box, fill_size, region_box, region_problem
from mmssl.types import Box, Frames, InputError, InputSpec, Modality, Plan, Source, Views

INSIDE = (
    0.25,
    0.75,
)  # where in a picture's own time it is asked for: far from both neighbours, whatever time stamps are rounded to


def frame_step(source: Source, fps: float) -> int:
    """Pictures of the source from one picture of a cut to the next: the whole number nearest to `fps`, at least 1."""
    return max(1, round(source.fps / fps))


def pictures_in(source: Source) -> int:
    """How many pictures the source has; 0 where it has none."""
    return 0 if source.video is None else math.floor(source.video.seconds * source.fps + 1e-3)


def grid_times(source: Source, count: int, fps: float, rng: np.random.Generator) -> tuple[float, ...]:
    """`count` moments `frame_step` pictures apart, in seconds; all starts are equally likely. The source must be long enough."""
    assert source.video is not None
    step = frame_step(source, fps)
    first = int(rng.integers(max(1, pictures_in(source) - (count - 1) * step)))
    phase = rng.uniform(*INSIDE)
    return tuple(source.video.start + (first + step * k + phase) / source.fps for k in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionViews(Views):
    """Pictures of which the first are the past and the last `future` the future. Request `video` (past + future, 3, size, size).

    None in `past`, `fps`, `size` stands for what the encoder was built for (`resolve`).
    """

    past: int | None = None  # pictures that the encoder sees; 4 where it takes any number, or one at a time
    future: int = 4  # pictures to predict
    fps: float | None = None  # nearest whole step of the source's pictures; 12.5 where the encoder takes any
    size: int | None = None  # pixels
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        _check_cut(self.fps, self.crop, self.region)
        check(self.past is None or self.past >= 1, f"views.past is {self.past}; at least one picture is needed")
        check(self.future >= 1, f"views.future is {self.future}; at least one picture must be predicted")

    def resolve(self, picture: InputSpec, modality: Modality) -> PredictionViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoder say the size."""
        return replace(
            self,
            past=self.past or (picture.frames if modality == "video" else 0) or 4,
            fps=self.fps or picture.fps or 12.5,
            size=fill_size(self.size, picture),
        )

    def reject(self, source: Source) -> str | None:
        """ "no picture", "frame rate unknown", "fewer than 16 pictures" (at the source's rate), or no size to cut a region of."""
        past, fps, _ = self._numbers()
        return _unusable(source, past + self.future, fps, self.region)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the moment and the crop, one for all pictures."""
        past, fps, size = self._numbers()
        times = grid_times(source, past + self.future, fps, rng)
        return Plan({"video": Frames(times, size, draw_box(source, self.crop, rng, region=self.region))})

    def _numbers(self) -> tuple[int, float, int]:
        if self.past is None or self.fps is None or self.size is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        return self.past, self.fps, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockViews(Views):
    """Consecutive blocks of pictures, all evenly spaced. Request `video` (blocks * frames, 3, size, size).

    None in `frames`, `fps`, `size` stands for what the encoder was built for (`resolve`).
    """

    blocks: int = 8  # of which the objective predicts the last ones
    frames: int | None = (
        None  # pictures in a block; 1 for an encoder of single pictures, 4 for one of clips that takes any number
    )
    fps: float | None = (
        None  # nearest whole step of the source's pictures; where the encoder takes any: 12.5, or 4 of single pictures
    )
    size: int | None = None  # pixels
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        _check_cut(self.fps, self.crop, self.region)
        check(self.blocks >= 2, f"views.blocks is {self.blocks}; one block to see and one to predict make at least 2")
        check(self.frames is None or self.frames >= 1, f"views.frames is {self.frames}; a block holds at least one picture")

    def resolve(self, picture: InputSpec, modality: Modality) -> BlockViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoder say the size."""
        frames = self.frames or picture.frames or (4 if modality == "video" else 1)
        fps = self.fps or picture.fps or (12.5 if frames > 1 else 4.0)
        return replace(self, frames=frames, fps=fps, size=fill_size(self.size, picture))

    def reject(self, source: Source) -> str | None:
        """ "no picture", "frame rate unknown", "fewer than 80 pictures" (at the source's rate), or no size to cut a region of."""
        frames, fps, _ = self._numbers()
        return _unusable(source, self.blocks * frames, fps, self.region)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the moment and the crop, one for all pictures of all blocks."""
        frames, fps, size = self._numbers()
        times = grid_times(source, self.blocks * frames, fps, rng)
        return Plan({"video": Frames(times, size, draw_box(source, self.crop, rng, region=self.region))})

    def _numbers(self) -> tuple[int, float, int]:
        if self.frames is None or self.fps is None or self.size is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        return self.frames, self.fps, self.size


def _unusable(source: Source, count: int, fps: float, region: tuple[float, float, float, float]) -> str | None:
    if not source.has_video:
        return "no picture"
    if source.fps <= 0:
        return "frame rate unknown"
    if problem := region_problem(source, region):
        return problem
    needed = (count - 1) * frame_step(source, fps) + 1
    return None if pictures_in(source) >= needed else f"fewer than {needed} pictures"


def _check_cut(fps: float | None, crop: tuple[float, float], region: tuple[float, float, float, float]) -> None:
    check_region(region)
    check_crop(crop)
    check(fps is None or fps > 0, f"views.fps is {fps}; give pictures a second, above 0, or leave it out")
