"""What order tasks do around the encoder: take the clips of a row apart, show them in several ways, sum up what the encoder saw.

N rows, M clips of a row, T frames of a clip, V ways to show a clip, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.types import Features

Augment = Callable[[Tensor], Tensor]
GREEN = 1  # the sharpest channel of most lenses and sensors: what evaluation sees where training draws a channel


@dataclass(frozen=True, slots=True)
class Members:
    """(N, M * T, 3, H, W) -> (N * M, T, 3, H, W): augment rows first, so that all clips of a row change alike, then take them apart.

    `channel`: "random" or "green" puts one colour channel, a random one for each clip or the green one, in the place of all three
    ("channel splitting", Lee et al. 2017; against chromatic aberration, which would tell where in the picture a piece lay).
    `standard`: give each clip mean 0.5 and standard deviation 0.25 over all its numbers (as Noroozi and Favaro 2016 do), clamped
    to 0..1.

    Hashable, as `EncoderBank.encode` asks of an augmentation.
    """

    count: int
    augment: Augment | None = None
    channel: Literal["all", "random", "green"] = "all"
    standard: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Draws come from torch's global generator on the host."""
        x = x if self.augment is None else self.augment(x)
        x = x.unflatten(1, (self.count, -1)).flatten(0, 1)
        if self.channel == "green":
            x = x[:, :, GREEN : GREEN + 1].expand_as(x)
        elif self.channel == "random":
            drawn = torch.randint(3, (len(x),)).to(x.device, non_blocking=True)
            x = x[torch.arange(len(x), device=x.device), :, drawn][:, :, None].expand_as(x)
        return _standard(x) if self.standard else x


@dataclass(frozen=True, slots=True)
class BothWays:
    """(N, T, 3, H, W) -> (2 * N, T, 3, H, W): all rows forwards, then all rows backwards, augmented alike."""

    augment: Augment | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Augment, then turn the frames round."""
        x = x if self.augment is None else self.augment(x)
        return torch.cat([x, x.flip(1)])


@dataclass(frozen=True, slots=True)
class QuarterTurns:
    """(N, T, 3, S, S) -> (4 * N, T, 3, S, S): all rows upright, then turned by 90, 180 and 270 degrees counter-clockwise, augmented alike.

    Quarter turns move pixels and compute none: interpolation would tell turned pictures from upright ones (Gidaris et al. 2018).
    """

    augment: Augment | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Augment, then turn."""
        x = x if self.augment is None else self.augment(x)
        return torch.cat([x.rot90(turns, (3, 4)) for turns in range(4)])


class ClipSummary(nn.Module):
    """Features of clips -> vectors (N, hidden), by one linear layer and ReLU.

    Sees the means of `moments` equal parts of the grid's time by `cells` x `cells` equal parts of its area, side by side: where and when
    something is counts, as in the fully connected layers of the networks that these tasks were published with. With 1 and 1 it sees
    `pooled`.
    """

    def __init__(self, dim: int, hidden: int, *, moments: int = 1, cells: int = 1) -> None:
        super().__init__()
        self.moments, self.cells = moments, cells
        self.line = nn.Linear(dim * moments * cells**2, hidden)

    def forward(self, features: Features) -> Tensor:
        """(N, hidden)."""
        if self.moments == self.cells == 1:
            return F.relu(self.line(features.pooled))
        return F.relu(self.line(mean_parts(features.grid, self.moments, self.cells).flatten(1)))


def mean_parts(grid: Tensor, moments: int, cells: int) -> Tensor:
    """Grid (N, T, H, W, D) -> (N, moments, cells, cells, D), means over equal parts of each axis.

    A part that begins or ends inside a step takes its share of it. (Products with fixed matrices: unlike adaptive pooling their backward
    passes are deterministic on every device.)
    """
    time, tall, wide = (_shares(old, new, grid) for old, new in zip(grid.shape[1:4], (moments, cells, cells), strict=True))
    grid = torch.einsum("nthwd,kt->nkhwd", grid, time)
    grid = torch.einsum("nkhwd,ih->nkiwd", grid, tall)
    return torch.einsum("nkiwd,jw->nkijd", grid, wide)


def _shares(old: int, new: int, like: Tensor) -> Tensor:
    """(new, old): what each of `old` steps adds to the mean of each of `new` equal parts."""
    edges = torch.arange(new + 1, device=like.device) * (old / new)
    place = torch.arange(old, device=like.device)
    covered = torch.minimum(edges[1:, None], place + 1) - torch.maximum(edges[:-1, None], place)
    return (covered.clamp(min=0.0) * (new / old)).to(like.dtype)


def _standard(x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        y = x.float() / 255 if x.dtype == torch.uint8 else x.to(torch.promote_types(x.dtype, torch.float32))
        mean = y.mean((1, 2, 3, 4), keepdim=True)
        deviation = y.var((1, 2, 3, 4), keepdim=True, correction=0).add(1e-6).sqrt()
        return (0.5 + 0.25 * (y - mean) / deviation).clamp(0.0, 1.0)
