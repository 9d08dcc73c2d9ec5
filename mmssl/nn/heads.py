"""Small heads on top of encoders: projection to the joint space, calibration of a score to a logit, bounded temperature."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or as it is where it is wider: for norms, softmaxes and losses under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Projection(nn.Module):
    """Features (..., dim) -> unit-length embeddings (..., out) in float32: linear, or with one hidden ReLU layer.

    On the last dimension of a grid it is the field's 1 x 1 convolution.
    """

    def __init__(self, dim: int, out: int, hidden: int = 0) -> None:
        super().__init__()
        layers = [nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, out)] if hidden else [nn.Linear(dim, out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., out), unit length."""
        return F.normalize(at_least_float32(self.layers(x)), dim=-1)


class Calibration(nn.Module):
    """A score -> the logit `exp(log_scale) * (score - threshold)`, both learnt.

    The scale cannot change its sign: with the wrong one, or with zero, a correspondence network never starts to learn. Parameters
    have shape (1,), because FSDP2 refuses scalars.
    """

    def __init__(self, *, scale: float, threshold: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor([math.log(scale)]))
        self.threshold = nn.Parameter(torch.tensor([threshold]))

    def forward(self, score: Tensor) -> Tensor:
        """Logits of `score`'s shape."""
        return self.log_scale.exp() * (score - self.threshold)


class Temperature(nn.Module):
    """The divisor of cosines before a softmax: fixed, or learnt between `low` and `high`.

    The bounds are smooth (a sigmoid between their logarithms), so that a temperature at a bound can come back.
    """

    def __init__(self, value: float, *, learn: bool = False, low: float = 0.01, high: float = 1.0) -> None:
        super().__init__()
        self.fixed, self.low, self.high = value, low, high
        share = math.log(value / low) / math.log(high / low) if learn else 0.5
        self.raw = nn.Parameter(torch.tensor([math.log(share / (1.0 - share))])) if learn else None

    def forward(self) -> Tensor | float:
        """The temperature now: a number, or (1,) where it is learnt."""
        if self.raw is None:
            return self.fixed
        return self.low * (self.high / self.low) ** self.raw.sigmoid()
