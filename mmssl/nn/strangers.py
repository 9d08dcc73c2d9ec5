"""Rows of a batch that come from other sources: who a row is compared with, where what it shares with anyone is to be told from what is its own."""

from __future__ import annotations

import torch
from torch import Tensor


def stranger_rows(source: Tensor, preference: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the row of another source that it prefers most: (N,) row numbers, and (N,) bool, False where there is none.

    `source` (N,), `preference` (N, N).
    """
    others = source[:, None] != source[None, :]
    return preference.masked_fill(~others, float("-inf")).argmax(dim=1), others.any(dim=1)


def next_stranger(source: Tensor) -> tuple[Tensor, Tensor]:
    """As `stranger_rows`: the next row, cyclically, of another source. No chance in it."""
    place = torch.arange(len(source), device=source.device)
    ahead = (place[None, :] - place[:, None]) % len(source)
    return stranger_rows(source, -ahead.float())
