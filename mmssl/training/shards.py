"""Tensors that FSDP2 spread over ranks, seen whole or in part. Plain tensors pass through unchanged.

`torch.distributed.tensor` and `.fsdp` take seconds to import (they bring sympy), so only runs that shard import them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is spread over ranks."""
    module = sys.modules.get("torch.distributed.tensor")  # where it was never imported, no such tensor can exist
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory; a plain tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All parts of a tensor together; of a sharded one every rank must ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def sharded_like(full: Tensor, model: Tensor) -> Tensor:
    """A copy of `full` that is laid out, placed and typed as `model` is."""
    if is_sharded(model):
        from torch.distributed.tensor import distribute_tensor

        # src_data_rank=None: every rank holds `full` and cuts its own part, so nothing is sent.
        full = distribute_tensor(full.to(model.device, model.dtype), model.device_mesh, model.placements, src_data_rank=None)
    return torch.empty_like(model).copy_(full)


def shard(model: nn.Module, blocks: list[nn.Module], world: int, device: str) -> None:
    """Spread a model's parameters over all ranks, in place: each block by itself, then what is left."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (world,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def drop_gathered(model: nn.Module) -> None:
    """Free parameters that FSDP2 keeps gathered after a forward pass without a backward pass.

    The next forward pass would compute with them, although the weights may have been exchanged meanwhile.
    """
    module = sys.modules.get("torch.distributed.fsdp")
    if module is not None:
        for part in model.modules():
            if isinstance(part, module.FSDPModule):
                cast(Any, part).reshard()


def gradient_sync(model: nn.Module, wanted: bool) -> None:
    """Whether a sharded model's coming backward pass exchanges gradients; nothing for another model."""
    module = sys.modules.get("torch.distributed.fsdp")
    if module is not None and isinstance(model, module.FSDPModule):
        cast(Any, model).set_requires_gradient_sync(wanted)
