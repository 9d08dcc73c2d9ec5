"""Retrieval figures: each query against galleries of a fixed number of items, over several cuts of each source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.metrics.intervals import Estimate, bootstrap, proportion
from mmssl.downstream.metrics.retrieval import RECALLS, hits, ranks
from mmssl.rng import Purpose, rng_for

GALLERY = 100  # items in a retrieval
DRAWS = 20  # galleries drawn

Scores = NDArray[np.float32]


def both_ways(scores: Sequence[Scores], first: str, second: str, *, seed: int) -> dict[str, Any]:
    """Figures of the retrieval `second` by `first` and `first` by `second`, over several takes of the same N sources.

    Args:
        scores: for each take (N, N), item i of `first` (row) against item j of `second` (column); own items on the diagonal.
        first: role or modality of the rows, `second` of the columns.
        seed: of the galleries.

    Returns:
        {"gallery": items, "<first>_to_<second>": {"R@1": entry, ..., "median_rank": entry}, "<second>_to_<first>": ...}.
    """
    gallery = min(GALLERY, *(len(take) for take in scores))
    there = [retrieve(take, seed=seed) for take in scores]
    back = [retrieve(take.T, seed=seed) for take in scores]
    return {
        "gallery": gallery,
        f"{first}_to_{second}": recall_entries(there, gallery),
        f"{second}_to_{first}": recall_entries(back, gallery),
    }


def retrieve(scores: Scores, *, seed: int, gallery: int = GALLERY, draws: int = DRAWS) -> dict[str, NDArray[np.float64]]:
    """Recall at k and rank for each query (row) among `gallery` items, averaged over the galleries drawn in which it takes part.

    Fewer sources than `gallery`: one gallery of all. Values are (Q,), of the queries that were drawn at least once.
    """
    n = len(scores)
    rng = rng_for(seed, Purpose.EVALUATE, "galleries", n)
    picks = [np.arange(n)] if n <= gallery else [rng.choice(n, gallery, replace=False) for _ in range(draws)]
    names = [*(f"R@{k}" for k in RECALLS), "rank"]
    total, count = {name: np.zeros(n) for name in names}, np.zeros(n)
    for pick in picks:
        part = scores[np.ix_(pick, pick)]
        for k in RECALLS:
            total[f"R@{k}"][pick] += hits(part, k, expected=len(pick))
        total["rank"][pick] += ranks(part, expected=len(pick))
        count[pick] += 1
    return {name: values[count > 0] / count[count > 0] for name, values in total.items()}


def recall_entries(takes: Sequence[Mapping[str, NDArray[np.float64]]], gallery: int) -> dict[str, Any]:
    """Recalls and the median rank of one direction, over takes that `retrieve` gave, each beside chance."""
    entries: dict[str, Any] = {
        f"R@{k}": entry_of(over_takes([take[f"R@{k}"] for take in takes]), chance=min(1.0, k / gallery)) for k in RECALLS
    }
    median = over_takes([take["rank"] for take in takes], lambda rows: float(np.median(rows)))
    entries["median_rank"] = entry_of(median, chance=(gallery + 1) / 2)
    return entries


def over_takes(
    values: Sequence[NDArray[np.float64]], statistic: Callable[[NDArray[np.float64]], float] | None = None
) -> Estimate:
    """Over sources; the cuts of a source count as one unit. Without a statistic: the mean of outcomes in 0..1."""
    same = len({len(one) for one in values}) == 1  # else a file broke between two openings
    rows = np.stack(values, axis=1) if same else np.concatenate(values)
    return proportion(rows) if statistic is None else bootstrap(rows, statistic)


def entry_of(estimate: Estimate, *, chance: float | None = None) -> dict[str, float | int]:
    """An estimate as plain values for JSON, with what chance gives."""
    entry: dict[str, float | int] = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    return entry if chance is None else entry | {"chance": chance}
