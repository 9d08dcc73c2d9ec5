"""Two textured squares that move before a wall, and an encoder that sees the pixels of each 4 x 4 square: what is followed is exactly known."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.types import Features, InputSpec


class Patches(Encoder):
    """The pixels of each 4 x 4 square; `offset` says where else the cells claim to be centred."""

    modality = "frame"

    def __init__(self, offset: float = 1.5) -> None:
        super().__init__(dim=48, spec=InputSpec(), arguments={})
        self.grid_stride, self.grid_offset = 4.0, offset
        self.anchor = nn.Parameter(torch.zeros(1))
        self.least = 4
        self.seen: list[Tensor] = []  # the first input

    def forward(self, x, valid=None):
        if not self.seen:
            self.seen.append(x.clone())
        x = x.float() / (255 if x.dtype == torch.uint8 else 1) - 0.5
        grid = F.unfold(x.flatten(0, 1), 4, stride=4).unflatten(2, (x.shape[3] // 4, x.shape[4] // 4))
        grid = grid.permute(0, 2, 3, 1).unflatten(0, x.shape[:2]) + self.anchor
        return Features(grid.mean((1, 2, 3)), grid)


def film(
    frames: int = 8, step: int = 4, size=(64, 96), noise: float = 6.0, tiled: bool = True
) -> tuple[list[np.ndarray], np.ndarray]:
    """Two textured squares, one going right and one down by a cell a frame, before a wall; and their masks (T, H, W).

    The wall is `tiled`, alike in all cells, so that what comes into sight from behind a thing has been seen elsewhere.
    """
    rng = np.random.default_rng(1)
    blocks = np.tile(rng.integers(60, 200, (2, 2, 3)), (size[0] // 4, size[1] // 4, 1))
    blocks = blocks if tiled else rng.integers(60, 200, (size[0] // 2, size[1] // 2, 3))
    wall = np.kron(blocks, np.ones((2, 2, 1)))[: size[0], : size[1]]
    wall = np.pad(wall, ((0, size[0] - wall.shape[0]), (0, size[1] - wall.shape[1]), (0, 0)), mode="edge")
    things = [np.kron(rng.integers(0, 256, (10, 10, 3)), np.ones((2, 2, 1))) for _ in range(2)]
    pictures, masks = [], np.zeros((frames, *size), dtype=np.uint8)
    for t in range(frames):
        picture = wall.copy()
        for number, (top, left) in enumerate(((8, 8 + step * t), (8 + step * t, 72)), start=1):
            picture[top : top + 20, left : left + 20] = things[number - 1]
            masks[t, top : top + 20, left : left + 20] = number
        pictures.append((picture + rng.normal(0, noise, picture.shape)).clip(0, 255).astype(np.uint8))
    return pictures, masks
