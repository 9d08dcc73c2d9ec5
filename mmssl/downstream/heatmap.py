"""From a grid of cosines to colour on a picture: where cells lie, how heat looks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

COLOURS = "inferno"  # perceptually uniform, readable in grey and for the colour-blind
STRONGEST = 0.78  # opacity of full heat: the picture below must stay visible


class Placement:
    """Puts grid cells where they belong on a picture.

    Cell (i, j) is centred on pixel `offset + stride * (i, j)` of the picture that the encoder saw (padded strided convolutions do not
    centre on their stride: drawn as if they did, every heatmap is displaced by half a stride). Bilinear between the centres, the
    nearest cell outside of them.

    Args:
        grid: (h, w) of the maps.
        offset: of the encoder, pixels of its input.
        stride: of the encoder, pixels of its input.
        seen: (height, width) of the encoder's input.
        shown: (height, width) of the picture to draw on; it shows the same view as `seen`.
    """

    def __init__(
        self, grid: tuple[int, int], *, offset: float, stride: float, seen: tuple[int, int], shown: tuple[int, int]
    ) -> None:
        self.grid = grid
        rows, columns = (
            # pixel centres at integers: shown pixel p lies at (p + 0.5) * seen / shown - 0.5 of the encoder's input
            (((np.arange(s, dtype=np.float32) + 0.5) * e / s - 0.5 - offset) / stride).clip(0, g - 1)
            for s, e, g in zip(shown, seen, grid, strict=True)
        )
        self._x, self._y = (np.ascontiguousarray(a, dtype=np.float32) for a in np.meshgrid(columns, rows))

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(h, w) -> (shown height, shown width)."""
        if values.shape != self.grid:
            raise ValueError(f"this placement is for maps of {self.grid}, got {values.shape}")
        cells = np.asarray(values, dtype=np.float32)
        return cv2.remap(cells, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(
            np.float32, copy=False
        )


@lru_cache(maxsize=4)
def palette(name: str = COLOURS) -> NDArray[np.float32]:
    """256 RGB colours, 0 to 255. The darkest fifth is left out: it would blacken the picture instead of tinting it."""
    return (matplotlib.colormaps[name](np.linspace(0.2, 1.0, 256))[:, :3] * 255).astype(np.float32)


def overlay(picture: NDArray[np.uint8], heat: NDArray[np.float32], *, strength: float = 1.0) -> NDArray[np.uint8]:
    """Lay heat over a picture: colour and opacity by value, a thin line around the hot part (heat above one half).

    Args:
        picture: (H, W, 3) RGB.
        heat: (H, W) in [0, 1], on the scale of the whole film.
        strength: 0 to 1, fades the whole heat (when nothing in view seems to make the sound).

    Returns:
        (H, W, 3) RGB; exactly the picture where heat is 0.
    """
    if strength <= 0 or not heat.any():
        return picture.copy()
    # By 256 levels of heat: OpenCV's tables take less than a third of the time of arithmetic on every pixel.
    opacity = STRONGEST * strength * np.linspace(0.0, 1.0, 256) ** 0.8  # rises without a visible edge
    level = cv2.cvtColor(cv2.convertScaleAbs(heat, alpha=255), cv2.COLOR_GRAY2RGB)
    kept = cv2.LUT(level, np.rint(255 * (1 - opacity)).astype(np.uint8))
    tint = cv2.LUT(level, np.rint(palette() * opacity[:, None]).astype(np.uint8)[None])
    shown = np.asarray(cv2.add(cv2.multiply(picture, kept, scale=1 / 255), tint), dtype=np.uint8)
    hot, _ = cv2.findContours((heat > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if hot:
        edged = cv2.drawContours(shown.copy(), hot, -1, (255, 255, 255), max(1, round(min(heat.shape) / 360)), cv2.LINE_AA)
        shown = np.asarray(cv2.addWeighted(edged, 0.85 * strength, shown, 1 - 0.85 * strength, 0), dtype=np.uint8)
    return shown


def source_colours(count: int) -> NDArray[np.float32]:
    """(count, 3) RGB, 0 to 255: a colour for each of several sources, told apart also by most of the colour-blind (Okabe and Ito)."""
    table = [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (204, 121, 167),
        (213, 94, 0),
        (0, 114, 178),
        (220, 220, 220),
    ]
    return np.array([table[k % len(table)] for k in range(count)], dtype=np.float32)


def overlay_sources(picture: NDArray[np.uint8], heats: NDArray[np.float32], strengths: NDArray[Any]) -> NDArray[np.uint8]:
    """Lay the heat of several sources over a picture, each in its colour, a line of it around what is hot.

    Args:
        picture: (H, W, 3) RGB.
        heats: (K, H, W) in [0, 1].
        strengths: (K,) 0 to 1, how visible each source is.

    Returns:
        (H, W, 3) RGB; exactly the picture where all heats are 0.
    """
    colours = source_colours(len(heats))
    opacity = STRONGEST * np.asarray(strengths, dtype=np.float32)[:, None, None] * heats**0.8
    total = opacity.sum(axis=0)
    # Where several are hot they share the picture; together they cover no more than one.
    tint = np.einsum("khw,kc->hwc", opacity, colours) / np.maximum(total, 1e-6)[..., None]
    cover = np.minimum(total, STRONGEST)[..., None]
    shown = np.clip(picture * (1 - cover) + tint * cover + 0.5, 0, 255).astype(np.uint8)
    shown[total <= 0] = picture[total <= 0]
    for heat, colour, strength in zip(heats, colours, strengths, strict=True):
        hot, _ = cv2.findContours((heat > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if hot and strength > 0:
            width = max(1, round(min(heat.shape) / 360))
            edged = cv2.drawContours(
                shown.copy(), hot, -1, (0, 0, 0), 3 * width, cv2.LINE_AA
            )  # a rim: blue on blue would be lost
            edged = cv2.drawContours(edged, hot, -1, tuple(float(c) for c in colour), width, cv2.LINE_AA)
            share = 0.85 * float(strength)
            shown = np.asarray(cv2.addWeighted(edged, share, shown, 1 - share, 0), dtype=np.uint8)
    return shown
