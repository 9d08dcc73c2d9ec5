"""Classification: top-k accuracy and mean average precision, with intervals over independent groups of clips.

Clips that were cut from one recording are right or wrong together: the bootstrap draws recordings (groups), not clips, which is the cluster
bootstrap of Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8. Equal scores count as a random order:
a collapsed model, whose scores are all the same, gets chance and not the class that happens to come first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmssl.downstream.metrics.intervals import Estimate, bootstrap, proportion, wilson
from mmssl.rng import Purpose, rng_for

Floats = NDArray[np.float64]
PRECISION_DRAWS = 200  # of the bootstrap of mean average precision, which sorts nothing anew but still visits every score


def top_k(scores: ArrayLike, labels: ArrayLike, k: int) -> Floats:
    """For each clip the chance (0 to 1) that its class is among the k best, equal scores in random order -> (N,).

    Args:
        scores: (N, C), higher is better.
        labels: (N,) class numbers.
        k: at least 1; where there are no more than k classes, all are hits.

    Raises:
        ValueError: scores that are not finite, or labels outside 0..C-1.
    """
    rows, own = _checked(scores), np.asarray(labels, dtype=np.int64)
    if own.shape != rows.shape[:1] or (len(own) and not (own.min() >= 0 and own.max() < rows.shape[1])):
        raise ValueError(f"labels must be {len(rows)} class numbers below {rows.shape[1]}, got {own.shape}")
    mine = rows[np.arange(len(rows)), own][:, None]
    better, equal = (rows > mine).sum(1), (rows == mine).sum(1)  # `equal` counts the class itself
    return np.clip((k - better) / equal, 0.0, 1.0)


def average_precision(scores: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Average precision of each class, (C,); nan where a class has no positive clip.

    The area under the steps of the precision-recall curve, without interpolation: the sum over thresholds of (recall gained) x precision
    (Manning, Raghavan, Schuetze, "Introduction to Information Retrieval", 2008, section 8.4). Clips of equal score share a threshold.

    Args:
        scores: (N, C).
        truth: (N, C), 1 where the class is in the clip.
        weights: (N,) how often each clip counts; None: once.

    Raises:
        ValueError: scores that are not finite, or another shape of truth.
    """
    count = np.ones(len(np.asarray(scores))) if weights is None else np.asarray(weights, dtype=np.float64)
    return _average_precisions(scores, truth, count[:, None])[:, 0]


def mean_average_precision(scores: ArrayLike, truth: ArrayLike, groups: Sequence[str], less: ArrayLike | None = None) -> Estimate:
    """Mean over the classes that occur in the test part, with its interval over groups.

    Args:
        scores: (N, C).
        truth: (N, C), 1 where the class is in the clip.
        groups: of the clips, (N,).
        less: other scores of the same clips; then the estimate is of the difference, both drawn alike.

    Raises:
        ValueError: as `average_precision`; no class occurs.
    """
    number = _numbers(groups)
    total = int(number.max()) + 1
    rng = rng_for(0, Purpose.EVALUATE, "bootstrap", "map")
    drawn = np.stack([np.bincount(rng.integers(total, size=total), minlength=total) for _ in range(PRECISION_DRAWS)], axis=1)
    counts = np.concatenate([np.ones((len(number), 1)), drawn[number].astype(np.float64)], axis=1)
    means = _mean_over_classes(_average_precisions(scores, truth, counts))
    if less is not None:
        means = means - _mean_over_classes(_average_precisions(less, truth, counts))
    low, high = np.quantile(means[1:], [0.025, 0.975])
    return Estimate(float(means[0]), float(low), float(high), total)


def mean_over_splits(outcomes: Sequence[ArrayLike], groups: Sequence[Sequence[str]], *, differences: bool = False) -> Estimate:
    """The mean over splits of their mean outcomes, with its interval over groups.

    Args:
        outcomes: for each split the outcomes of its test clips, (N_s,): 0..1, or with `differences` those of two such (-1..1).
        groups: for each split the group of each of these clips; one group may be tested in several splits.
        differences: outcomes are differences.

    Returns:
        an estimate whose `n` is the number of groups. Resampling cannot see beyond the sample: outcomes that are all 0 or all 1 have Wilson's
        interval, and differences that are all the same reach as far as they would if so many more groups than Wilson allows differed wholly.

    Raises:
        ValueError: a split without clips.
    """
    parts = [np.asarray(part, dtype=np.float64) for part in outcomes]
    if not parts or any(len(part) == 0 for part in parts):
        raise ValueError("each split needs at least one test clip")
    names = [name for part in groups for name in part]
    total = len(set(names))
    every = np.concatenate(parts)
    if every.min() == every.max() and differences:
        value, others = float(every[0]), wilson(0, total).high
        return Estimate(value, value - others * (value + 1), value + others * (1 - value), total)
    if every.min() == every.max() and every.min() in (0.0, 1.0):
        return wilson(total if every.min() == 1.0 else 0, total)
    if len(parts) == 1 and total == len(every) and not differences:
        return proportion(every)
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    table = np.zeros((total, len(parts), 2))  # group, split: sum of outcomes, clips
    for number, (part, of) in enumerate(zip(parts, groups, strict=True)):
        where = np.array([place[name] for name in of])
        np.add.at(table[:, number, 0], where, part)
        np.add.at(table[:, number, 1], where, 1.0)
    return bootstrap(table, _mean_of_ratios)


def _mean_over_classes(by_class: Floats) -> Floats:
    occurs = ~np.isnan(by_class[:, 0])
    if not occurs.any():
        raise ValueError("mean average precision needs a class that occurs in the test part")
    return np.nanmean(by_class[occurs], axis=0)  # a draw may lack a rare class: its mean is over the others


def _mean_of_ratios(table: Floats) -> float:
    sums = table.sum(axis=0)  # (splits, 2)
    drawn = sums[:, 1] > 0  # a draw of few groups may leave a split without clips
    return float((sums[drawn, 0] / sums[drawn, 1]).mean())


def _average_precisions(scores: ArrayLike, truth: ArrayLike, counts: Floats) -> Floats:
    """(C, draws): average precision of each class under each column of how often clips count, (N, draws)."""
    rows, positive = _checked(scores), np.asarray(truth, dtype=np.float64)
    if positive.shape != rows.shape:
        raise ValueError(f"truth has shape {positive.shape}, scores have {rows.shape}")
    found = np.full((rows.shape[1], counts.shape[1]), np.nan)
    for column in range(rows.shape[1]):
        order = np.argsort(-rows[:, column], kind="stable")
        ordered = rows[order, column]
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the last clip of each threshold
        shown = np.cumsum(counts[order], axis=0)[last]
        hit = np.cumsum(counts[order] * positive[order, column, None], axis=0)[last]
        gained = np.diff(hit, axis=0, prepend=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without clips up to here, or without positives at all
            precision = np.where(shown > 0, hit / shown, 0.0)
            found[column] = (gained * precision).sum(0) / hit[-1]
    return found


def _checked(scores: ArrayLike) -> Floats:
    rows = np.asarray(scores, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"scores must be finite numbers (N, C), got shape {rows.shape} with {int((~np.isfinite(rows)).sum())} others"
        )
    return rows


def _numbers(groups: Sequence[str]) -> NDArray[np.int64]:
    place = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return np.array([place[name] for name in groups], dtype=np.int64)
