"""Carrying labels through a video by an encoder's features: each cell takes its label from the cells that look like it in frames before.

Label propagation as in Jabri, Owens and Efros, NeurIPS 2020 (arXiv:2006.14613, section 4.1), after Vondrick et al., ECCV 2018: a cell of the new frame looks
among the cells of the first frame, whose labels are given, and of the last `context` frames, whose labels were found, at most `radius` cells away, takes the
`top_k` of the highest cosine, and mixes their labels by a softmax at `temperature`. Features are the encoder's own, without any head. Memory
holds `context` + 1 frames, however long the video is. Jabri et al.'s published code restricts the reach in the latest frames only: `whole_first`.

h x w cells of the grid, D features, L labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.types import InputError

TILE = 8  # rows and columns of cells that are looked up together: they share most of their neighbourhood


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """How labels are propagated. Defaults are those of the contrastive random walk's evaluation on DAVIS.

    Raises `InputError` for a value out of range.
    """

    top_k: int = 10
    radius: float | None = 12.0  # cells, Euclidean; None: the whole picture
    context: int = 20  # latest frames, beside the first one
    temperature: float = 0.05
    whole_first: bool = False  # of the first frame, cells at any distance

    def __post_init__(self) -> None:
        reaches = self.radius is None or self.radius >= 0
        if self.top_k < 1 or self.context < 0 or not self.temperature > 0 or not reaches:
            raise InputError(
                f"{self}: give top_k >= 1, context >= 0, temperature > 0 and radius >= 0 (or None for the whole picture)"
            )


def propagate(features: Iterable[Tensor], first: Tensor, settings: Propagation = Propagation()) -> Iterator[Tensor]:
    """Labels of each frame's cells, the first frame's as given.

    Args:
        features: for each frame (h, w, D), on one device.
        first: labels of the first frame (L, h, w): shares of objects, heat of keypoints, any amounts that mix.
        settings: see `Propagation`.

    Yields:
        (L, h, w) for each frame, on the features' device.

    Raises:
        ValueError: a grid changes its size, or differs from `first`'s.
    """
    kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.context)
    given: tuple[Tensor, Tensor] | None = None
    for number, grid in enumerate(features):
        if tuple(grid.shape[:2]) != tuple(first.shape[1:]):
            raise ValueError(
                f"frame {number} has a grid of {tuple(grid.shape[:2])}, the first labels are {tuple(first.shape[1:])}"
            )
        grid = F.normalize(grid.float(), dim=-1)
        if given is None:
            given = (grid, first.to(grid))
            yield given[1]
            continue
        found = look_up(grid, [given, *kept], settings)
        kept.append((grid, found))
        yield found


def look_up(grid: Tensor, known: list[tuple[Tensor, Tensor]], settings: Propagation) -> Tensor:
    """Labels (L, h, w) of one frame of unit-length features (h, w, D) from frames whose labels are known.

    Args:
        grid: the new frame's.
        known: features (h, w, D) and labels (L, h, w) of each known frame.
        settings: see `Propagation`.
    """
    height, width = grid.shape[:2]
    keys = torch.stack([key for key, _ in known])  # (C, h, w, D)
    labels = torch.stack([label for _, label in known])  # (C, L, h, w)
    found = torch.zeros_like(labels[0])
    room = keys.new_empty(0)  # for what a tile reaches: taken once, not anew for each tile
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            rows, columns = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
            found[:, rows, columns] = _look_up_tile(grid, keys, labels, rows, columns, settings, room)
    return found


def _look_up_tile(
    grid: Tensor, keys: Tensor, labels: Tensor, rows: slice, columns: slice, settings: Propagation, room: Tensor
) -> Tensor:
    asking = grid[rows, columns].flatten(0, 1)  # (tile, D)
    whole = 1 if settings.whole_first and settings.radius is not None else 0
    cosines, told = _in_reach(asking, keys[whole:], labels[whole:], rows, columns, settings.radius, room)
    if whole:
        cosines = torch.cat([asking @ keys[0].flatten(0, 1).T, cosines], dim=1)
        told = torch.cat([labels[0].flatten(1), told], dim=1)
    best, where = cosines.topk(min(settings.top_k, cosines.shape[1]), dim=1)
    weights = (best / settings.temperature).softmax(dim=1)  # of what is too far: 0, each cell has at least itself in reach
    mixed = (told[:, where] * weights).sum(dim=2)  # (L, tile)
    return mixed.unflatten(1, (rows.stop - rows.start, columns.stop - columns.start))


def _in_reach(
    asking: Tensor, keys: Tensor, labels: Tensor, rows: slice, columns: slice, radius: float | None, room: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosines (tile, N) of a tile's cells with all that any of them reaches, -inf where one is too far, and the labels there (L, N)."""
    near_rows, near_columns = (
        _reach(part, extent, radius) for part, extent in zip((rows, columns), keys.shape[1:3], strict=True)
    )
    around = keys[:, near_rows, near_columns]  # (C, r, c, D)
    if not around.is_contiguous():
        if room.numel() < around.numel():
            room.resize_(around.numel())
        around = room[: around.numel()].view(around.shape).copy_(around)
    cosines = asking @ around.flatten(0, 2).T  # (tile, C r c)
    if radius is not None:
        far = _too_far(rows, columns, near_rows, near_columns, radius, asking.device)
        shut = torch.zeros(far.shape, device=far.device).masked_fill(far, -torch.inf)
        cosines.unflatten(1, (len(keys), far.shape[1])).add_(shut[:, None])
    return cosines, labels[:, :, near_rows, near_columns].transpose(0, 1).flatten(1)


def _reach(part: slice, extent: int, radius: float | None) -> slice:
    if radius is None:
        return slice(0, extent)
    return slice(max(0, part.start - int(radius)), min(extent, part.stop + int(radius)))


def _too_far(rows: slice, columns: slice, near_rows: slice, near_columns: slice, radius: float, device: torch.device) -> Tensor:
    """(cells of the tile, cells in reach of any of them) bool."""

    def apart(part: slice, near: slice) -> Tensor:
        here, there = (torch.arange(s.start, s.stop, device=device) for s in (part, near))
        return (here[:, None] - there).square()

    square = apart(rows, near_rows)[:, None, :, None] + apart(columns, near_columns)[None, :, None, :]
    return (square > radius * radius).flatten(2).flatten(0, 1)
