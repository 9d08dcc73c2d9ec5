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


@dataclass(frozen=True, slots=True)
class Placed:
    """Where each query (Q,) finds the first of its own items, several items being its own."""

    better: NDArray[np.float64]  # items of others that score higher than the best own one
    equal: NDArray[np.float64]  # items of others that score the same
    own: NDArray[np.float64]  # own items with that best score, at least 1
    items: int  # of the gallery

    @property
    def ranks(self) -> NDArray[np.float64]:
        """Expected rank of the first own item, 1 is best, equal scores in random order."""
        return self.better + (self.equal + self.own + 1) / (self.own + 1)

    def hits(self, k: int) -> NDArray[np.float64]:
        """Chance (0 to 1) that an own item is among the first k, equal scores in random order."""
        places = np.clip(k - self.better, 0, self.equal + self.own)
        return 1.0 - _none_of(self.own, self.equal + self.own, places)


def place(scores: NDArray[Any], own: NDArray[np.bool_]) -> Placed:
    """Place queries whose own items are several: five captions of a clip, say. With one own item each it is what `ranks` and `hits` are.

    Args:
        scores: (Q, G), query (row) against item (column), higher is better.
        own: (Q, G), which items are a query's own; at least one in each row.

    Raises:
        ValueError: shapes that differ, a query without an own item, or scores that are not finite.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape != own.shape or not scores.size:
        raise ValueError(f"placing needs scores and own items of one shape (Q, G), got {scores.shape} and {own.shape}")
    if not own.any(axis=1).all():
        raise ValueError(f"{int((~own.any(axis=1)).sum())} of {len(own)} queries have no own item among the {own.shape[1]}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} retrieval scores are not finite")
    best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
    counts = [(scores > best) & ~own, (scores == best) & ~own, (scores == best) & own]
    better, equal, mine = (found.sum(axis=1).astype(np.float64) for found in counts)
    return Placed(better, equal, mine, scores.shape[1])


def chance_of_hit(own: NDArray[Any], items: int, k: int) -> NDArray[np.float64]:
    """Chance that a random order of `items` has one of a query's `own` (Q,) items among the first k."""
    own = np.asarray(own, dtype=np.float64)
    total = np.full_like(own, float(items))
    return 1.0 - _none_of(own, total, np.minimum(float(k), total))


def _none_of(own: NDArray[np.float64], total: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chance that `drawn` of `total` items hold none of `own`: a product of `drawn` factors, of which there are few."""
    missed = np.ones_like(own)
    for step in range(int(drawn.max(initial=0.0))):
        left = np.maximum(total - step, 1.0)
        missed *= np.where(step < drawn, np.maximum(total - own - step, 0.0) / left, 1.0)
    return missed


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
