"""How much a picture moves over time: the profile `Source.motion`, measured while a file is probed.

Frames come in presentation order; only those shown at every `MOTION_STEP`-th moment are looked at, grey and shrunk.
"""

from __future__ import annotations

import math

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from mmssl.types import MOTION_HOP, MOTION_STEP

SHORT_SIDE = 64  # pixels; smaller pictures are taken as they are
STEPS = round(MOTION_HOP / MOTION_STEP)  # differences that make one value


class MotionMeter:
    """Mean absolute change of brightness (0 to 255) between pictures `MOTION_STEP` apart, for each `MOTION_HOP` seconds from time 0.

    The picture at a moment is the last one stamped at or before it, as everywhere. Before the first picture the first one counts.
    """

    def __init__(self) -> None:
        self._shrink = VideoReformatter()
        self._size: tuple[int, int] | None = None  # (width, height) of what is compared; of the first picture throughout
        self._shown: VideoFrame | None = None
        self._at = -math.inf
        self._moments = 0  # how many have their picture
        self._grey: np.ndarray | None = None  # the picture of the last of them
        self._changes: list[float] = []  # from each moment to the next

    def add(self, time: float, frame: VideoFrame, rounding: float) -> None:
        """Take the next frame, shown from `time` (seconds) on; one that steps back in time is left out."""
        if time < self._at:
            return
        self._show_until(time - rounding)
        self._shown, self._at = frame, time

    def levels(self, end: float) -> list[float]:
        """One value for each hop up to `end`, the picture's own, to two decimals; 0 where no two pictures lie before it."""
        self._show_until(end)
        changes = self._changes[: max(0, math.ceil(end / MOTION_STEP - 1e-6) - 1)]
        hops = math.ceil(end / MOTION_HOP - 1e-6)
        parts = [changes[STEPS * hop : STEPS * (hop + 1)] for hop in range(hops)]
        return [round(sum(part) / len(part), 2) if part else 0.0 for part in parts]

    def _show_until(self, time: float) -> None:
        """Give the picture in hand to all moments before `time`."""
        last = math.ceil(time / MOTION_STEP - 1e-9)  # the first moment that is not its own
        if self._shown is None or last <= self._moments:
            return
        grey = self._look(self._shown)
        if self._grey is not None:
            self._changes.append(float(np.abs(grey - self._grey).mean()))
        self._changes += [0.0] * (last - self._moments - 1)  # the same picture, still shown
        self._grey, self._moments = grey, last

    def _look(self, frame: VideoFrame) -> np.ndarray:
        if self._size is None:
            factor = min(1.0, SHORT_SIDE / min(frame.width, frame.height))
            self._size = max(1, round(frame.width * factor)), max(1, round(frame.height * factor))
        small = self._shrink.reformat(frame, width=self._size[0], height=self._size[1], format="gray", interpolation="AREA")
        return small.to_ndarray().astype(np.float32)
