"""What training and evaluation share about one micro-batch: the loader's protocol, autocast, metrics by name, row counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mmssl.types import Loss

Micro = Mapping[str, Mapping[str, Tensor]]  # objective -> key -> (N, ...)


class Step(Protocol):
    """What one optimizer step consumes; `mmssl.data.loader.StepBatch` is one."""

    @property
    def micro(self) -> Sequence[Micro]:
        """Micro-batches, one for each accumulation."""
        ...

    @property
    def replaced(self) -> Sequence[str]:
        """A reason for each file that could not serve."""
        ...


class Batches(Protocol):
    """Where batches come from; `mmssl.data.loader.Loader` is one. Content is a pure function of (seed, step, micro, rank)."""

    def steps(self, start: int, stop: int) -> Iterator[Step]:
        """The batches of steps start, ..., stop - 1."""
        ...


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    """bfloat16 autocast, or a context that changes nothing for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")


def loss_metrics(total: Tensor, losses: Mapping[str, Loss]) -> dict[str, Tensor]:
    """Detached scalars: `loss` (the weighted sum), `<objective>/loss`, `<objective>/<metric>`."""
    metrics = {"loss": total.detach()}
    for name, loss in losses.items():
        metrics[f"{name}/loss"] = loss.value.detach()
        metrics.update({f"{name}/{key}": value for key, value in loss.metrics.items()})
    return metrics


def rows_in(micro: Micro, *, least: bool = False) -> int:
    """Rows of a micro-batch on this rank: over all streams (objectives of one stream share it), or of its smallest stream."""
    columns = [values["source"] if "source" in values else next(iter(values.values())) for values in micro.values()]
    lengths = {id(column): len(column) for column in columns}
    return min(lengths.values()) if least else sum(lengths.values())
