"""Errors between pictures: absolute or squared differences, differences of gradients, peak signal-to-noise ratio.

Mathieu, Couprie, LeCun, "Deep Multi-Scale Video Prediction Beyond Mean Square Error", ICLR 2016, arXiv:1511.05440, equations 5 and 6 (means
here where the paper has sums, so that the size of a picture does not matter).
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1.0 / 255**2 / 12  # mean squared error of rounding to 8 bits: no finer difference can be meant


def pixel_error(x: Tensor, y: Tensor, *, power: int) -> Tensor:
    """Mean of |x - y|^power over colours and places: (..., 3, H, W) -> (...)."""
    difference = (x - y).abs()
    return (difference if power == 1 else difference**power).mean((-3, -2, -1))


def gradient_difference(x: Tensor, y: Tensor) -> Tensor:
    """How far the absolute differences of neighbouring pixels differ: mean over vertical ones, plus mean over horizontal ones (...)."""
    total = torch.zeros_like(x[..., 0, 0, 0])
    for axis in (-2, -1):
        steps = (x.diff(dim=axis).abs() - y.diff(dim=axis).abs()).abs()
        total = total + steps.mean((-3, -2, -1))
    return total


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of pictures in 0..1: (..., 3, H, W) -> (...). At most 58.9 dB, the noise of 8-bit rounding."""
    return -10.0 * torch.log10(pixel_error(x, y, power=2).clamp(min=ROUNDING))
