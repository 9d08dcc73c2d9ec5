"""From scores of test clips to figures with intervals, beside what needs no encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.metrics.classification import average_precision, mean_average_precision, mean_over_splits, top_k
from mmssl.downstream.metrics.intervals import Estimate
from mmssl.downstream.probe.labelled import Labelled, Split

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """What one contender scored: scores (clips of the test part, classes) for each split, and what its fitting chose there."""

    contender: str  # "trained", "random init", "colour histogram", ...
    variant: str  # "k = 20" where a probe gives several figures; ""
    scores: tuple[Scores, ...]
    about: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one contender: over all splits, and in each."""

    overall: Estimate
    splits: Mapping[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self.overall._asdict(), "splits": {name: estimate._asdict() for name, estimate in self.splits.items()}}


def judge(scores: Scores, targets: NDArray[np.int64]) -> float:
    """Top-1 accuracy of class numbers (n,), mean average precision of targets (n, C): what settings are chosen by."""
    if targets.ndim == 1:
        return float(top_k(scores, targets, 1).mean())
    by_class = average_precision(scores, targets)
    return float(np.nanmean(by_class)) if not np.isnan(by_class).all() else 0.0


def figures(labelled: Labelled, trial: Trial, splits: Sequence[Split], *, less: Trial | None = None) -> dict[str, Figure]:
    """ "top1" and, of more than five classes, "top5"; of multi-label sets "mAP".

    Accuracies are means of the splits' accuracies, as published ones are; mAP is over the test parts of all splits together.

    Args:
        labelled: the set that was tested.
        trial: scores.
        splits: those that were tested.
        less: take the figures of this trial away; clips are drawn alike.
    """
    if labelled.listing.multi_label:
        return {"mAP": _precision(labelled, trial, splits, less)}
    wanted = {"top1": 1} | ({"top5": 5} if len(labelled.listing.classes) > 5 else {})
    return {name: _accuracy(labelled, trial, splits, k, less) for name, k in wanted.items()}


def most_frequent(labelled: Labelled, splits: Sequence[Split]) -> Trial:
    """Always the class that the training part has most of; classes that it has equally many of are guessed among."""
    scores = []
    for split in splits:
        learnt = [label for place in {*split.train, *split.validation} for label in labelled.items[place].labels]
        counts = np.bincount(learnt, minlength=len(labelled.listing.classes)).astype(np.float64)
        scores.append(np.tile(counts, (len(split.test), 1)))
    return Trial("most frequent class", "", tuple(scores))


def _accuracy(labelled: Labelled, trial: Trial, splits: Sequence[Split], k: int, less: Trial | None) -> Figure:
    labels = labelled.targets(False)
    outcomes, groups = [], []
    for number, split in enumerate(splits):
        own = labels[list(split.test)]
        hits = top_k(trial.scores[number], own, k)
        outcomes.append(hits if less is None else hits - top_k(less.scores[number], own, k))
        groups.append([labelled.items[place].group for place in split.test])
    each = {
        split.name: mean_over_splits([outcomes[n]], [groups[n]], differences=less is not None) for n, split in enumerate(splits)
    }
    return Figure(mean_over_splits(outcomes, groups, differences=less is not None), each)


def _precision(labelled: Labelled, trial: Trial, splits: Sequence[Split], less: Trial | None) -> Figure:
    table = labelled.targets(True)
    places = [place for split in splits for place in split.test]
    groups = [labelled.items[place].group for place in places]
    other = None if less is None else np.concatenate(less.scores)
    overall = mean_average_precision(np.concatenate(trial.scores), table[places], groups, other)
    return Figure(overall, {splits[0].name: overall} if len(splits) == 1 else {})
