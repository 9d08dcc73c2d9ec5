"""Held-out metrics: every objective on the same rows each time, without a trace in the model or in the training's randomness."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from mmssl.rng import Purpose, seed_for
from mmssl.training.ema import Ema
from mmssl.training.model import Pretraining, to_device
from mmssl.training.parallel import Ranks, mean_over_ranks
from mmssl.training.shards import drop_gathered
from mmssl.training.stepping import Batches, autocast, loss_metrics, rows_in


class Evaluation:
    """Runs all objectives in eval mode on the first `rows` rows of a held-out loader, rounded up to whole batches.

    Randomness (an objective that draws masks, say) has its own address, so figures of different steps compare.
    """

    def __init__(self, loader: Batches, *, rows: int, seed: int, ranks: Ranks, dtype: str) -> None:
        self._loader, self._rows, self._seed, self._ranks, self._dtype = loader, rows, seed, ranks, dtype
        self._batches: int | None = None  # known after the first run

    @torch.no_grad()
    def run(self, model: Pretraining, ema: Ema | None) -> dict[str, float]:
        """Mean metrics, `eval/<objective>/<metric>` and `eval/rows`, over all ranks."""
        averages: AbstractContextManager[None] = ema.in_place() if ema is not None else nullcontext()
        was_training = model.training
        model.eval()
        drop_gathered(model)
        try:
            with averages:
                return self._mean_metrics(model)
        finally:
            drop_gathered(model)
            model.train(was_training)

    def _mean_metrics(self, model: Pretraining) -> dict[str, float]:
        reports: list[dict[str, torch.Tensor]] = []
        seen, count = 0, 0
        batches = self._loader.steps(0, self._batches or self._rows)
        for index, batch in enumerate(batches):
            for place, micro in enumerate(batch.micro):
                torch.manual_seed(seed_for(self._seed, Purpose.EVALUATE, index, place, self._ranks.rank))
                with autocast(self._ranks.device, self._dtype):
                    total, losses = model(to_device(micro, self._ranks.device))
                reports.append(loss_metrics(total, losses))
                seen += rows_in(micro, least=True) * self._ranks.world
            count = index + 1
            if seen >= self._rows:
                break
        close = getattr(batches, "close", None)
        if close is not None:
            close()
        self._batches = count
        names = list(reports[0])
        table = torch.stack([torch.stack([report[name].float() for name in names]) for report in reports]).double().mean(0)
        means = mean_over_ranks(table, self._ranks).tolist()
        return {**{f"eval/{name}": value for name, value in zip(names, means, strict=True)}, "eval/rows": float(seen)}
