"""Logistic regression on frozen features, its strength of regularization chosen on a validation part.

Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016, arXiv:1610.01644; the sweep of an L-BFGS logistic regression's C
on a validation split as in Radford et al. 2021, arXiv:2103.00020, appendix A.3. Features are standardized by what is fitted on. The classifier that
is tested is fitted anew on fitting and validation part together, with the C that was chosen. The test part chooses nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

STRENGTHS = tuple(float(10.0**power) for power in range(-5, 6))  # C: from almost all weights zero to hardly regularized
FALLBACK = 1e-2  # without a validation part
ITERATIONS = 1000

Scores = NDArray[np.float64]
Judge = Callable[[Scores, NDArray[np.int64]], float]


@dataclass(frozen=True, slots=True)
class Part:
    """Features (N, D) and targets: class numbers (N,), or (N, C) of 0 and 1 where a clip may have several."""

    features: NDArray[np.floating]
    targets: NDArray[np.int64]

    def __add__(self, other: Part) -> Part:
        """Both parts, one after the other."""
        if not len(other.targets):
            return self
        return Part(np.concatenate([self.features, other.features]), np.concatenate([self.targets, other.targets]))


@dataclass(frozen=True, slots=True)
class Linear:
    """What came out for one split."""

    scores: Scores  # (M, C): log-odds
    chosen: float  # C
    swept: dict[float, float]  # C -> figure on the validation part; empty where there is none
    converged: bool

    def about(self) -> dict[str, Any]:
        """For the file of results."""
        order = sorted(self.swept)
        inner = {order[0]: order[1], order[-1]: order[-2]} if len(order) > 1 else {}
        at_edge = self.chosen in inner and self.swept[inner[self.chosen]] < self.swept[self.chosen]
        return {
            "C": self.chosen,
            "validation": {f"{strength:g}": round(figure, 6) for strength, figure in self.swept.items()},
            "at_edge_of_sweep": at_edge,
            "converged": self.converged,
        }


def linear_scores(
    fit: Part, validation: Part, test: NDArray[np.floating], classes: int, judge: Judge, *, strengths: Sequence[float] = STRENGTHS
) -> Linear:
    """Sweep C on `validation`, fit on both parts, and score `test`.

    Args:
        fit: to learn from.
        validation: to choose C by; empty: `FALLBACK` is taken, and `swept` stays empty.
        test: features (M, D).
        classes: C of the scores; a class without any clip to learn from scores lowest.
        judge: figure of scores (M, C) against targets, higher is better; of equal ones the smallest C wins.
        strengths: values of C to try.
    """
    swept: dict[float, float] = {}
    if len(validation.targets):
        for strength in strengths:
            scores, _ = _fitted(fit, validation.features, classes, strength)
            swept[strength] = judge(scores, validation.targets)
    chosen = max(swept, key=lambda strength: (swept[strength], -strength)) if swept else FALLBACK
    scores, converged = _fitted(fit + validation, test, classes, chosen)
    return Linear(scores, chosen, swept, converged)


def _fitted(part: Part, test: NDArray[np.floating], classes: int, strength: float) -> tuple[Scores, bool]:
    several = part.targets.ndim == 2
    one = LogisticRegression(C=strength, max_iter=ITERATIONS)
    model: Pipeline = make_pipeline(StandardScaler(), OneVsRestClassifier(one) if several else one)
    targets = part.targets
    known = np.flatnonzero(targets.any(0) & ~targets.all(0)) if several else np.unique(targets)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(np.asarray(part.features, np.float64), targets[:, known] if several else targets)
        found = np.asarray(model.decision_function(np.asarray(test, np.float64)))
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if not several and len(known) == 2:  # one column: how much likelier the second class is
        found = np.stack([-found, found], axis=1) / 2
    scores = np.full((len(test), classes), found.min() - 1.0)
    scores[:, known] = found.reshape(len(test), len(known))
    return scores, converged
