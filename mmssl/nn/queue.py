"""A queue of past embeddings that serve as negatives.

He et al., "Momentum Contrast", CVPR 2020, arXiv:1911.05722; without the momentum encoder here, so keep it to a few steps' rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RowQueue(nn.Module):
    """The last `size` rows of one or more kinds, with the source each came from. First in, first out.

    All of it is in persistent buffers: a resumed run goes on with the same negatives. `ids` is -1 where nothing was pushed yet.
    Push the rows of all ranks in global order, then the queue is the same on every rank.
    """

    ids: Tensor
    place: Tensor

    def __init__(self, size: int, **dims: int) -> None:
        super().__init__()
        self.size = size
        self.kinds = tuple(dims)
        for kind, dim in dims.items():
            self.register_buffer(f"rows_{kind}", torch.zeros(size, dim))
        self.register_buffer("ids", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))  # of the oldest row, which is overwritten next

    def rows(self, kind: str) -> Tensor:
        """Embeddings (size, dim) of a kind; a copy, because a later push must not change what a backward pass still needs."""
        return self.get_buffer(f"rows_{kind}").clone()

    def usable(self, source: Tensor) -> Tensor:
        """Which entries may serve as negatives of rows of `source` (n,) -> (n, size) bool: filled, and of another source."""
        return (self.ids >= 0) & (self.ids != source[:, None])

    @torch.no_grad()
    def push(self, source: Tensor, **rows: Tensor) -> None:
        """Put in rows (n, dim) of every kind, in order; of more than `size`, the last ones."""
        if sorted(rows) != sorted(self.kinds):
            raise ValueError(f"the queue holds {sorted(self.kinds)}, got {sorted(rows)}")
        pushed = len(source)
        start = max(0, pushed - self.size)
        where = (self.place + torch.arange(start, pushed, device=self.place.device)) % self.size
        self.ids.index_copy_(0, where, source[start:].to(self.ids))
        for kind, values in rows.items():
            buffer = self.get_buffer(f"rows_{kind}")
            buffer.index_copy_(0, where, values[start:].to(buffer))
        self.place.copy_((self.place + pushed) % self.size)
