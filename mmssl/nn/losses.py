"""Pairwise losses on scores and distances, one value a row. Sums and means over rows are the objectives' business."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distance(cosines: Tensor) -> Tensor:
    """Euclidean distance of unit-length vectors from their cosine, at least 0.001, so that the gradient at equal vectors is finite."""
    return ((2.0 - 2.0 * cosines).clamp(min=0.0) + 1e-6).sqrt()


def unit_distance(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Euclidean distances (N, M) of unit-length vectors, in their own precision also under autocast."""
    with torch.autocast(a_ND.device.type, enabled=False):
        return distance(a_ND @ b_MD.T)


def row_mean(x_NM: Tensor, where: Tensor) -> Tensor:
    """Mean (N,) over the columns where `where` is true; 0 in rows without any."""
    return torch.where(where, x_NM, 0.0).sum(dim=1) / where.sum(dim=1).clamp(min=1)


def balanced(right_N: Tensor, wrong_NM: Tensor, negatives: Tensor, hard_N: Tensor | None, hard: Tensor | float) -> Tensor:
    """Half of the weight on each row's positive, half on its negatives -> (N,).

    Args:
        right_N: losses of the true pairs.
        wrong_NM: losses that all pairs would have as negatives.
        negatives: (N, M) bool, which of them are.
        hard_N: the loss of one more negative a row, where there is one.
        hard: its share of the negatives' half, a number or one a row.
    """
    easy = row_mean(wrong_NM, negatives)
    wrong = easy if hard_N is None else (1.0 - hard) * easy + hard * hard_N
    return (right_N + wrong) / 2


def balanced_bce(
    positive_N: Tensor, logits_NM: Tensor, negatives: Tensor, hard_N: Tensor | None = None, hard: Tensor | float = 0.0
) -> Tensor:
    """Binary cross-entropy (N,) of logits, `balanced`."""
    return balanced(
        F.softplus(-positive_N), F.softplus(logits_NM), negatives, None if hard_N is None else F.softplus(hard_N), hard
    )


def contrastive_margin(
    positive_N: Tensor, distances_NM: Tensor, negatives: Tensor, hard_N: Tensor, hard: Tensor | float, *, margin: float
) -> Tensor:
    """Squared distances of true pairs, squared shortfalls from `margin` of the others (N,), `balanced`.

    Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006.
    """
    return balanced(
        positive_N.square(),
        F.relu(margin - distances_NM).square(),
        negatives,
        F.relu(margin - hard_N).square(),
        hard,
    )
