"""Clips of things that change places from frame to frame, with the truth of who went where: 4 x 4 cells of 4 px, as the tiny encoder sees them."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor

from tests.tiny_av import CELL, SIZE

SIDE = SIZE // CELL
CELLS = SIDE**2
COLOURS = torch.tensor([(35.0, 30.0), (-35.0, 30.0), (30.0, -35.0), (-25.0, -20.0)])  # a and b


def moving(
    rows: int, seed: int, *, frames: int = 3, linked: bool = True, still: bool = False, veil: float = 0.0
) -> dict[str, Tensor]:
    """A batch in which each of 16 textures keeps its colour while all are shuffled over the cells of each frame.

    `linked=False` draws colours and textures anew for each frame; `still` moves nothing. `veil`: lightness by which
    each cell of each frame is lifted or darkened at random, so that most of what a cell looks like is no help. `place` (n, T, 16) is the cell of each thing. Textures are
    lightness alone, colours are equally light: no colour can be told from a grey picture but by finding the texture again.
    """
    g = torch.Generator().manual_seed(seed)
    shape = (rows, frames if not linked else 1, CELLS)
    texture = torch.randint(2, (*shape, CELL, CELL), generator=g).float().expand(rows, frames, -1, -1, -1)
    colour = COLOURS[torch.randint(len(COLOURS), shape, generator=g)].expand(rows, frames, -1, -1)
    place = torch.rand(rows, 1 if still else frames, CELLS, generator=g).argsort(2).expand(rows, frames, -1)
    lightness = 35 + 35 * texture + 2 * torch.randn(rows, frames, CELLS, CELL, CELL, generator=g)
    if veil:
        lightness = 55 + 0.6 * (lightness - 52.5) + veil * (2 * torch.rand(rows, frames, CELLS, 1, 1, generator=g) - 1)
    lab = torch.cat([lightness[:, :, :, None], colour[..., None, None].expand(-1, -1, -1, -1, CELL, CELL)], dim=3)
    return {"video": assemble(rgb(lab), place), "place": place, "source": torch.arange(rows) + 1000 * seed}


def faint(rows: int, seed: int, *, frames: int = 3, linked: bool = True) -> dict[str, Tensor]:
    """Like `moving`, but the textures are green, under strong noise in red and blue: to follow them, what to look at must be learnt."""
    g = torch.Generator().manual_seed(seed)
    texture = torch.randn(rows, 1 if linked else frames, CELLS, CELL, CELL, generator=g).expand(rows, frames, -1, -1, -1)
    place = torch.rand(rows, frames, CELLS, generator=g).argsort(2)
    pieces = 0.5 + 0.3 * torch.randn(rows, frames, CELLS, 3, CELL, CELL, generator=g)
    pieces[:, :, :, 1] = 0.5 + 0.25 * texture
    video = assemble((pieces.clamp(0, 1) * 255).to(torch.uint8), place)
    return {"video": video, "place": place, "source": torch.arange(rows) + 1000 * seed}


def assemble(pieces: Tensor, place: Tensor) -> Tensor:
    """Pieces (n, T, 16, 3, 4, 4), thing by thing, put where they are -> frames (n, T, 3, 16, 16)."""
    put = torch.zeros_like(pieces).scatter(2, place[..., None, None, None].expand_as(pieces), pieces)
    rows, frames = put.shape[:2]
    return put.view(rows, frames, SIDE, SIDE, 3, CELL, CELL).permute(0, 1, 4, 2, 5, 3, 6).reshape(rows, frames, 3, SIZE, SIZE)


def rgb(lab: Tensor) -> Tensor:
    """Lab (..., 3, h, w) -> uint8."""
    flat = lab.movedim(-3, -1).contiguous()
    pixels = cv2.cvtColor(flat.view(-1, 1, 3).numpy(), cv2.COLOR_LAB2RGB)
    return (torch.from_numpy(pixels).view(flat.shape).movedim(-1, -3).clamp(0, 1) * 255).round().to(torch.uint8)
