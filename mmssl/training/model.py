"""The one module that is trained: encoders, objectives and the weights of their losses.

Weights by uncertainty: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
CVPR 2018, arXiv:1705.07115, equation 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Objective
from mmssl.types import InputError, Loss

Weighting = Literal["fixed", "uncertainty"]


class Pretraining(nn.Module):
    """All encoders and all objectives; what DDP or FSDP2 wraps, and what a checkpoint's `model.safetensors` holds.

    Every objective runs in every step, so that no rank ever lacks a gradient that another one waits for.

    Args:
        encoders: role -> encoder.
        objectives: name -> objective.
        weights: name -> factor on its loss; 1.0 where it is not named.
        weighting: "fixed": the sum of weight * loss. "uncertainty": the sum of weight * (exp(-s) * loss + s / 2), where s, the logarithm of a
            variance, is learnt for each objective and starts at 0. (The paper's form for classification. The weight stands before both
            terms, or s would undo it.) Losses must be positive: exp(-s) * loss has no bottom where a loss is negative.

    With "uncertainty", each `Loss` also tells `log_variance` (s) and `weight` (weight * exp(-s)) among its metrics.

    Raises:
        InputError: a weight for an objective that is not there.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        objectives: Mapping[str, Objective],
        weights: Mapping[str, float] | None = None,
        *,
        weighting: Weighting = "fixed",
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.objectives = nn.ModuleDict(dict(objectives))
        weights = weights or {}
        unknown = sorted(set(weights) - set(objectives))
        if unknown:
            raise InputError(f"weights are given for {', '.join(unknown)}, but the objectives are {', '.join(objectives)}")
        self.weights = {name: float(weights.get(name, 1.0)) for name in objectives}
        self.weighting: Weighting = weighting
        # Of shape (1,), because FSDP2 refuses scalars; of one axis, so they do not decay (see `optim`).
        learnt = objectives if weighting == "uncertainty" else ()
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in learnt})

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, dict[str, Loss]]:
        """The weighted sum of all losses (a scalar), and each objective's own `Loss` (its value without the weight).

        `batch` maps objective -> key -> (N, ...). One fresh `EncoderBank` serves all, so that a tensor that stands under two
        objectives is encoded once. In eval mode, objectives without rows in `batch` are left out (a stream may hold nothing out).
        """
        bank = EncoderBank(self.encoders)  # type: ignore[arg-type]  # to the checker a ModuleDict holds plain modules
        present = [name for name in self.objectives if self.training or name in batch]
        losses = {name: self.objectives[name](batch[name], bank) for name in present}
        return torch.stack([self._weighted(name, loss) for name, loss in losses.items()]).sum(), losses

    def factor(self, name: str) -> Tensor:
        """What the gradient of an objective's loss is multiplied by now (a detached scalar)."""
        if name not in self.log_variances:
            return torch.tensor(self.weights[name])
        return (self.weights[name] * (-self.log_variances[name].detach()).exp()).squeeze()

    def _weighted(self, name: str, loss: Loss) -> Tensor:
        if name not in self.log_variances:
            return self.weights[name] * loss.value.float()
        s = self.log_variances[name].float().squeeze()
        loss.metrics |= {"log_variance": s.detach().clone(), "weight": self.weights[name] * (-s.detach()).exp()}
        return self.weights[name] * ((-s).exp() * loss.value.float() + s / 2)


def to_device(micro: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Move a micro-batch; a tensor that stands in several places is moved once and stays one tensor."""
    moved: dict[int, Tensor] = {}
    for values in micro.values():
        for value in values.values():
            if id(value) not in moved:
                moved[id(value)] = value.to(device, non_blocking=True)
    return {name: {key: moved[id(value)] for key, value in values.items()} for name, values in micro.items()}


def _laid_out(weight: Tensor, memory_format: torch.memory_format) -> Tensor:
    """A copy in a layout. `contiguous` leaves kernels of one cell as they are, which counts as both layouts; their gradients come in the new one, and
    DDP, which keeps gradients as the weights lie, warns and copies."""
    return torch.empty_like(weight, memory_format=memory_format).copy_(weight)


def conv_channels_last(model: nn.Module) -> None:
    """Lay out the kernels of 2-D and 3-D convolutions channels-last, in place; their inputs and outputs follow."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = _laid_out(module.weight.data, torch.channels_last)
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.weight.data = _laid_out(module.weight.data, torch.channels_last_3d)


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
