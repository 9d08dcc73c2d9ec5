"""The attention that points from each cell of one picture to cells of others and brings back what stands there.

`A_ij = softmax_j(s <f_i, f_j>)`, `y_i = sum_j A_ij v_j`: i a cell of the target, j runs over all cells of all references, or over
those at most `radius` rows and columns away (Lai and Xie, "Self-supervised Learning for Video Correspondence Flow", BMVC 2019,
arXiv:1905.00875, section 3.2). The windowed form is written with shifted pictures alone: its memory grows with the window, not with the square
of the picture, and it needs no compiled correlation.

n clips, R references, D features, V values, h x w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = -1e9  # the logit of what may not be pointed to; finite, so that a row without any is no NaN


def point(query: Tensor, keys: Tensor, values: Tensor, *, scale: float, radius: int | None = None) -> Tensor:
    """What each cell of the target points to, (n, V, h, w), in float32.

    Args:
        query: features of the target (n, D, h, w).
        keys: features of the references (n, R, D, h, w).
        values: what stands in the references (n, R, V, h, w).
        scale: factor on the scalar products.
        radius: rows and columns that a pointer may span; None: the whole picture.
    """
    with torch.autocast(query.device.type, enabled=False):
        kind = torch.promote_types(query.dtype, torch.float32)
        query, keys, values = query.to(kind) * scale, keys.to(kind), values.to(kind)
        return _anywhere(query, keys, values) if radius is None else _nearby(query, keys, values, radius)


def _anywhere(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    every = keys.transpose(1, 2).flatten(2)  # (n, D, R h w)
    weights = (query.flatten(2).transpose(1, 2) @ every).softmax(dim=2)
    found = weights @ values.transpose(1, 2).flatten(2).transpose(1, 2)
    return found.transpose(1, 2).unflatten(2, query.shape[2:])


def _nearby(query: Tensor, keys: Tensor, values: Tensor, radius: int) -> Tensor:
    height, width = query.shape[2:]
    pad = (radius, radius, radius, radius)
    shifts = [(down, right) for down in range(2 * radius + 1) for right in range(2 * radius + 1)]
    around = F.pad(keys, pad)
    inside = F.pad(torch.ones(height, width, dtype=torch.bool, device=query.device), pad)
    logits = torch.stack(
        [
            # Correlations with the padding are no matches of zero strength: they are none.
            torch.where(
                inside[down : down + height, right : right + width],
                (query[:, None] * around[..., down : down + height, right : right + width]).sum(dim=2),
                FAR,
            )
            for down, right in shifts
        ],
        dim=2,
    )  # (n, R, shifts, h, w)
    weights = logits.flatten(1, 2).softmax(dim=1).unflatten(1, logits.shape[1:3])
    there = F.pad(values, pad)
    found = torch.zeros_like(values[:, 0])
    for place, (down, right) in enumerate(shifts):
        found = found + (weights[:, :, place, None] * there[..., down : down + height, right : right + width]).sum(dim=1)
    return found
