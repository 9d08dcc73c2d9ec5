"""Pairwise losses on scores and distances, one value a row. Sums and means over rows are the objectives' business."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_distance(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Euclidean distances (N, M) of unit-length vectors, at least 0.001, so that the gradient at equal vectors is finite."""
    with torch.autocast(a_ND.device.type, enabled=False):
        return ((2.0 - 2.0 * a_ND @ b_MD.T).clamp(min=0.0) + 1e-6).sqrt()


def row_mean(x_NM: Tensor, where: Tensor) -> Tensor:
    """Mean (N,) over the columns where `where` is true; 0 in rows without any."""
    return torch.where(where, x_NM, 0.0).sum(dim=1) / where.sum(dim=1).clamp(min=1)


def balanced_bce(
    positive_N: Tensor, logits_NM: Tensor, negatives: Tensor, hard_N: Tensor | None = None, hard: Tensor | float = 0.0
) -> Tensor:
    """Binary cross-entropy (N,) with half of the weight on the positive, half on the negatives.

    Args:
        positive_N: logits of the true pairs.
        logits_NM: logits of all pairs.
        negatives: (N, M) bool, which of them are negatives.
        hard_N: logits of one more negative a row, where there is one.
        hard: its share of the negatives' half, a number or one a row.
    """
    easy = row_mean(F.softplus(logits_NM), negatives)
    wrong = easy if hard_N is None else (1.0 - hard) * easy + hard * F.softplus(hard_N)
    return (F.softplus(-positive_N) + wrong) / 2
