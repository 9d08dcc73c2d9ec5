"""The encoders as objectives see them in one step: by role, with a memo so that a shared input is encoded once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping

from torch import Tensor

from mmssl.encoders.base import Encoder
from mmssl.types import Features


class EncoderBank(Mapping[str, Encoder]):
    """Role -> encoder, and `encode` with a memo. Made afresh for each forward pass; keeps nothing between steps.

    Objectives whose views are equal hold the very same input tensors. Encoding them through the bank costs one pass.
    """

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        self._encoders = encoders
        self._memo: dict[tuple[str, int, Hashable], tuple[Tensor, Features]] = {}

    def encode(self, role: str, x: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Features:
        """Encode `x` with the encoder of `role`, after `augment` where one is given.

        `augment` must be hashable (a frozen dataclass); equal ones on the same tensor are applied once and shared.
        """
        key = (role, id(x), augment)
        if key not in self._memo:
            features = self._encoders[role](x if augment is None else augment(x))
            self._memo[key] = (x, features)  # holding x keeps its id from being reused
        return self._memo[key][1]

    def __getitem__(self, role: str) -> Encoder:
        return self._encoders[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._encoders)

    def __len__(self) -> int:
        return len(self._encoders)
