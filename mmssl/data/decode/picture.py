"""From a decoded frame to the pixels of a request: crop, resize, turn; and colours as ffmpeg gives them.

A box is given in fractions of the picture as shown. It is rounded to whole pixels of the picture as coded, cut, resized
straight to the size asked for (so that non-square pixels cost nothing extra), and turned last, when it is small. Shrinking
halves by averages of 2 x 2 pixels as often as fits and does the rest by torch's antialiased interpolation, which has vector code for
uint8: between 1 and 2 times smaller it takes a quarter to a half of the time of OpenCV's average over areas. Growing interpolates linearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor
from torch.nn import functional

from mmssl.types import Box, Flow, Frames

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
HELD = 2**24  # bytes of frames that wait to be resized together
CACHED = 3 * 2**19  # bytes of them that are shrunk by one call: what was just copied is still in the CPU's cache


def output_size(request: Frames | Flow) -> tuple[int, int]:
    """(height, width) of a request."""
    return (request.size, request.size) if isinstance(request.size, int) else request.size


def centred_box(shown: tuple[int, int], size: tuple[int, int]) -> Box:
    """The largest centred box of the aspect of `size` (height, width) in a picture shown as (width, height)."""
    aspect = size[1] / size[0]
    width, height = shown
    if width > height * aspect:
        part = height * aspect / width
        return Box((1 - part) / 2, 0.0, part, 1.0)
    part = width / aspect / height
    return Box(0.0, (1 - part) / 2, 1.0, part)


def cut(pixels: np.ndarray, *, box: Box, size: tuple[int, int], turns: int = 0, mirrored: bool = False) -> np.ndarray:
    """Cut `box` (in fractions of the picture as shown) from coded pixels (H, W, 3) -> uint8 (*size, 3).

    Args:
        pixels: as coded, RGB.
        box: of the picture as shown.
        size: (height, width) wanted.
        turns: quarter turns counter-clockwise from coded to shown, after mirroring left and right if `mirrored`.
        mirrored: see there.
    """
    return cut_alike([pixels], box=box, size=size, turns=turns, mirrored=mirrored)[0]


def cut_alike(
    frames: Sequence[np.ndarray], *, box: Box, size: tuple[int, int], turns: int = 0, mirrored: bool = False
) -> np.ndarray:
    """`cut` of T frames (H, W, 3) of one size -> uint8 (T, *size, 3): many at once take half the time a frame that one takes."""
    left, top, right, bottom = _coded_corners(box, turns, mirrored)
    height, width = frames[0].shape[:2]
    x0, x1 = whole_pixels(left, right, width)
    y0, y1 = whole_pixels(top, bottom, height)
    out_height, out_width = size if turns % 2 == 0 else size[::-1]
    parts = _resize([frame[y0:y1, x0:x1] for frame in frames], out_height, out_width)
    if mirrored:
        parts = parts[:, :, ::-1]
    return np.rot90(parts, turns, axes=(1, 2)) if turns else parts


def _resize(parts: list[np.ndarray], height: int, width: int) -> np.ndarray:
    while parts[0].shape[0] >= 2 * height and parts[0].shape[1] >= 2 * width:
        rows, columns = parts[0].shape[0] // 2, parts[0].shape[1] // 2  # an odd last row or column is left out
        halves = (part[: 2 * rows, : 2 * columns] for part in parts)
        parts = [cv2.resize(half, (columns, rows), interpolation=cv2.INTER_AREA) for half in halves]
    if parts[0].shape[0] <= height and parts[0].shape[1] <= width and parts[0].shape[:2] != (height, width):
        parts = [cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in parts]
    if parts[0].shape[:2] == (height, width):
        return np.stack(parts)
    few = max(1, CACHED // parts[0].nbytes)
    out = np.empty((len(parts), height, width, 3), np.uint8)
    for start in range(0, len(parts), few):
        # In this order of axes torch sees that the colours of a pixel lie side by side, also of one frame, and shrinks them together.
        planes = torch.from_numpy(np.stack(parts[start : start + few])).permute(0, 3, 1, 2)
        shrunk = functional.interpolate(planes, (height, width), mode="bilinear", antialias=True)
        out[start : start + few] = shrunk.permute(0, 2, 3, 1).numpy()
    return out


def _coded_corners(box: Box, turns: int, mirrored: bool) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.left, box.top, box.left + box.width, box.top + box.height
    for _ in range(turns % 4):  # undo one counter-clockwise turn: shown (x, y) was coded (1 - y, x)
        left, top, right, bottom = 1 - bottom, left, 1 - top, right
    if mirrored:
        left, right = 1 - right, 1 - left
    return left, top, right, bottom


def whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """The pixels from `low` to `high` (fractions of `length` of them): first, and one past the last; at least one."""
    first = min(max(0, round(low * length)), length - 1)
    return first, max(first + 1, min(length, round(high * length)))


class Painter:
    """Turns frames into RGB pixels by swscale, as `ffmpeg -pix_fmt rgb24` does: matrix and range as the frame is tagged, BT.601 and
    limited range where it is not."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """Coded pixels of a frame, uint8 (H, W, 3). The array keeps the frame's memory alive."""
        painted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        plane = painted.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8)
        shape, strides = (plane.height, plane.width, 3), (plane.line_size, 3, 1)
        return np.lib.stride_tricks.as_strided(rows, shape, strides)  # writable: torch takes no other arrays


class _Manner(NamedTuple):
    """How frames are cut and resized: those of one manner go together."""

    shape: tuple[int, ...]  # of the frame
    box: Box
    turns: int
    mirrored: bool


@dataclass(slots=True)
class _Waiting:
    """Frames of one request that are cut and resized alike."""

    manner: _Manner
    places: list[int] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)


class Canvas:
    """Collects the pixels of `Frames` requests as the frames shown at their times come along, in any order.

    Frames wait until there are many to resize at once, or `HELD` bytes of them.

    Args:
        requests: whose answers are made.
    """

    def __init__(self, requests: list[Frames]) -> None:
        self._places: dict[float, list[tuple[Frames, int]]] = {}
        self._pixels: dict[Frames, np.ndarray] = {}
        self._waiting: dict[Frames, _Waiting] = {}
        for request in requests:
            self._pixels[request] = np.empty((len(request.times), *output_size(request), 3), np.uint8)
            for place, time in enumerate(request.times):
                self._places.setdefault(time, []).append((request, place))

    @property
    def times(self) -> list[float]:
        """All times that are asked for, ascending, each once."""
        return sorted(self._places)

    def draw(self, time: float, pixels: np.ndarray, *, shown: tuple[int, int], turns: int = 0, mirrored: bool = False) -> None:
        """Fill every place that asked for `time`.

        Args:
            time: one of `times`.
            pixels: uint8 (H, W, 3) as coded; must not change afterwards.
            shown: (width, height) at which the frame is displayed.
            turns: see `cut`.
            mirrored: see `cut`.
        """
        for request, place in self._places[time]:
            box = request.box or centred_box(shown, output_size(request))
            manner = _Manner(pixels.shape, box, turns, mirrored)
            if request in self._waiting and self._waiting[request].manner != manner:
                self._settle(request)
            waiting = self._waiting.setdefault(request, _Waiting(manner))
            waiting.places.append(place)
            waiting.frames.append(pixels)
            if len(waiting.frames) * pixels.nbytes >= HELD:
                self._settle(request)

    def _settle(self, request: Frames) -> None:
        waiting = self._waiting.pop(request)
        _, box, turns, mirrored = waiting.manner
        pixels = cut_alike(waiting.frames, box=box, size=output_size(request), turns=turns, mirrored=mirrored)
        self._pixels[request][waiting.places] = pixels

    def answers(self) -> dict[Frames, Tensor]:
        """uint8 (T, 3, height, width) for each request; pixels stay interleaved in memory (channels last)."""
        for request in list(self._waiting):
            self._settle(request)
        return {request: torch.from_numpy(pixels).permute(0, 3, 1, 2) for request, pixels in self._pixels.items()}
