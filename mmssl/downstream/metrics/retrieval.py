"""Cross-modal retrieval: recall at k and median rank, both ways, ties ranked by their average.

Peers find ranks by `where(sorted == own)`, which gives every tie its best rank, so that a collapsed model with constant embeddings
scores 100 %. Here rank = 1 + (strictly better) + half of (equal others): constant embeddings score chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALLS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One direction. `recall[k]` is the expected share of queries with their own item among the first k."""

    recall: dict[int, float]
    median_rank: float
    queries: int
    gallery: int

    @property
    def chance(self) -> dict[int, float]:
        """Recall of a random order."""
        return {k: min(1.0, k / self.gallery) for k in self.recall}


def ranks(scores: NDArray[Any], *, expected: int | None = None) -> NDArray[np.float64]:
    """Rank of the own item for each query, 1 is best, ties by average rank -> (N,).

    Args:
        scores: (N, N), query i (row) against item j (column), higher is better; the own item of query i is item i.
        expected: the number of queries that the protocol has; None: whatever is there.

    Raises:
        ValueError: not square, not `expected` queries, or not finite. A test set that shrank silently is no test set.
    """
    better, equal = _better_and_equal(scores, expected)
    return 1 + better + equal / 2


def hits(scores: NDArray[Any], k: int, *, expected: int | None = None) -> NDArray[np.float64]:
    """For each query the chance (0 to 1) that its own item is among the first k, equal scores in random order -> (N,).

    Without ties it is 0 or 1. With all scores equal it is k / N.

    Raises:
        ValueError: as `ranks`.
    """
    better, equal = _better_and_equal(scores, expected)
    return np.clip((k - better) / (equal + 1), 0.0, 1.0)


def retrieval(scores: NDArray[Any], *, recalls: tuple[int, ...] = RECALLS, expected: int | None = None) -> Retrieval:
    """Recall and median rank of the rows' queries; give the transpose for the other direction.

    Args:
        scores: (N, N) as in `ranks`.
        recalls: the k of R@k.
        expected: number of queries that the protocol has.

    Raises:
        ValueError: as `ranks`.
    """
    own = ranks(scores, expected=expected)
    found = {k: float(hits(scores, k).mean()) for k in recalls}
    return Retrieval(found, float(np.median(own)), len(own), len(own))


def _better_and_equal(scores: NDArray[Any], expected: int | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not scores.size:
        raise ValueError(f"retrieval needs scores of N queries against the same N items, got shape {scores.shape}")
    if expected is not None and len(scores) != expected:
        raise ValueError(
            f"the protocol has {expected} queries, the scores hold {len(scores)}: items were lost or added on the way"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} retrieval scores are not finite")
    own = np.diagonal(scores)[:, None]
    better = (scores > own).sum(axis=1).astype(np.float64)
    equal = (scores == own).sum(axis=1).astype(np.float64) - 1  # without the item itself
    return better, equal
