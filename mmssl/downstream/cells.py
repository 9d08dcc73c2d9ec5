"""Between pixels and the cells of an encoder's grid: masks and points become labels of cells, labels of cells become masks and points again.

h x w cells, L labels, K keypoints, H x W pixels. Points are (x, y), pixel centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmssl.downstream.heatmap import Placement

Mask = NDArray[np.uint8]  # (H, W): 0 background, k object k
Points = NDArray[np.float64]  # (K, 2)
Rule = Literal["peak", "strongest"]

SIGMA = 0.5  # cells: of the heat around a keypoint, as in the published evaluations on JHMDB
REACH = 2.0  # cells: beyond it that heat is 0
STRONGEST = 3  # cells that the published evaluations on JHMDB average


@dataclass(frozen=True, slots=True)
class Cells:
    """Where the cells of a grid lie: cell (i, j) is centred on pixel `offset + stride * (i, j)` of the picture that the encoder saw, which shows the whole picture."""

    grid: tuple[int, int]  # h, w
    offset: float  # pixels of the encoder's input
    stride: float
    seen: tuple[int, int]  # (height, width) of the encoder's input
    shown: tuple[int, int]  # (height, width) of the picture itself

    def placement(self) -> Placement:
        """What spreads values of cells over the picture."""
        return Placement(self.grid, offset=self.offset, stride=self.stride, seen=self.seen, shown=self.shown)

    def of_points(self, points: Points) -> Points:
        """Pixels of the picture (K, 2) -> places in the grid (K, 2), cell centres at integers, x before y."""
        return ((np.asarray(points, dtype=np.float64) + 0.5) * self._scale() - 0.5 - self.offset) / self.stride

    def to_points(self, places: Points) -> Points:
        """Places in the grid (K, 2) -> pixels of the picture."""
        return (places * self.stride + self.offset + 0.5) / self._scale() - 0.5

    def _scale(self) -> NDArray[np.float64]:
        return np.array([self.seen[1] / self.shown[1], self.seen[0] / self.shown[0]])


def cell_shares(mask: Mask, objects: NDArray[np.uint8], cells: Cells) -> NDArray[np.float32]:
    """Share of each of `objects` in each cell, (L, h, w): the mean over the square of one stride around the cell's own centre."""
    rows, columns = (cells.offset + cells.stride * np.arange(extent, dtype=np.float32) for extent in cells.grid)
    x, y = np.meshgrid(columns, rows)
    side = max(1, round(cells.stride))
    shares = []
    for number in objects:
        one = cv2.resize((mask == number).astype(np.float32), cells.seen[::-1], interpolation=cv2.INTER_AREA)
        # An even box has no middle pixel: OpenCV's anchor lies half a pixel after it.
        mean = cv2.blur(one, (side, side), borderType=cv2.BORDER_REPLICATE)
        shift = np.float32(0.0 if side % 2 else 0.5)
        shares.append(cv2.remap(mean, x + shift, y + shift, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    labels = np.stack(shares)
    return (labels / labels.sum(axis=0, keepdims=True)).astype(np.float32)


def full_size(labels: Tensor, objects: NDArray[np.uint8], placement: Placement) -> Mask:
    """The most probable object of each pixel, (H, W), from shares in cells (L, h, w)."""
    values = labels.float().cpu().numpy()
    return objects[np.stack([placement(value) for value in values]).argmax(axis=0)].astype(np.uint8)


def point_heat(points: Points, cells: Cells) -> NDArray[np.float32]:
    """Heat of each keypoint in the cells, (K, h, w): a Gaussian of `SIGMA` cells around it, at most 1; what lies outside is put on the border, NaN gives no heat."""
    x, y = np.clip(cells.of_points(points), 0, (cells.grid[1] - 1, cells.grid[0] - 1)).T[:, :, None]  # each (K, 1)
    along, down = np.abs(np.arange(cells.grid[1]) - x), np.abs(np.arange(cells.grid[0]) - y)
    columns, rows = (np.where(far <= REACH, np.exp(-(far**2) / (2 * SIGMA**2)), 0.0) for far in (along, down))
    return (rows[:, :, None] * columns[:, None, :]).astype(np.float32)


def hottest(heat: Tensor, rule: Rule = "peak") -> tuple[Points, NDArray[np.float64]]:
    """Where the heat of each keypoint (K, h, w) is: places in the grid (K, 2), and the heat of its hottest cell (K,).

    "peak": the hottest cell and its eight neighbours, averaged by their heat, so that a second hot spot elsewhere pulls nothing. "strongest": the three hottest
    cells wherever they are, averaged likewise, as the published evaluations on JHMDB do. A keypoint without any heat lies nowhere: NaN.
    """
    values = heat.double().cpu().numpy()
    count, height, width = values.shape
    flat = values.reshape(count, -1)
    weights = np.zeros_like(flat)
    best = flat.argmax(axis=1)
    if rule == "strongest":
        which = np.argsort(-flat, axis=1, kind="stable")[:, :STRONGEST]
        np.put_along_axis(weights, which, np.take_along_axis(flat, which, axis=1), axis=1)
    else:
        y, x = np.mgrid[:height, :width].reshape(2, 1, -1)
        near = (np.abs(y - best[:, None] // width) <= 1) & (np.abs(x - best[:, None] % width) <= 1)
        weights[near] = flat[near]
    total = weights.sum(axis=1)
    share = weights / np.where(total > 0, total, np.nan)[:, None]
    rows, columns = np.divmod(np.arange(height * width), width)
    return np.stack([share @ columns, share @ rows], axis=1), np.take_along_axis(flat, best[:, None], axis=1)[:, 0]
