"""The optimizers, their parameter groups, clipping. AdamW: Loshchilov and Hutter, arXiv:1711.05101; Muon: see `muon`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmssl.training.muon import MuonAdamW
from mmssl.training.shards import local, whole
from mmssl.types import InputError

_MATRICES = (nn.Linear, nn.modules.conv._ConvNd)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


def parameter_groups(model: nn.Module, *, weight_decay: float, lr_scale: Mapping[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters in groups of equal weight decay and learning-rate factor (`lr_factor`), named in `names`.

    Matrices and kernels decay; biases, norms and scalars do not. `muon` says whether a group holds weights of linear layers and convolutions,
    which Muon may update. `lr_scale` maps regular expressions, searched in parameter names
    (`encoders.video.layer1.0.conv1.weight`), to factors; where several match, the factors multiply.

    Raises:
        InputError: an expression is not valid or matches nothing, or a factor is negative or not finite.
    """
    expressions = {text: _compiled(text, factor) for text, factor in lr_scale.items()}
    unused = set(expressions)
    plain, matrices = _undecayed(model), _matrices(model)
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        matching = [text for text, expression in expressions.items() if expression.search(name)]
        unused.difference_update(matching)
        if not parameter.requires_grad:
            continue
        factor = math.prod(lr_scale[text] for text in matching)
        decay = 0.0 if name in plain else weight_decay
        muon = name in matrices
        group = groups.setdefault(
            (decay, factor, muon),
            {"params": [], "names": [], "weight_decay": decay, "lr_factor": factor, "lr": 0.0, "muon": muon},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:3])
        raise InputError(f"train.lr_scale: {', '.join(map(repr, sorted(unused)))} matches no parameter; names look like {some}")
    if not groups:
        raise InputError("the model has no trainable parameter, so there is nothing to train")
    return list(groups.values())


def make_optimizer(
    kind: Literal["adamw", "muon"], groups: list[dict[str, Any]], *, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """The fused AdamW, or Muon for the groups that it may update; both can be told on the device to change nothing: see `step_where`."""
    if kind == "muon":
        return MuonAdamW(groups, betas=betas)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """The 2-norm of all gradients together (scalar on the device, over all shards)."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return whole(norm)


def clip_gradients(optimizer: torch.optim.Optimizer, norm: Tensor, limit: float) -> None:
    """Scale all gradients, in place, so that their norm (given) is at most `limit`."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], scale)  # pyright: ignore[reportPrivateImportUsage]


def step_where(optimizer: torch.optim.AdamW, ok: Tensor) -> None:
    """Take the optimizer's step if `ok` (a bool scalar on the device) holds, else change nothing; the host does not wait.

    This is the switch that torch's own `GradScaler` uses with fused optimizers.
    """
    optimizer.found_inf = (~ok).float()  # type: ignore[attr-defined]  # where GradScaler puts it, too
    optimizer.grad_scale = None  # type: ignore[attr-defined]  # as above
    optimizer.step()


def _matrices(model: nn.Module) -> set[str]:
    modules = [(prefix, module) for prefix, module in model.named_modules() if isinstance(module, _MATRICES)]
    return {f"{prefix}.weight" if prefix else "weight" for prefix, module in modules if module.weight.numel() > 1}


def _undecayed(model: nn.Module) -> set[str]:
    names: set[str] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, _NORMS) or parameter.ndim < 2 or parameter.numel() == 1:
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def _compiled(text: str, factor: float) -> re.Pattern[str]:
    if not (math.isfinite(factor) and factor >= 0):
        raise InputError(f"train.lr_scale: the factor of {text!r} is {factor}; it must be a finite number of at least 0")
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(f"train.lr_scale: {text!r} is no regular expression: {error}") from error
