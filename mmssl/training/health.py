"""Warnings in plain words about runs that look alive and learn nothing. Each is given once."""

from __future__ import annotations

import math
from collections.abc import Mapping

COLLAPSED_SPREAD = 0.1  # of 1 for embeddings spread evenly over the sphere
COLLAPSED_LOGS = 3  # log lines in a row before a collapse is called one
SAME_COSINE = 0.02  # a difference of mean cosines below this separates nothing
LEAST_LIFT = 0.02  # of the way from chance to 1


class Health:
    """Looks at each log line of a run.

    Args:
        steps: of the whole run.
        rows: rows in one step, over all ranks and micro-batches: how exact a logged accuracy is.
    """

    def __init__(self, *, steps: int, rows: int) -> None:
        self.patience = max(100, steps // 5)  # steps before "still at chance" means something
        self._rows = rows
        self._said: set[str] = set()
        self._low: dict[str, int] = {}
        self._means: dict[str, tuple[float, float]] = {}  # metric -> (sum of value * steps, steps) since half the patience
        self._last = 0

    def observe(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Warnings that the log line of `step` gives rise to; `values` are means since the last line."""
        weight, self._last = step - self._last, step
        if 2 * step >= self.patience:
            for name, value in values.items():
                total, steps = self._means.get(name, (0.0, 0.0))
                self._means[name] = (total + value * weight, steps + weight)
        found = [*self._collapsed(values)]
        if step >= self.patience:
            found += [*self._at_chance(step), *self._same_cosine(step)]
        fresh = {key: text for key, text in found if key not in self._said}
        self._said.update(fresh)
        return list(fresh.values())

    def _at_chance(self, step: int) -> list[tuple[str, str]]:
        found = []
        for name in self._means:
            if f"{name}/chance" not in self._means:
                continue
            value, chance = self._mean(name), self._mean(f"{name}/chance")
            rows = self._rows * self._means[name][1]
            error = math.sqrt(max(chance * (1 - chance), 1e-12) / max(1.0, rows))
            if value - chance < max(3 * error, LEAST_LIFT * (1 - chance)):
                found.append(
                    (
                        f"chance {name}",
                        f"{name} is still at chance after {step} steps ({value:.3f}, chance {chance:.3f}): look at what it is given "
                        f"(`mmssl view CONFIG`), then try a higher train.lr or a larger batch",
                    )
                )
        return found

    def _same_cosine(self, step: int) -> list[tuple[str, str]]:
        found = []
        for name in self._means:
            stem = name.removesuffix("cosine/positive")
            if stem == name or f"{stem}cosine/negative" not in self._means:
                continue
            positive, negative = self._mean(name), self._mean(f"{stem}cosine/negative")
            if positive - negative < SAME_COSINE:
                found.append(
                    (
                        f"cosine {stem}",
                        f"{stem}cosine of matching pairs ({positive:.3f}) is no higher than that of other pairs ({negative:.3f}) after {step} steps: "
                        f"the embeddings do not tell them apart",
                    )
                )
        return found

    def _collapsed(self, values: Mapping[str, float]) -> list[tuple[str, str]]:
        found = []
        for name, value in values.items():
            if "/spread/" not in f"/{name}":
                continue
            self._low[name] = self._low.get(name, 0) + 1 if value < COLLAPSED_SPREAD else 0
            if self._low[name] >= COLLAPSED_LOGS:
                found.append(
                    (
                        f"collapse {name}",
                        f"{name} is {value:.3f} (1 is an even spread): the embeddings have collapsed, nearly every input gets the same one. "
                        f"Try a lower train.lr, a longer train.warmup or a larger batch",
                    )
                )
        return found

    def _mean(self, name: str) -> float:
        total, steps = self._means[name]
        return total / steps
