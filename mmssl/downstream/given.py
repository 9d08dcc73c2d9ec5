"""What is to be followed, as users give it: a mask of the first frame, boxes, or keypoints; checked before anything runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mmssl.downstream.cells import Mask, Points
from mmssl.types import InputError

MOST = 64  # objects or keypoints
VOID = 255  # in a palette: pixels that belong to nothing

Size = tuple[int, int]  # height, width of the frames


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects by their masks; those of boxes are the boxes filled."""

    mask: Mask
    kind: Literal["mask", "box"]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The objects, ascending."""
        return tuple(int(number) for number in np.unique(self.mask) if number)


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Points by name."""

    names: tuple[str, ...]
    points: Points  # (K, 2) pixels, x before y


Given = Objects | Keypoints


def read_given(size: Size, *, mask: Path | None = None, boxes: Sequence[str] = (), points: Path | None = None) -> Given:
    """What exactly one of the three says.

    Raises:
        InputError: none or several are given, or what is given does not fit frames of `size`.
    """
    there = [name for name, value in (("--mask", mask), ("--box", boxes), ("--points", points)) if value]
    if len(there) != 1:
        said = f"{' and '.join(there)} are given" if there else "nothing says what to follow"
        raise InputError(
            f"{said}; give one of --mask FIRST.png, --box x,y,w,h (as often as there are objects) and --points FILE.json"
        )
    if mask is not None:
        return Objects(read_mask(mask, size), "mask")
    if points is not None:
        return read_points(points, size)
    return Objects(fill_boxes(boxes, size), "box")


def read_mask(path: Path, size: Size) -> Mask:
    """Objects from a picture: palette indices, or grey levels. 0 is the background, k object k; one grey level alone is one object, whatever its level.

    255 in a palette is void, as in DAVIS, and becomes background.

    Raises:
        InputError: no picture, another size than `size`, colours, no object, or too many to be a mask.
    """
    values = _levels(path, size)
    found = [int(value) for value in np.unique(values) if value]
    if not found:
        raise InputError(
            f"{path} is empty: all its pixels are 0, the background; paint each object with a value of its own, from 1 on"
        )
    if len(found) > MOST:
        raise InputError(
            f"{path} has {len(found)} different values, {MOST} objects is the most; is it a photo, or a mask with soft or JPEG-damaged edges? "
            f"Save it as PNG with one value an object and hard edges"
        )
    if found[-1] >= VOID:
        raise InputError(
            f"{path} has the value {found[-1]} beside others; objects are numbered 1 to {VOID - 1}, and {VOID} means an object only where it is alone"
        )
    return values.astype(np.uint8)


def _levels(path: Path, size: Size) -> NDArray[np.int64]:
    """The values of a mask; void is background, and one grey level alone is 1."""
    if not path.is_file():
        raise InputError(f"there is no mask {path}")
    try:
        with Image.open(path) as file:
            if file.size != size[::-1]:  # known before any pixel is decoded
                raise InputError(
                    f"{path} is {file.width} x {file.height} pixels, the frames are {size[1]} x {size[0]}; "
                    f"draw the mask on a frame as it is, or resize it without mixing its values (nearest neighbour)"
                )
            palette = file.mode == "P"
            values = np.asarray(file if palette or file.mode in ("L", "1", "I", "I;16") else file.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # as Pillow refuses what is none, or damaged
        raise InputError(f"{path} is no picture that can be read ({error}); give a palette or grey PNG") from error
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise InputError(
                f"{path} is a picture in colours; a mask is a palette or grey PNG whose values are the numbers of objects, 0 for the background"
            )
        values = values[..., 0]
    values = values.astype(np.int64)
    if palette:
        values[values == VOID] = 0
        return values
    levels = np.unique(values[values > 0])
    return (values > 0).astype(np.int64) if len(levels) == 1 else values


def fill_boxes(boxes: Sequence[str], size: Size) -> Mask:
    """The k-th box "x,y,w,h", in pixels of the frame, filled with k; later ones lie over earlier ones.

    Raises:
        InputError: a box is not of that form, is empty or leaves the picture, or later boxes cover one wholly.
    """
    if len(boxes) > MOST:
        raise InputError(f"{len(boxes)} boxes are given, {MOST} is the most")
    mask = np.zeros(size, dtype=np.uint8)
    for number, text in enumerate(boxes, start=1):
        x, y, width, height = _four(text)
        if width < 1 or height < 1 or x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
            raise InputError(
                f"--box {text} does not lie in the frame, which is {size[1]} x {size[0]} pixels; give x,y of its upper left corner, then width and height"
            )
        left, top, right, bottom = (round(edge) for edge in (x, y, x + width, y + height))
        mask[top:bottom, left:right] = number
    hidden = sorted(set(range(1, len(boxes) + 1)) - set(np.unique(mask).tolist()))
    if hidden:
        raise InputError(f"--box {boxes[hidden[0] - 1]} lies wholly under later boxes; give the smaller one last")
    return mask


def _four(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--box is {text!r}; give four numbers of pixels, x,y,w,h, such as 120,80,60,40") from error
    if not all(math.isfinite(value) for value in (x, y, width, height)):
        raise InputError(f"--box is {text!r}; give four finite numbers of pixels")
    return x, y, width, height


def read_points(path: Path, size: Size) -> Keypoints:
    """Keypoints from JSON: {"name": [x, y], ...}, in pixels of the frame.

    Raises:
        InputError: no such file, another form, or a point outside of the picture.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    form = 'give {"name": [x, y], ...} in pixels of the frame'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); {form}") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no keypoints; {form}")
    if len(content) > MOST:
        raise InputError(f"{path} has {len(content)} keypoints, {MOST} is the most")
    for name, point in content.items():
        if not isinstance(point, list) or len(point) != 2 or not all(type(value) in (int, float) for value in point):
            raise InputError(f"{path}: {name} is {json.dumps(point)}; {form}")
        if not (0 <= point[0] <= size[1] - 1 and 0 <= point[1] <= size[0] - 1):
            raise InputError(f"{path}: {name} at {point} lies outside of the frame, which is {size[1]} x {size[0]} pixels")
    return Keypoints(tuple(content), np.array(list(content.values()), dtype=np.float64))
