"""Grids of another size, by area: each new cell is the mean of what it covers.

Products with fixed matrices: unlike adaptive pooling and interpolation, their backward pass adds up in a fixed order on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def area_weights(count: int, parts: int, device: torch.device | None = None) -> Tensor:
    """Weights (parts, count) that average `count` steps over `parts` equal parts; a step that two parts cut counts by its shares."""
    edges = torch.arange(parts + 1, device=device) * (count / parts)
    place = torch.arange(count, device=device)
    covered = torch.minimum(edges[1:, None], place + 1) - torch.maximum(edges[:-1, None], place)
    return covered.clamp(min=0.0) * (parts / count)


def resize_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W, D) -> (..., height, width, D) by area; with more cells than there were, cells repeat."""
    h, w = grid.shape[-3:-1]
    if h != height:
        grid = torch.einsum("ah,...hwd->...awd", area_weights(h, height, grid.device).to(grid.dtype), grid)
    if w != width:
        grid = torch.einsum("bw,...hwd->...hbd", area_weights(w, width, grid.device).to(grid.dtype), grid)
    return grid
