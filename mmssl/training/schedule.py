"""What changes with time, as pure functions of the step: nothing to save, nothing to replay on resume.

`step` counts from 0: it is the number of optimizer steps already taken.
"""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, warmup: int, total: int, final: float = 0.0) -> float:
    """Linear warm-up to `peak` over `warmup` steps, then half a cosine down to `final * peak` at step `total`.

    >>> [round(learning_rate(s, peak=1.0, warmup=2, total=6), 3) for s in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * share)))


def ema_decay(step: int, *, decay: float) -> float:
    """Decay of the averaged weights: at most `decay`, less while (1 + step) / (10 + step) is less.

    The ramp lets the average forget the initial weights also in a run of a few hundred steps (the formula is the one of
    TensorFlow's `ExponentialMovingAverage` with `num_updates`).
    """
    return min(decay, (1 + step) / (10 + step))
