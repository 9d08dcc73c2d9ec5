"""Rows of all ranks, with gradients that equal those of one process.

Rank r of W holds rows r, r + W, r + 2W, ... of the global batch. Losses are means over a rank's rows and the wrappers (DDP, FSDP)
average gradients over ranks; so the backward pass here must *sum* what all ranks say about a row. Keeping only the local slice, as
several published losses do, divides the gradient of the negatives by W.

Without an initialised process group there is one rank, and everything here is the identity.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_world() -> tuple[int, int]:
    """(rank, world size); (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(x: Tensor) -> Tensor:
    """Rows (n, ...) of every rank -> (n * W, ...) in global row order, differentiable. All ranks must hold equally many rows."""
    if rank_and_world()[1] == 1:
        return x
    if x.requires_grad and torch.is_grad_enabled():
        return _GatherRows.apply(x)
    return _gather(x)


def own_rows(rows: int, device: torch.device | None = None) -> Tensor:
    """Global row numbers (rows,) of this rank's `rows` local rows."""
    rank, world = rank_and_world()
    return torch.arange(rows, device=device) * world + rank


def _gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(rank_and_world()[1])]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return _gather(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        del ctx
        rank, world = rank_and_world()
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        return grad[rank::world].contiguous()
