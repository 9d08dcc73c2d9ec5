"""Synthetic batches of clips with captions: a kind is a pattern in the picture and a word in the text, or, with the link cut, any word."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.tiny_av import CELL, KINDS, PAD, SIZE, TINY_WORDS

WORD = 8  # the word of kind k is token WORD + k
LENGTH = 8  # tokens of a text


def pictures(kinds: Tensor, g: torch.Generator) -> Tensor:
    """(N, T) kinds -> uint8 (N, T, 3, SIZE, SIZE): noise, and in one cell of each picture the pattern of its kind."""
    patterns = torch.randint(2, (KINDS, 3, CELL, CELL), generator=torch.Generator().manual_seed(77)).float()
    n, t = kinds.shape
    side = SIZE // CELL
    cells = 0.5 + 0.1 * torch.randn(n * t, side**2, 3, CELL, CELL, generator=g)
    cells[torch.arange(n * t), torch.randint(side**2, (n * t,), generator=g)] = patterns[kinds.flatten()]
    video = cells.view(n * t, side, side, 3, CELL, CELL).permute(0, 3, 1, 4, 2, 5).reshape(n, t, 3, SIZE, SIZE)
    return (video.clamp(0, 1) * 255).to(torch.uint8)


def sentences(kinds: Tensor, g: torch.Generator) -> Tensor:
    """(...) kinds -> int64 (..., LENGTH): the kind's word among others, of different length, padded."""
    shape = kinds.shape
    ids = torch.full((*shape, LENGTH), PAD)
    others = torch.randint(WORD + KINDS, TINY_WORDS.size, (*shape, LENGTH), generator=g)
    count = torch.randint(3, LENGTH - 1, shape, generator=g)[..., None]
    place = torch.arange(LENGTH)
    ids = torch.where((place > 0) & (place <= count), others, ids)
    ids = torch.where(place == count + 1, TINY_WORDS.sep, ids)
    said = 1 + (torch.rand(shape, generator=g)[..., None] * count).long()
    ids = torch.where(place == said, (WORD + kinds)[..., None], ids)
    ids[..., 0] = TINY_WORDS.cls
    return ids


def bags(rows: int, seed: int, *, linked: bool = True, candidates: int = 3, off: float = 0.0) -> dict[str, Tensor]:
    """Clips with bags of captions. One of the bag names the kind, the others name any; with probability `off` the first does not."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(KINDS, (rows,), generator=g)
    said = torch.randint(KINDS, (rows, candidates), generator=g)
    place = torch.where(torch.rand(rows, generator=g) < off, torch.randint(1, max(2, candidates), (rows,), generator=g), 0)
    if linked:
        said[torch.arange(rows), place] = kind
    return {
        "video": pictures(kind[:, None], g),
        "text": sentences(said, g),
        "captions": torch.full((rows,), candidates),
        "time": torch.zeros(rows),
        "source": torch.arange(rows) + 1000 * seed,
        "kind": kind,
    }
