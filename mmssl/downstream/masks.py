"""What is tracked, drawn on pictures: each object filled with a colour of its own, boxes and keypoints in the same colours, the truth as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.metrics.segmentation import VOID
from mmssl.downstream.render import FilmWriter
from mmssl.downstream.tracking_data import MaskedVideo
from mmssl.files import make_aside

OPACITY = 0.5
DOUBT = 0.1  # labels blur from frame to frame: points that are well followed for seconds stay above it
COLOURS = "tab10"  # ten that are told apart, also by most of the colour-blind


def paint(
    picture: NDArray[np.uint8], found: NDArray[np.uint8], true: NDArray[np.uint8] | None = None, *, edges: bool = False
) -> NDArray[np.uint8]:
    """Fill each object of `found` (H, W) with its colour over `picture` (H, W, 3), with `edges` also a line of it around; a white line around those of `true`."""
    shown = picture.copy()
    table = colours()
    inside = (found != 0) & (found != VOID)
    colour = table[(found[inside].astype(int) - 1) % 10]
    shown[inside] = ((1 - OPACITY) * picture[inside] + OPACITY * colour + 0.5).astype(np.uint8)
    if edges:
        for number in np.unique(found[inside]):
            _outline(shown, found == number, tuple(map(int, table[(int(number) - 1) % 10])), _thickness(shown))
    if true is not None:
        for number in np.unique(true[(true != 0) & (true != VOID)]):
            _outline(shown, true == number, (255, 255, 255), max(1, min(true.shape) // 360))
    return shown


def colours() -> NDArray[np.float32]:
    """(10, 3) RGB, 0 to 255; object k has the colour (k - 1) mod 10."""
    return (matplotlib.colormaps[COLOURS](np.arange(10))[:, :3] * 255).astype(np.float32)


def paint_boxes(picture: NDArray[np.uint8], boxes: Mapping[int, Sequence[float] | None]) -> NDArray[np.uint8]:
    """A frame around the box (x, y, width, height) of each object, with the object's number where there are several."""
    shown, thick = picture.copy(), _thickness(picture)
    for number, box in boxes.items():
        if box is None:
            continue
        x, y, width, height = (round(value) for value in box)
        colour = tuple(map(int, colours()[(number - 1) % 10]))
        cv2.rectangle(shown, (x, y), (x + width - 1, y + height - 1), colour, thick)
        if len(boxes) > 1:
            _write(shown, str(number), (x + 2 * thick, y + 10 * thick), colour)
    return shown


def paint_points(
    picture: NDArray[np.uint8], points: NDArray[np.float64], confidence: NDArray[np.float64], names: Sequence[str]
) -> NDArray[np.uint8]:
    """A disc for each keypoint (K, 2) with its name, a ring where the confidence (K,) is below `DOUBT`; nothing where one is lost (NaN)."""
    shown, thick = picture.copy(), _thickness(picture)
    for number, (point, sure, name) in enumerate(zip(points, confidence, names, strict=True)):
        if np.isnan(point).any():
            continue
        centre = (round(point[0]), round(point[1]))
        colour = tuple(map(int, colours()[number % 10]))
        cv2.circle(shown, centre, 4 * thick, (255, 255, 255), thick, cv2.LINE_AA)
        cv2.circle(shown, centre, 3 * thick, colour, -1 if sure >= DOUBT else thick, cv2.LINE_AA)
        _write(shown, name, (centre[0] + 6 * thick, centre[1] + 3 * thick), colour)
    return shown


def _outline(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, ...], thick: int) -> None:
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, lines, -1, colour, thick)


def _thickness(picture: NDArray[np.uint8]) -> int:
    return max(1, round(min(picture.shape[:2]) / 240))


def _write(picture: NDArray[np.uint8], text: str, where: tuple[int, int], colour: tuple[int, ...]) -> None:
    thick = _thickness(picture)
    for rim, ink in ((3 * thick, (255, 255, 255)), (thick, colour)):
        cv2.putText(picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.35 * thick, ink, rim, cv2.LINE_AA)


def mask_film(path: Path, video: MaskedVideo, found: NDArray[np.uint8]) -> None:
    """Write a film (H.264) of a sequence with the masks found (T, H, W) filled in and the true ones outlined."""
    height, width = (side - side % 2 for side in found.shape[1:])

    def fill(part: Path) -> None:
        with FilmWriter(part, size=(height, width), fps=video.fps) as film:
            for number, (picture, mask, true) in enumerate(zip(video.play(), found, video.masks, strict=True)):
                film.write(number / video.fps, np.ascontiguousarray(paint(picture, mask, true)[:height, :width]))

    make_aside(path, fill)
