"""Tensors that FSDP2 spread over ranks, seen whole or in part. Plain tensors pass through unchanged."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory; a plain tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All parts of a tensor together; of a sharded one every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(full: Tensor, model: Tensor) -> Tensor:
    """A copy of `full` that is laid out, placed and typed as `model` is."""
    if isinstance(model, DTensor):
        # src_data_rank=None: every rank holds `full` and cuts its own part, so nothing is sent.
        full = distribute_tensor(full.to(model.device, model.dtype), model.device_mesh, model.placements, src_data_rank=None)
    return torch.empty_like(model).copy_(full)
