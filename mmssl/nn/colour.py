"""Brightness, contrast, saturation and hue of whole clips: torchvision's chain exactly, or as one affine map of RGB.

Every one of the four is (nearly) an affine map of RGB, so a clip's whole chain, in whatever order was drawn, is one 3x4 matrix
and costs one pass over the pixels. What the matrix leaves out: torchvision clamps to 0..1 after each link, the matrix only at the
end; contrast pivots on the mean of the clip, not of each frame; and hue turns RGB about the grey axis, where torchvision turns
HSV (the two agree at multiples of 120 degrees). `tests/test_augment.py` states how far apart they are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of grey
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the numbering of ColourDraw.order


class ColourDraw(NamedTuple):
    """One draw for each of N clips, on the host."""

    brightness: Tensor  # (N,) factor, 1 changes nothing
    contrast: Tensor  # (N,) factor
    saturation: Tensor  # (N,) factor
    hue: Tensor  # (N,) in turns, -0.5..0.5, 0 changes nothing
    order: Tensor  # (N, 4) int64: which link comes first, second, ...
    grey: Tensor  # (N,) bool: grey at the end
    dropped: Tensor  # (N,) int64: the channel that is black at the end, -1: none


def colour_exact(x: Tensor, draw: ColourDraw) -> Tensor:
    """Apply `torchvision.transforms.v2.functional`'s own functions clip by clip; `x` float (N, T, 3, H, W) in 0..1."""
    return torch.stack([_chain(clip, draw, row) for row, clip in enumerate(x)])


def _chain(clip: Tensor, draw: ColourDraw, row: int) -> Tensor:
    for link in draw.order[row].tolist():
        if link == BRIGHTNESS:
            clip = tv.adjust_brightness(clip, draw.brightness[row].item())
        elif link == CONTRAST:
            clip = tv.adjust_contrast(clip, draw.contrast[row].item())
        elif link == SATURATION:
            clip = tv.adjust_saturation(clip, draw.saturation[row].item())
        else:
            clip = tv.adjust_hue(clip, draw.hue[row].item())
    if draw.grey[row]:
        clip = tv.rgb_to_grayscale(clip, num_output_channels=3)
    if draw.dropped[row] >= 0:
        keep = torch.ones(3, 1, 1, device=clip.device)
        keep[int(draw.dropped[row])] = 0
        clip = clip * keep
    return clip


def colour_fused(x: Tensor, draw: ColourDraw) -> Tensor:
    """Apply one 3x4 matrix for each clip; `x` uint8 in 0..255 or float in 0..1 (N, T, 3, H, W) -> float32 in 0..1."""
    whole = 255.0 if x.dtype == torch.uint8 else 1.0
    y = x.float()
    matrix = colour_matrix(draw, y.mean((1, 3, 4)) / whole)
    planes = y.flatten(3).flatten(0, 1)  # (N*T, 3, H*W)
    frames = x.shape[1]
    turn = (matrix[:, :, :3] / whole).repeat_interleave(frames, 0)
    shift = matrix[:, :, 3:].repeat_interleave(frames, 0)
    return torch.baddbmm(shift, turn, planes).clamp_(0, 1).view(x.shape)


def colour_matrix(draw: ColourDraw, mean: Tensor) -> Tensor:
    """The maps of N clips whose mean colours are `mean` (N, 3) -> (N, 3, 4), columns R, G, B, 1, on the device of `mean`."""
    device = mean.device
    draw = ColourDraw(*(part.to(device, non_blocking=True) for part in draw))
    eye = torch.eye(3, device=device)
    luma = torch.tensor(LUMA, device=device)
    grey = luma.expand(3, 3)  # every row gives grey
    saturation = eye * draw.saturation[:, None, None] + grey * (1 - draw.saturation[:, None, None])
    linear = {BRIGHTNESS: eye * draw.brightness[:, None, None], CONTRAST: eye * draw.contrast[:, None, None]}
    linear |= {SATURATION: saturation, HUE: _turn(draw.hue)}
    total = eye.expand(len(mean), 3, 3)
    shift = torch.zeros_like(mean)
    for place in range(4):
        link = draw.order[:, place]
        step = sum((link == kind)[:, None, None] * matrix for kind, matrix in linear.items())
        pivot = ((total @ mean[:, :, None]).squeeze(2) + shift) @ luma  # mean grey so far: contrast turns about it
        total = step @ total
        shift = (step @ shift[:, :, None]).squeeze(2) + ((link == CONTRAST) * (1 - draw.contrast) * pivot)[:, None]
    last = (
        torch.where(draw.grey[:, None, None], grey, eye) * (torch.arange(3, device=device) != draw.dropped[:, None])[:, :, None]
    )
    return last @ torch.cat([total, shift[:, :, None]], 2)


def _turn(hue: Tensor) -> Tensor:
    """Rotations (N, 3, 3) of RGB about the grey axis by `hue` turns (Rodrigues' formula)."""
    angle = hue * (2 * math.pi)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    eye = torch.eye(3, device=hue.device)
    third = torch.full((3, 3), 1 / 3, device=hue.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=hue.device) / math.sqrt(3)
    return cosine * eye + (1 - cosine) * third + sine * cross
