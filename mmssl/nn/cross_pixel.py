"""Cells of a picture that move alike should be embedded alike.

Mahendran, Thewlis, Vedaldi, "Cross Pixel Optical-Flow Similarity for Self-Supervised Learning", ACCV 2018, arXiv:1807.05636, section 3.

N clips, T times of the features' grid, C cells at one time, M of them drawn, E encoder features, D joint features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import TIE

COMPARED = 16  # cells of a picture between which `agreement` compares: its triples are their number cubed
CLEAR = 0.2  # difference of two flow similarities (0..1) from which on one pair of cells clearly moves more alike than another


class CrossPixel(NamedTuple):
    """What `cross_pixel` finds for each picture (N, T)."""

    loss: Tensor
    moving: Tensor  # bool: something in it moves otherwise than something else
    floor: Tensor  # the least loss that there could be: the entropy of the target


def draw_cells(grid: Tensor, flow: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Draw cells of each picture, and the flow that they have: (N, T, M, E) and (N, T, M, 2), M = min(count, C).

    Args:
        grid: (N, T, H, W, E) features.
        flow: (N, T', 2, h, w), evenly spread over the same window: a grid's time takes the nearest field, a cell the mean flow of its part of it.
        count: how many cells to draw, without putting back, from torch's generator on the features' device.
    """
    clips, times, rows, columns, width = grid.shape
    nearest = ((torch.arange(times, device=flow.device) + 0.5) * (flow.shape[1] / times)).long()
    pooled = F.adaptive_avg_pool2d(at_least_float32(flow[:, nearest]).flatten(0, 1), (rows, columns))
    vectors = pooled.view(clips, times, 2, rows * columns).transpose(2, 3)
    place = torch.rand(clips, times, rows * columns, device=grid.device).argsort(dim=2)[..., :count, None]
    drawn = grid.flatten(2, 3).gather(2, place.expand(-1, -1, -1, width))
    return drawn, vectors.gather(2, place.expand(-1, -1, -1, 2))


def cross_pixel(embedded: Tensor, flows: Tensor, *, sigma: float, temperature: Tensor | float) -> CrossPixel:
    """Cross-entropy between who moves alike and who is embedded alike, mean over the cells of a picture.

    Args:
        embedded: (N, T, M, D) unit-length embeddings of cells.
        flows: (N, T, M, 2) their flow.
        sigma: width of the Gaussian that makes flow vectors alike, in the flow's unit.
        temperature: of the softmax over cosines.
    """
    with torch.autocast(embedded.device.type, enabled=False):
        cosines = embedded @ embedded.transpose(2, 3)
        apart = _squared_distances(flows)
        own = torch.eye(embedded.shape[2], dtype=torch.bool, device=embedded.device)
        target = (-apart / (2.0 * sigma**2)).masked_fill(own, -torch.inf).softmax(dim=3)
        answer = (cosines / temperature).masked_fill(own, -torch.inf).log_softmax(dim=3).masked_fill(own, 0.0)
        loss = -(target * answer).sum(dim=3).mean(dim=2)
        floor = torch.special.entr(target).sum(dim=3).mean(dim=2)
        return CrossPixel(loss, apart.amax((2, 3)) >= (2.0 * sigma) ** 2, floor)


def uninformed(cells: int) -> float:
    """What equal answers for all other cells pay."""
    return math.log(cells - 1)


def agreement(embedded: Tensor, flows: Tensor, *, sigma: float) -> Tensor:
    """Of cells p, q, r of one picture of which q clearly moves more like p than r does: how often is q's embedding nearer to p's -> (N,).

    Shapes as in `cross_pixel`; at most `COMPARED` cells of a picture take part. Ties count half, a clip without such cells 0.5.
    """
    embedded, flows = embedded[:, :, :COMPARED], flows[:, :, :COMPARED]
    with torch.autocast(embedded.device.type, enabled=False):
        cosines = embedded @ embedded.transpose(2, 3)
        alike = (-_squared_distances(flows) / (2.0 * sigma**2)).exp()
    others = ~torch.eye(embedded.shape[2], dtype=torch.bool, device=embedded.device)
    clear = (alike[..., :, None] - alike[..., None, :] > CLEAR) & others[:, :, None] & others[:, None, :]
    ahead = cosines[..., :, None] - cosines[..., None, :]
    right = torch.where(ahead.abs() <= TIE, 0.5, (ahead > 0).to(cosines.dtype))
    count = clear.flatten(1).sum(dim=1)
    return torch.where(count > 0, (right * clear).flatten(1).sum(dim=1) / count.clamp(min=1), 0.5)


def _squared_distances(flows: Tensor) -> Tensor:
    """(N, T, M, 2) -> (N, T, M, M)."""
    return (flows[:, :, :, None] - flows[:, :, None, :]).square().sum(dim=-1)
