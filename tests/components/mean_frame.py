"""The smallest frame encoder, living outside mmssl: mean colour, then one linear layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.types import Features, InputSpec


@dataclass(frozen=True)
class Norm:
    """A nested dataclass of options."""

    mean: float = 0.5
    scales: tuple[float, ...] = (1.0, 1.0)


class MeanFrame(Encoder):
    modality = "frame"

    def __init__(self, *, dim: int = 8, size: int = 16, norm: Norm = Norm(), extra: Norm | None = None) -> None:
        super().__init__(dim=dim, spec=InputSpec(size=size), arguments={"dim": dim, "size": size})
        self.norm, self.extra = norm, extra
        self.linear = nn.Linear(3, dim)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        grid = self.linear(x.float().movedim(2, -1) / 255 - self.norm.mean)
        return Features(grid.mean((1, 2, 3)), grid + 0)
