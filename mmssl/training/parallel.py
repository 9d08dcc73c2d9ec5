"""Ranks: joining them, wrapping the model for DDP or FSDP2, and what ranks tell each other. One process needs none of it."""

from __future__ import annotations

import gc
import inspect
import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmssl.training.model import Pretraining, blocks_of
from mmssl.training.shards import gradient_sync, shard
from mmssl.types import InputError

Parallel = Literal["none", "ddp", "fsdp"]
# torch 2.13 calls it so and warns at the name that 2.11 knows.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, of how many, and on which device it computes."""

    rank: int
    world: int
    device: torch.device
    local_world: int = 1  # ranks on this machine

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0


def join_ranks(parallel: Parallel, device: Literal["auto", "cpu", "cuda"]) -> Ranks:
    """Read rank and world from the environment (`torchrun` sets them) and, with more than one, join the process group.

    May be called again: it joins once. Without `torchrun` there is one rank, and `parallel` changes nothing.

    Raises:
        InputError: a device that is not there, or several processes of a run that is not parallel.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    here, count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if world > 1 and parallel == "none":
        raise InputError(
            f"{world} processes were started, but train.parallel is none, so each would train the same model; set train.parallel to ddp or fsdp"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "train.device is cuda, but torch sees no CUDA device; `mmssl doctor` tells why, train.device=cpu trains without"
        )
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        if here >= torch.cuda.device_count():
            raise InputError(
                f"process {here} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; start as many processes"
            )
        chosen = torch.device("cuda", here)
        torch.cuda.set_device(chosen)
    else:
        chosen = torch.device("cpu")
    if world > 1 and not dist.is_initialized():
        # gloo beside nccl: flags that the host reads travel without waiting for the device.
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    return Ranks(rank, world, chosen, count)


def leave_ranks() -> None:
    """Leave the process group, if one was joined. What was trained in it must be out of reach by then."""
    if dist.is_initialized():
        dist.destroy_process_group()
        # A model that FSDP2 sharded holds the group, in cycles. Where the interpreter's end is the first to come upon them, gloo's threads are still
        # there, and the process ends by SIGABRT after a training that was complete.
        gc.collect()


def wrap(model: Pretraining, parallel: Parallel, ranks: Ranks) -> nn.Module:
    """The module to call in training: `model` itself (FSDP2 shards it in place), or DDP around it.

    Raises:
        InputError: a parameter without dimensions, which FSDP2 cannot shard.
    """
    if ranks.world == 1:
        return model
    if parallel == "fsdp":
        scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
        if scalars:
            raise InputError(
                f"train.parallel=fsdp cannot shard the scalar {', '.join(scalars)}; give it the shape (1,), or use train.parallel=ddp"
            )
        blocks = [block for encoder in model.encoders.values() for block in blocks_of(encoder)]
        shard(model, blocks, ranks.world, ranks.device.type)
        return model
    # Buffers are already equal everywhere: queues move by gathered rows, batch norms are synchronised (see `level_buffers`).
    sync: dict[str, Any] = {_SYNC_BUFFERS: False}
    return DistributedDataParallel(model, gradient_as_bucket_view=True, **sync)


def synchronise_batch_norm(model: Pretraining, ranks: Ranks) -> None:
    """On several GPUs, let batch norms see the global batch. In place; parameter names stay."""
    if ranks.world > 1 and ranks.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model.encoders)
        nn.SyncBatchNorm.convert_sync_batchnorm(model.objectives)


def level_buffers(model: nn.Module, ranks: Ranks) -> None:
    """On several CPU ranks, where batch norms see their own rows only, make their running statistics the mean over ranks."""
    if ranks.world == 1 or ranks.device.type == "cuda":
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.running_mean is not None]
    buffers = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
    if not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(flat)
    flat /= ranks.world
    for buffer, part in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))


def gradients_between_ranks(module: nn.Module, wanted: bool) -> None:
    """Whether the coming backward pass exchanges gradients: only that of a step's last micro-batch need."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = wanted
    else:
        gradient_sync(module, wanted)


def mean_over_ranks(values: Tensor, ranks: Ranks) -> Tensor:
    """Elementwise mean over ranks."""
    if ranks.world > 1:
        values = values.clone()
        dist.all_reduce(values)
        values /= ranks.world
    return values


def on_all_ranks(flags: Tensor, ranks: Ranks) -> Tensor:
    """Which bools hold on every rank; stays on its device."""
    if ranks.world == 1:
        return flags
    count = flags.to(torch.int32)
    dist.all_reduce(count, op=dist.ReduceOp.MIN)
    return count.bool()


def on_any_rank(flag: bool, ranks: Ranks) -> bool:
    """Whether the host's flag is set on any rank. Waits for the other hosts, not for a device."""
    if ranks.world == 1:
        return flag
    count = torch.tensor(int(flag))
    dist.all_reduce(count, op=dist.ReduceOp.MAX)
    return bool(count)


def from_first(value: str | None, ranks: Ranks) -> str | None:
    """What the first rank has to say, on all ranks. Also a barrier."""
    if ranks.world == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_values(value: Any, ranks: Ranks) -> list[Any]:
    """Each rank's JSON-like value, by rank, on all ranks."""
    if ranks.world == 1:
        return [value]
    box: list[Any] = [None] * ranks.world
    dist.all_gather_object(box, value)
    return box


def copy_from_first(model: nn.Module, ranks: Ranks) -> None:
    """Give every rank the first rank's parameters and buffers."""
    if ranks.world > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)
