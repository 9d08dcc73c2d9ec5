"""Thresholds for held-out sources, each fitted on other held-out sources.

A threshold fitted on training sources lies at the wrong place: their own scores are partly memorised, and higher than those of any
film that the model has not seen. One fitted on the very pairs that it judges flatters. Here sources are parted into folds, and each fold is
judged by the threshold of all others: no picture and no sound has a say in its own verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.calibration import fit_threshold

FOLDS = 5
FEWEST = 20  # sources; the own scores of fewer make no threshold


def cross_thresholds(takes: Sequence[NDArray[np.float32]], sources: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
    """A threshold for each source of each take -> (N,) for each take.

    Args:
        takes: scores of all pictures with all sounds, (N, N), own pairs on the diagonal; each take is another cut of the sources.
        sources: for each take, the N names of its sources. A source is in the same fold in every take.

    Raises:
        ValueError: fewer than `FEWEST` sources.
    """
    names = list(dict.fromkeys(name for take in sources for name in take))
    if len(names) < FEWEST:
        raise ValueError(f"{len(names)} sources, at least {FEWEST} are needed to judge some by the others")
    fold = {name: place % FOLDS for place, name in enumerate(names)}
    rows = [np.array([fold[name] for name in take]) for take in sources]
    found = [np.zeros(len(take)) for take in sources]
    for one in range(FOLDS):
        own, wrong = [], []
        for scores, folds in zip(takes, rows, strict=True):
            rest = scores[np.ix_(folds != one, folds != one)]
            own.append(np.diagonal(rest))
            wrong.append(rest[~np.eye(len(rest), dtype=bool)])
        threshold = fit_threshold(np.concatenate(own), np.concatenate(wrong))
        for values, folds in zip(found, rows, strict=True):
            values[folds == one] = threshold
    return found
