"""Masks drawn on pictures: each object filled with a colour of its own, the truth as a line."""

from __future__ import annotations

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
COLOURS = "tab10"  # ten that are told apart, also by most of the colour-blind


def paint(picture: NDArray[np.uint8], found: NDArray[np.uint8], true: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Fill each object of `found` (H, W) with its colour over `picture` (H, W, 3); a white line around those of `true`."""
    shown = picture.copy()
    table = (matplotlib.colormaps[COLOURS](np.arange(10))[:, :3] * 255).astype(np.float32)
    inside = (found != 0) & (found != VOID)
    colour = table[(found[inside].astype(int) - 1) % 10]
    shown[inside] = ((1 - OPACITY) * picture[inside] + OPACITY * colour + 0.5).astype(np.uint8)
    if true is not None:
        for number in np.unique(true[(true != 0) & (true != VOID)]):
            lines, _ = cv2.findContours((true == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            shown = np.asarray(
                cv2.drawContours(shown, lines, -1, (255, 255, 255), max(1, min(true.shape) // 360)), dtype=np.uint8
            )
    return shown


def mask_film(path: Path, video: MaskedVideo, found: NDArray[np.uint8]) -> None:
    """Write a film (H.264) of a sequence with the masks found (T, H, W) filled in and the true ones outlined."""
    height, width = (side - side % 2 for side in found.shape[1:])

    def fill(part: Path) -> None:
        with FilmWriter(part, size=(height, width), fps=video.fps) as film:
            for number, (picture, mask, true) in enumerate(zip(video.play(), found, video.masks, strict=True)):
                film.write(number / video.fps, np.ascontiguousarray(paint(picture, mask, true)[:height, :width]))

    make_aside(path, fill)
