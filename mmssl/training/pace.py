"""How fast a run goes, and how much of the time it stands still for data. Figures for people: nothing depends on them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Pace:
    """Counts rows, steps and waiting since the last `read`; what happens under `paused` (saving, evaluating) is left out."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.restart()

    def restart(self) -> None:
        """Forget what was counted and start the clock."""
        self._since, self._waited, self._rows, self._steps = time.perf_counter(), 0.0, 0, 0

    def count(self, rows: int, waited: float) -> None:
        """One step of `rows` rows (all ranks), before which the loop stood still for `waited` seconds."""
        self._rows, self._waited, self._steps = self._rows + rows, self._waited + waited, self._steps + 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of this block out."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - begin

    def read(self) -> dict[str, float]:
        """`speed/...` since the last call. On a GPU it means what it says only after something waited for the device."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        values = {
            "speed/clips_per_second": self._rows / seconds,
            "speed/seconds_per_step": seconds / max(1, self._steps),
            "speed/data_wait": self._waited / seconds,
            "speed/memory_gb": memory_gb(self._device),
        }
        self.restart()
        return values


def memory_gb(device: torch.device) -> float:
    """Most memory that was in use: of the GPU by tensors, else by this process; NaN where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most / 1e6  # bytes there, kilobytes here
