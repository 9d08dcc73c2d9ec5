"""The exponential moving average of the weights, which evaluation and export use.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmssl.training.shards import local, sharded_like


class Ema:
    """Averages of all trainable parameters, and of the floating-point buffers of batch norms (they belong to the weights).

    Queues and other memory of objectives are not averaged. Sharded parameters have sharded averages.
    """

    def __init__(self, model: nn.Module) -> None:
        self._live = averaged(model)
        self.average = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move to `decay * average + (1 - decay) * current`."""
        torch._foreach_lerp_(_locals(self.average), _locals(self._live), 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this block the model holds the averages; afterwards exactly the weights that it held before."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def load(self, full: Mapping[str, Tensor]) -> None:
        """Take the averages from whole tensors by name."""
        for name, tensor in full.items():
            local(self.average[name]).copy_(local(sharded_like(tensor, self.average[name])))

    @torch.no_grad()
    def _swap(self) -> None:
        for live, average in zip(_locals(self._live), _locals(self.average), strict=True):
            kept = live.detach().clone()
            live.copy_(average)
            average.copy_(kept)


def averaged(model: nn.Module) -> dict[str, Tensor]:
    """What of a model is averaged, by name."""
    found: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    found[f"{prefix}.{name}"] = buffer
    return found


def _locals(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [local(tensor.detach()) for tensor in tensors.values()]
