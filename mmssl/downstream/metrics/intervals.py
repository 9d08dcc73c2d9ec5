"""Intervals for measured figures: no number without how far it could be off.

Wilson, "Probable inference", JASA 1927; Efron, "Bootstrap methods", Annals of Statistics 1979 (percentile form). The unit that
is drawn anew is the independent one: the source, never the frame or the pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmssl.rng import Purpose, rng_for


class Estimate(NamedTuple):
    """A measured value with its interval, both in the value's own unit; `n` independent units went into it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: int, n: int, *, z: float = 1.959964) -> Estimate:
    """Wilson's score interval of a proportion: sound also near 0 and 1, where the normal one leaves [0, 1].

    Args:
        successes: how many of `n` independent trials succeeded.
        n: trials, at least 1.
        z: normal quantile; the default gives 95 %.

    Raises:
        ValueError: `n` is below 1 or `successes` outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the exact limits are 0 and 1; the formula misses them by a rounding error only.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(p, float(low), float(high), n)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap over the first axis.

    Args:
        values: one row for each independent unit (a source), (N, ...).
        statistic: of the drawn rows; None means their mean (computed for all draws at once).
        draws: resamples.
        level: of the interval.
        seed: of the resampling; the same values and seed give the same interval.

    Raises:
        ValueError: there are no values, or some are not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.shape[0] == 0:
        raise ValueError("a bootstrap needs at least one value, got none")
    if not np.isfinite(rows).all():
        raise ValueError(f"{int((~np.isfinite(rows)).sum())} of {rows.size} values are not finite")
    n = rows.shape[0]
    picks = rng_for(seed, Purpose.EVALUATE, "bootstrap").integers(n, size=(draws, n))
    if statistic is None:
        drawn, value = rows[picks].reshape(draws, -1).mean(axis=1), float(rows.mean())
    else:
        drawn, value = np.array([statistic(rows[pick]) for pick in picks]), float(statistic(rows))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n)


def proportion(values: ArrayLike) -> Estimate:
    """Mean of outcomes in 0..1, one row for each independent unit (N, ...): bootstrapped, but Wilson's where all are 0 or all are 1.

    Resampling cannot see beyond the sample: from 19 successes in 19 it finds 1 to 1, where the truth may well be 0.85.

    Raises:
        ValueError: there are no values, or some lie outside 0..1.
    """
    rows = np.asarray(values, dtype=np.float64)
    if not ((rows >= 0.0) & (rows <= 1.0)).all():
        raise ValueError(f"outcomes must lie in 0..1, got {rows.min():g} to {rows.max():g}")
    if rows.size and rows.min() == rows.max() and rows.min() in (0.0, 1.0):
        return wilson(len(rows) if rows.min() == 1.0 else 0, len(rows))
    return bootstrap(rows)
