"""The one module that is trained: encoders, objectives and the weights of their losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Objective
from mmssl.types import InputError, Loss


class Pretraining(nn.Module):
    """All encoders and all objectives; what DDP or FSDP2 wraps, and what a checkpoint's `model.safetensors` holds.

    Every objective runs in every step, so that no rank ever lacks a gradient that another one waits for.

    Args:
        encoders: role -> encoder.
        objectives: name -> objective.
        weights: name -> factor on its loss; 1.0 where it is not named.

    Raises:
        InputError: a weight for an objective that is not there.
    """

    def __init__(
        self, encoders: Mapping[str, Encoder], objectives: Mapping[str, Objective], weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.objectives = nn.ModuleDict(dict(objectives))
        weights = weights or {}
        unknown = sorted(set(weights) - set(objectives))
        if unknown:
            raise InputError(f"weights are given for {', '.join(unknown)}, but the objectives are {', '.join(objectives)}")
        self.weights = {name: float(weights.get(name, 1.0)) for name in objectives}

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, dict[str, Loss]]:
        """The weighted sum of all losses (a scalar), and each objective's own `Loss`.

        `batch` maps objective -> key -> (N, ...). One fresh `EncoderBank` serves all, so that a tensor that stands under two
        objectives is encoded once. In eval mode, objectives without rows in `batch` are left out (a stream may hold nothing out).
        """
        bank = EncoderBank(self.encoders)  # type: ignore[arg-type]
        present = [name for name in self.objectives if self.training or name in batch]
        losses = {name: self.objectives[name](batch[name], bank) for name in present}
        return torch.stack([self.weights[name] * loss.value.float() for name, loss in losses.items()]).sum(), losses


def to_device(micro: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Move a micro-batch; a tensor that stands in several places is moved once and stays one tensor."""
    moved: dict[int, Tensor] = {}
    for values in micro.values():
        for value in values.values():
            if id(value) not in moved:
                moved[id(value)] = value.to(device, non_blocking=True)
    return {name: {key: moved[id(value)] for key, value in values.items()} for name, values in micro.items()}


def conv_channels_last(model: nn.Module) -> None:
    """Lay out the kernels of 2-D and 3-D convolutions channels-last, in place; their inputs and outputs follow."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)


def blocks_of(encoder: nn.Module) -> list[nn.Module]:
    """The repeated parts of an encoder, outermost first found: what is compiled and sharded one by one.

    A block is a member of a `ModuleList` or `Sequential` that holds two or more members of one class, each with children and
    parameters (residual blocks, transformer layers). An encoder without any is its own only block.
    """
    found: list[nn.Module] = []
    _collect(encoder, found)
    return found or [encoder]


def _collect(module: nn.Module, found: list[nn.Module]) -> None:
    for child in module.children():
        members = list(child.children())
        repeated = (
            isinstance(child, nn.ModuleList | nn.Sequential)
            and len(members) >= 2
            and len({type(member) for member in members}) == 1
            and all(any(True for _ in m.children()) and any(True for _ in m.parameters()) for m in members)
            and not isinstance(members[0], nn.ModuleList | nn.Sequential)
        )
        if repeated:
            found.extend(members)
        else:
            _collect(child, found)
