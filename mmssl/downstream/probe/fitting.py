"""The small training loop of probes that have something to train: AdamW with linear warm-up and a half cosine to zero.

It is no trainer: one device, no checkpoints, nothing to resume. Loshchilov and Hutter 2019, arXiv:1711.05101, for the optimizer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmssl.rng import Purpose, rng_for, seed_step
from mmssl.types import InputError

_NUMBERED = re.compile(r"(.*?\.\d+(?:\.\d+)*)\.")
WARMUP = 0.1  # share of the steps
CLIP = 1.0  # norm of the gradient


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast."""

    epochs: int
    batch: int
    lr: float
    weight_decay: float = 0.05
    layer_decay: float = 1.0  # the learning rate of each layer is that of the one above it times this
    least_steps: int = 0  # small sets are gone through more often than `epochs`, until there are so many steps

    def epochs_on(self, clips: int) -> int:
        """How often so many clips are gone through."""
        return max(self.epochs, math.ceil(self.least_steps / batches_in(clips, self.batch)))

    def steps(self, clips: int) -> int:
        """Of the whole training on so many clips."""
        return self.epochs_on(clips) * batches_in(clips, self.batch)


def batches_in(clips: int, batch: int) -> int:
    """How many batches of about equal size an epoch has: a last batch of one clip would be none for a batch norm."""
    return max(1, math.ceil(clips / batch))


def batches(places: Sequence[int], recipe: Recipe, seed: int) -> Iterator[tuple[int, list[int]]]:
    """(epoch, positions) of each step: every epoch all of `places` in a new order."""
    for epoch in range(recipe.epochs_on(len(places))):
        order = rng_for(seed, Purpose.EVALUATE, "probe order", epoch).permutation(np.asarray(places, dtype=np.int64))
        for part in np.array_split(order, batches_in(len(order), recipe.batch)):
            yield epoch, part.tolist()


def learning_rate(step: int, *, peak: float, steps: int) -> float:
    """At `step` of `steps`."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fit(
    model: nn.Module,
    groups: list[dict[str, Any]],
    data: Iterable[tuple[Tensor, Tensor]],
    recipe: Recipe,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Train `model` in place, `steps` steps.

    Args:
        model: inputs -> logits (n, C).
        groups: of parameters for AdamW, each with a `scale` of the learning rate.
        data: inputs and targets of each step: class numbers (n,), or (n, C) of 0 and 1.
        recipe: epochs, batch, learning rate.
        steps: that `data` has.
        seed: of augmentation and dropout, by step.
        device: where the model is.
        on_step: called after each step.

    Raises:
        InputError: the loss is no longer finite.
    """
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    for step, (inputs, targets) in enumerate(data):
        seed_step(seed, step, 0, 0)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(step, peak=recipe.lr, steps=steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(inputs.to(device))
        loss = loss_of(logits.float(), targets.to(device))
        if not torch.isfinite(loss):
            raise InputError(f"the probe's loss is {loss.item()} at step {step} with --lr {recipe.lr:g}; lower it")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        on_step()


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of class numbers (n,), binary cross-entropy of targets (n, C)."""
    if targets.ndim == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
    return nn.functional.cross_entropy(logits, targets)


def parameter_groups(layers: Mapping[str, Sequence[nn.Parameter]], decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW; `layers` from the first to the last. Vectors (norms, biases) have no weight decay.

    Layer i of L learns at `decay ** (L - 1 - i)` of the last one's rate (Clark et al., ELECTRA, ICLR 2020, appendix B).
    """
    groups: list[dict[str, Any]] = []
    for place, parameters in enumerate(layers.values()):
        scale = decay ** (len(layers) - 1 - place)
        for matrix in (True, False):
            members = [parameter for parameter in parameters if (parameter.ndim > 1) == matrix]
            if members:
                groups.append({"params": members, "scale": scale, **({} if matrix else {"weight_decay": 0.0})})
    return groups


def layers_of(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of a network by layer, in its own order: a layer is what has a number (`stages.2.1`, `encoder.layer.7`), or a name
    of its own in front of, between or behind these."""
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        numbered = _NUMBERED.match(name)
        key = numbered.group(1) if numbered else name.rpartition(".")[0]
        layers.setdefault(key, []).append(parameter)
    return layers
