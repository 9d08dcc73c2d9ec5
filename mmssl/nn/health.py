"""Measures that tell learning from chance and from collapse. All are safe against ties: constant embeddings score chance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TIE = 1e-5  # cosines closer than this count as equal: equal vectors can differ by rounding, depending on their place in a product


def hits(scores: Tensor, positive: Tensor, keep: Tensor) -> Tensor:
    """Chance (N,) that each row's positive ranks first, ties broken by lot: 1, 0, or 1 / (1 + ties).

    `scores` (N, M), `positive` (N,) column numbers, `keep` (N, M) which columns are rivals.
    """
    rivals = keep.scatter(1, positive[:, None], False)
    ahead = scores - scores.gather(1, positive[:, None])
    beaten = ((ahead > TIE) & rivals).any(dim=1)
    ties = ((ahead.abs() <= TIE) & rivals).sum(dim=1)
    return torch.where(beaten, 0.0, 1.0 / (1.0 + ties))


def sign_hits(logits: Tensor) -> Tensor:
    """1 where a logit is above zero, 0 below, 0.5 at zero (within rounding)."""
    return 0.5 + 0.5 * torch.sign(logits) * (logits.abs() > TIE)


def spread(x: Tensor) -> Tensor:
    """Standard deviation over the rows of (N, D), after normalising them, averaged over features, times sqrt(D).

    1 is uniform on the sphere, 0 is collapse.
    """
    unit = F.normalize(x.detach().float(), dim=-1)
    return unit.std(dim=0, correction=0).mean() * unit.shape[-1] ** 0.5


def masked_mean(x: Tensor, where: Tensor, empty: float = 0.0) -> Tensor:
    """Mean of `x` where `where` is true; `empty` where it is nowhere true."""
    count = where.sum()
    total = torch.where(where, x, 0.0).sum()
    return torch.where(count > 0, total / count.clamp(min=1), empty)
