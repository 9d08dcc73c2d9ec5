"""k nearest neighbours on frozen features: nothing is learnt, nothing is chosen.

Wu, Xiong, Yu and Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, section 3.4: each of the k
training clips with the highest cosine votes for its class with weight exp(cosine / 0.07).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TEMPERATURE = 0.07
CHUNK = 512  # test clips compared at a time


def knn_scores(
    train: NDArray[np.floating],
    targets: NDArray[np.int64],
    test: NDArray[np.floating],
    classes: int,
    ks: Sequence[int],
    *,
    temperature: float = TEMPERATURE,
    barred: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    device: str | torch.device = "cpu",
) -> dict[int, NDArray[np.float64]]:
    """Votes for each class, (M, C), for each k (as many as there are where that is fewer).

    Args:
        train: features (N, D), of any length: cosines are compared.
        targets: class numbers (N,), or (N, C) of 0 and 1 where a clip may have several.
        test: features (M, D).
        classes: C.
        ks: neighbours that vote.
        temperature: of the weights.
        barred: group numbers of the training clips (N,) and the test clips (M,); clips of one group do not vote for one another.
        device: where to compare.

    Raises:
        ValueError: there is nothing to compare with.
    """
    if not len(train):
        raise ValueError("k nearest neighbours need training clips, got none")
    place = torch.device(device)
    known = torch.nn.functional.normalize(torch.as_tensor(train, dtype=torch.float32, device=place), dim=1)
    labels = torch.as_tensor(targets, device=place)
    most = min(max(ks), len(known))
    votes: dict[int, list[NDArray[np.float64]]] = {min(k, len(known)): [] for k in ks}
    for start in range(0, len(test), CHUNK):
        rows = torch.as_tensor(test[start : start + CHUNK], dtype=torch.float32, device=place)
        cosine = torch.nn.functional.normalize(rows, dim=1) @ known.T
        if barred is not None:
            own = torch.as_tensor(barred[1][start : start + CHUNK], device=place)
            cosine[own[:, None] == torch.as_tensor(barred[0], device=place)[None]] = -torch.inf  # weight 0
        best, where = cosine.topk(most, dim=1)
        weight = ((best.double() - 1.0) / temperature).exp()  # the largest possible weight is 1
        for k, parts in votes.items():
            parts.append(_votes(weight[:, :k], where[:, :k], labels, classes).cpu().numpy())
    return {k: np.concatenate(parts) for k, parts in votes.items()}


def _votes(weight: Tensor, where: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(M, k) weights and places of neighbours -> (M, C)."""
    if labels.ndim == 1:
        return weight.new_zeros(len(weight), classes).scatter_add_(1, labels[where], weight)
    voters = weight.new_zeros(len(weight), len(labels)).scatter_(1, where, weight)  # (M, N): less than (M, k, C) would be
    return voters @ labels.to(weight.dtype)
