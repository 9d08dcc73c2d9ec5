"""What a score and a cosine mean: measured on pairs that belong together and pairs that do not.

A heatmap normalised frame by frame lights up in silence too. Here one scale holds for a whole film: heat begins above what nearly all
of a picture shows under wrong sounds, and is full where own sounds usually peak. "Nothing in view makes this sound" is said below the
score that best separates own from wrong pairs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmssl.types import InputError

BACKGROUND = 0.95  # share of cells that no heat may touch under a wrong sound


@dataclass(frozen=True, slots=True)
class Calibration:
    """Numbers that turn raw scores and cosines into confidence and heat."""

    threshold: float  # correspondence score that best separates own from wrong sound
    spread: float  # > 0: score above the threshold at which confidence is 0.73 (one unit of a logistic)
    low: float  # cosine at which heat begins: 19 of 20 cells lie below it under a wrong sound
    high: float  # cosine at which heat is full: the median peak under the own sound
    origin: str = "run"  # "run": measured on the run's training sources; "film": on the film's own sound at other moments

    def confidence(self, scores: ArrayLike) -> NDArray[np.float64]:
        """0 to 1; 0.5 at the threshold."""
        return 1 / (1 + np.exp(-np.clip((np.asarray(scores, dtype=float) - self.threshold) / self.spread, -40, 40)))

    def heat(self, cosines: NDArray[Any]) -> NDArray[np.float32]:
        """Cosines to heat, 0 to 1, on this one scale."""
        return np.clip((np.asarray(cosines, dtype=np.float32) - self.low) / (self.high - self.low), 0.0, 1.0)

    def to_json(self) -> dict[str, float | str]:
        """As plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any], where: str) -> Calibration:
        """From `to_json`'s values.

        Raises:
            InputError: keys are missing or unknown, or values are no numbers.
        """
        try:
            numbers = {key: float(values[key]) for key in ("threshold", "spread", "low", "high")}
            return Calibration(**numbers, origin=str(values.get("origin", "run")))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where} holds no calibration (threshold, spread, low, high): {error!r}; run mmssl evaluate again"
            ) from error


def fit_threshold(own: ArrayLike, wrong: ArrayLike) -> float:
    """The score that maximises balanced accuracy: midway between two neighbouring scores; higher means "own".

    Args:
        own: scores of pairs that belong together, any shape.
        wrong: scores of pairs that do not.

    Raises:
        ValueError: one of them is empty.
    """
    own, wrong = np.sort(np.ravel(own)), np.sort(np.ravel(wrong))
    if not len(own) or not len(wrong):
        raise ValueError(f"a threshold needs scores of both kinds, got {len(own)} own and {len(wrong)} wrong")
    points = np.unique(np.concatenate([own, wrong]).astype(np.float64))
    cuts = np.concatenate([[points[0]], (points[1:] + points[:-1]) / 2]) if len(points) > 1 else points
    kept = 1 - np.searchsorted(own, cuts, side="left") / len(own)  # own >= cut
    refused = np.searchsorted(wrong, cuts, side="left") / len(wrong)  # wrong < cut
    total = kept + refused
    best = np.flatnonzero(total >= total.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def fit_calibration(
    own: ArrayLike, wrong: ArrayLike, own_peaks: ArrayLike, wrong_cells: ArrayLike, *, origin: str = "run"
) -> Calibration:
    """Calibrate from correspondence scores of own and wrong pairs, peaks of own maps, and all cells of wrong ones (any shapes)."""
    threshold = fit_threshold(own, wrong)
    distance = float(np.median(np.ravel(own)) - np.median(np.ravel(wrong)))
    # Half of the distance of the medians lies above the threshold; there confidence reaches 0.88. Models at chance get a tiny
    # positive spread rather than a division by zero.
    spread = max(distance / 4, 1e-3 * (abs(threshold) + 1e-3))
    # Not the peaks of wrong maps: whatever looks like a source to the model has a peak under any sound, and with a soft maximum in
    # training it is so close to the own one that heat which began there would show nothing but the hottest spot.
    low = float(np.quantile(np.ravel(wrong_cells), BACKGROUND))
    high = float(np.median(np.ravel(own_peaks)))
    return Calibration(threshold, spread, low, max(high, low + 0.05), origin)
