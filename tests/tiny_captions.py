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


def timelines(
    rows: int, seed: int, *, linked: bool = True, steps: int = 8, captions: int = 3, hop: float = 0.5
) -> dict[str, Tensor]:
    """Windows whose steps show what the caption of that time names, two steps or more for each; cut: captions that name any kind.

    Each row's kinds differ from one another. Steps before the first caption show nothing.
    """
    g = torch.Generator().manual_seed(seed)
    kinds = torch.rand(rows, KINDS, generator=g).argsort(dim=1)[:, :captions]
    said = kinds if linked else torch.rand(rows, KINDS, generator=g).argsort(dim=1)[:, :captions]
    count = torch.randint(2, captions + 1, (rows,), generator=g)
    free = steps - 2 * count
    first = (torch.rand(rows, generator=g) * (free + 1)).long()
    batch: dict[str, Tensor] = {}
    shown = torch.full((rows, steps), KINDS)
    for k in range(captions):
        begins = torch.where(k < count, first + 2 * k, first)
        batch[f"start_{k}"], batch[f"end_{k}"] = begins * hop, (begins + 2) * hop
        for late in range(2):
            there = (k < count)[:, None] & (torch.arange(steps) == (begins + late)[:, None])
            shown = torch.where(there, kinds[:, k : k + 1], shown)
    video = pictures(shown % KINDS, g)
    nothing = (127 + 20 * torch.randn(video.shape, generator=g)).clamp(0, 255).to(torch.uint8)
    video = torch.where((shown == KINDS)[..., None, None, None], nothing, video)
    return {**batch, "video": video, "text": sentences(said, g), "captions": count, "source": torch.arange(rows) + 1000 * seed}
