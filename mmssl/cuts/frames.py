"""A way to cut a source that objectives on pictures alone share: a few consecutive frames of one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mmssl.cuts.pictures import WHOLE, draw_box, region_box, region_problem
from mmssl.types import Box, Frames, InputError, InputSpec, Plan, Source, Views


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameViews(Views):
    """`frames` pictures, evenly spaced, of one square of the picture: request `video` (T, 3, size, size).

    All pictures of a cut show the same box, so that what stands still stays on its place. The start is uniform over all that fit, the
    spacing 1 / f with f uniform in `fps`: with a range, slow and quick motion are both seen of any clip.
    """

    frames: int = 4  # T
    fps: tuple[float, float] = (6.0, 6.0)  # pictures a second, lowest and highest
    size: int | None = None  # pixels; None: what the encoder was built for
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise InputError(f"views.frames is {self.frames}; what is followed needs at least 2 frames")
        if not 0.0 < self.fps[0] <= self.fps[1]:
            raise InputError(f"views.fps is {self.fps}; give (low, high) with 0 < low <= high")
        if not 0.0 < self.crop[0] <= self.crop[1] <= 1.0:
            raise InputError(f"views.crop is {self.crop}; give (low, high) with 0 < low <= high <= 1")
        left, top, width, height = self.region
        if not (0 <= left < 1 and 0 <= top < 1 and 0 < width <= 1 - left + 1e-9 and 0 < height <= 1 - top + 1e-9):
            raise InputError(f"views.region is {self.region}; give (left, top, width, height) as shares, all of it inside")

    def resolve(self, picture: InputSpec) -> FrameViews:
        """These views with `size` filled in. Raises `InputError` where neither views nor encoder say."""
        size = self.size or picture.size
        if not size:
            raise InputError("the video encoder takes any picture size, so views.size must say which, for example 128")
        return replace(self, size=size)

    @property
    def seconds(self) -> float:
        """From the first picture to the last, at the lowest rate."""
        return (self.frames - 1) / self.fps[0]

    def reject(self, source: Source) -> str | None:
        """ "no picture", "shorter than 0.6 s" (of picture), or no size to cut a region of."""
        if source.video is None:
            return "no picture"
        if problem := region_problem(source, self.region):
            return problem
        # Not `<=`: a picture asked for at the very end of the stream would be past its last frame.
        return None if source.video.seconds > self.seconds else f"shorter than {self.seconds:.1f} s"

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the spacing, the start and the box."""
        if self.size is None or source.video is None:
            raise InputError(f"{self} cannot cut {source.id}: call resolve first, and reject sources without a picture")
        step = 1.0 / float(rng.uniform(*self.fps))
        room = source.video.seconds - (self.frames - 1) * step
        start = source.video.start + float(rng.random()) * room
        times = tuple(start + k * step for k in range(self.frames))
        return Plan({"video": Frames(times, self.size, draw_box(source, self.crop, rng, region=self.region))})
