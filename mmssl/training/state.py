"""Between the objects of a run and the files of its checkpoints: whole tensors out, checked tensors in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.training.checkpoint import EMA, MODEL, OPTIMIZER, check_fit, read_tensors
from mmssl.training.ema import Ema
from mmssl.training.model import Pretraining
from mmssl.training.muon import MuonAdamW
from mmssl.training.shards import sharded_like, whole
from mmssl.types import InputError

_ADAMW, _MUON = ("exp_avg", "exp_avg_sq"), ("momentum",)


def model_tensors(model: Pretraining, ema: Ema | None = None) -> dict[str, Tensor]:
    """Whole parameters and buffers by name, averaged ones where `ema` is given. Every rank must ask."""
    with ema.in_place() if ema is not None else nullcontext():
        return {name: whole(tensor).detach().clone() for name, tensor in model.state_dict().items()}


def run_tensors(model: Pretraining, optimizer: torch.optim.Optimizer, ema: Ema | None) -> dict[str, dict[str, Tensor]]:
    """Everything of a run that is a tensor: file name -> name -> whole tensor. Every rank must ask."""
    tensors = {
        MODEL: model_tensors(model),
        OPTIMIZER: {
            f"{name}/{key}": whole(value)
            for name, parameter in _named(optimizer).items()
            for key, value in optimizer.state.get(parameter, {}).items()
        },
    }
    if ema is not None:
        tensors[EMA] = {name: whole(tensor) for name, tensor in ema.average.items()}
    return tensors


def load_model(checkpoint: Path, model: Pretraining) -> None:
    """Put a checkpoint's weights and buffers into a model that is not sharded yet.

    Raises `InputError` where they do not fit or hold parameters that are not finite.
    """
    path = checkpoint / MODEL
    found = read_tensors(path)
    check_fit(path, found, model.state_dict(), finite={name for name, _ in model.named_parameters()})
    model.load_state_dict(found)


def load_optimizer(checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's moments into an optimizer, sharded as its parameters are. Raises `InputError` where they do not fit."""
    path = checkpoint / OPTIMIZER
    found = read_tensors(path)
    named = _named(optimizer)
    present = {name for name in named if f"{name}/step" in found}  # a parameter that never had a gradient has no state
    turned = {
        name for group in optimizer.param_groups if isinstance(optimizer, MuonAdamW) and group["muon"] for name in group["names"]
    }
    moments = {name: _MUON if name in turned else _ADAMW for name in present}
    wanted: dict[str, Tensor] = {f"{name}/{key}": named[name] for name in present for key in moments[name]}
    wanted |= {f"{name}/step": torch.zeros(()) for name in present}
    check_fit(path, found, wanted)
    for name in present:
        parameter = named[name]
        optimizer.state[parameter] = {
            "step": found[f"{name}/step"].to(parameter.device),
            **{key: sharded_like(found[f"{name}/{key}"], parameter.detach()) for key in moments[name]},
        }


def load_ema(checkpoint: Path, ema: Ema) -> None:
    """Put a checkpoint's averages into `ema`. Raises `InputError` where they do not fit."""
    path = checkpoint / EMA
    found = read_tensors(path)
    check_fit(path, found, ema.average)
    ema.load(found)


class Export:
    """Writes the trained encoders as folders that `Encoder.from_pretrained` reads.

    Made before the model is compiled, sharded or wrapped: it keeps copies without values, whose shape is still the encoders' own.
    """

    def __init__(self, encoders: nn.ModuleDict) -> None:
        self._blank = copy.deepcopy(encoders).to("meta")

    def write(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """`folder/<role>/`, from the whole tensors of a `Pretraining`'s state."""
        for role, blank in self._blank.items():
            encoder = blank.to_empty(device="cpu")
            prefix = f"encoders.{role}."
            encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
            if not isinstance(encoder, Encoder):
                raise InputError(f"the module of role {role} is a {type(encoder).__name__}, which is no Encoder")
            encoder.save_pretrained(folder / role)


def _named(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
