"""Steps whose loss or gradient is not finite are undone on the device, counted, and end the run when they do not stop.

The host does not wait for the verdict: the optimizer is told on the device (see `optim.step_where`), and what the forward pass
and `after_step` did to buffers (batch-norm statistics, queues, teachers) is put back by a selection on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmssl.training.errors import RunError
from mmssl.training.model import Pretraining
from mmssl.training.parallel import Ranks, on_all_ranks
from mmssl.training.shards import local


class NonFinite:
    """Keeps what a bad step must not change, and counts bad steps: in all, in a row, and by the objective that caused them."""

    def __init__(self, model: Pretraining, device: torch.device) -> None:
        frozen = [p for p in model.parameters() if not p.requires_grad]  # a momentum teacher moves in after_step
        self._live = [local(tensor.detach()) for tensor in [*model.buffers(), *frozen]]
        self._held = [tensor.clone() for tensor in self._live]
        self._names = ["gradient", *model.objectives]
        self._finite = torch.ones(len(self._names), dtype=torch.bool, device=device)
        self._counts = torch.zeros(
            3 + len(self._names), dtype=torch.int64, device=device
        )  # total, in a row, longest row, by cause

    @torch.no_grad()
    def hold(self) -> None:
        """Before a step: remember buffers and frozen parameters."""
        if self._live:
            torch._foreach_copy_(self._held, self._live)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def judge(self, norm: Tensor, losses: Sequence[Mapping[str, Tensor]], ranks: Ranks) -> Tensor:
        """Whether a step is good (bool scalar on the device): its gradient norm and all losses are finite, on every rank.

        `losses` are each micro-batch's loss values by objective.
        """
        by_objective = [torch.stack([micro[name].detach() for micro in losses]).isfinite().all() for name in self._names[1:]]
        self._finite = on_all_ranks(torch.stack([norm.isfinite(), *by_objective]), ranks)
        return self._finite.all()

    @torch.no_grad()
    def settle(self, ok: Tensor) -> None:
        """After a step: put back what `hold` remembered unless `ok`, and count."""
        if not (ok.device.type == "cpu" and bool(ok)):  # on the CPU reading the flag costs nothing
            for live, held in zip(self._live, self._held, strict=True):
                live.copy_(torch.where(ok, live, held))
        total, row, longest = self._counts[:3].unbind()
        row = torch.where(ok, 0, row + 1)
        # A loss that is not finite makes the gradient so too: the gradient is to blame where all losses are finite.
        causes = torch.cat([(~self._finite[:1]) & self._finite[1:].all(), ~self._finite[1:]])
        self._counts.copy_(torch.cat([torch.stack([total + ~ok, row, torch.maximum(longest, row)]), self._counts[3:] + causes]))

    @property
    def total(self) -> int:
        """Steps skipped since the run began (waits for the device)."""
        return int(self._counts[0])

    def check(self, step: int, limit: int) -> None:
        """Raise `RunError` where `limit` steps in a row were bad (waits for the device)."""
        total, _, longest, *causes = self._counts.tolist()
        if longest >= limit:
            worst = max(range(len(causes)), key=causes.__getitem__)
            what = "the gradient" if worst == 0 else f"the loss of {self._names[worst]}"
            raise RunError(
                f"{what} was not finite in {longest} steps in a row (limit train.max_nonfinite = {limit}), seen at step {step}; "
                f"{total} steps were skipped in all and none of them changed the model. "
                f"Lower train.lr, lengthen train.warmup, or set train.dtype to float32"
            )

    def state(self) -> list[int]:
        """The counts, for a checkpoint."""
        return self._counts.tolist()

    def load(self, state: Sequence[int]) -> None:
        """Take the counts of a checkpoint."""
        self._counts.copy_(torch.tensor(state))
