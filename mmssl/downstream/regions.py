"""From a map to what can be written down: its maximum and the boxes around its hot regions, in pixels of the film."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.heatmap import Placement
from mmssl.encoders.base import Encoder

HOT = 0.5  # heat from which a region counts: the line that is drawn around it in the film
FINEST = 320  # pixels of the longer side at which regions are told; cells are far larger


class Maximum(NamedTuple):
    """Where a map is highest; pixels of the film as displayed, the centre of the top left one is (0, 0)."""

    x: float
    y: float
    cosine: float


class Region(NamedTuple):
    """A box around a connected hot region, in pixels of the film as displayed; `cosine` is the highest in it."""

    left: float
    top: float
    width: float
    height: float
    cosine: float


class Reader:
    """Reads maps of one film.

    Args:
        encoder: of the pictures.
        grid: (h, w) of the maps.
        seen: (height, width) of the encoder's input.
        film: (height, width) of the film as displayed.
    """

    def __init__(self, encoder: Encoder, grid: tuple[int, int], *, seen: tuple[int, int], film: tuple[int, int]) -> None:
        self._encoder, self._seen, self._film = encoder, seen, film
        scale = min(1.0, FINEST / max(film))
        self._size = (max(1, round(film[0] * scale)), max(1, round(film[1] * scale)))
        self._place = Placement(grid, offset=encoder.grid_offset, stride=encoder.grid_stride, seen=seen, shown=self._size)

    def maximum(self, cosines: NDArray[Any]) -> Maximum:
        """The highest cell of a map (h, w): its centre."""
        cell = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
        y, x = (
            # pixel centres at integers, as in `Placement`
            float(np.clip((self._encoder.grid_offset + self._encoder.grid_stride * int(i) + 0.5) * f / s - 0.5, 0, f - 1))
            for i, f, s in zip(cell, self._film, self._seen, strict=True)
        )
        return Maximum(x, y, float(cosines[cell]))

    def regions(self, cosines: NDArray[Any], threshold: float) -> list[Region]:
        """Boxes of the connected regions of a map (h, w) at or above `threshold`, the hottest first."""
        values = self._place(cosines)
        hot = (values >= threshold).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
        up, along = self._film[0] / self._size[0], self._film[1] / self._size[1]
        found = []
        for number in range(1, count):  # 0 is the rest
            left, top, width, height = (int(v) for v in stats[number][:4])
            part = values[top : top + height, left : left + width]
            peak = float(part[labels[top : top + height, left : left + width] == number].max())
            found.append(Region(left * along, top * up, width * along, height * up, peak))
        return sorted(found, key=lambda region: -region.cosine)
