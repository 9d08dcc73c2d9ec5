"""Means of metrics between two log lines, summed on the device: the host fetches them only when it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmssl.training.parallel import Ranks, mean_over_ranks


class Meter:
    """Sums of scalars since the last `take`. Skipped steps do not count. The sums are part of a checkpoint."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Objectives may report other metrics at another stage of a curriculum, so there is a row of sums for each set of names.
        self._sums: dict[tuple[str, ...], Tensor] = {}  # names -> (names + 1,) float64, the last is how many steps

    @torch.no_grad()
    def add(self, micro: Sequence[Mapping[str, Tensor]], ok: Tensor) -> None:
        """Count one step: the mean over its micro-batches, if `ok` (bool scalar on the device) holds."""
        names = tuple(micro[0])
        rows = torch.stack([torch.stack([report[name].detach().float() for name in names]) for report in micro])
        values = torch.cat([rows.double().mean(0), torch.ones(1, dtype=torch.float64, device=self._device)])
        values = torch.where(ok, values, 0.0)
        self._sums[names] = self._sums[names] + values if names in self._sums else values

    def take(self, ranks: Ranks) -> dict[str, float]:
        """Means since the last call, over all ranks; a metric of skipped steps only is absent. Waits for the device."""
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, sums in self._sums.items():
            *values, count = mean_over_ranks(sums, ranks).tolist()
            for name, value in zip(names, values, strict=True):
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0.0) + count
        self._sums = {}
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}

    def state(self) -> list[Any]:
        """The sums as JSON values (exact: float64 survives its shortest decimal form)."""
        return [[list(names), sums.tolist()] for names, sums in self._sums.items()]

    def load(self, state: Sequence[Any]) -> None:
        """Take the sums of a checkpoint."""
        self._sums = {tuple(names): torch.tensor(sums, dtype=torch.float64, device=self._device) for names, sums in state}
