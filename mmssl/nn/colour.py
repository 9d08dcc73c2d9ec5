"""Brightness, contrast, saturation and hue of whole clips: torchvision's chain exactly, or as one affine map of RGB.

Every one of the four is (nearly) an affine map of RGB, so a clip's whole chain, in whatever order was drawn, is one 3x4 matrix
and costs one pass over the pixels. What the matrix leaves out: torchvision clamps to 0..1 after each link, the matrix only at the
end; contrast pivots on the mean of the clip, not of each frame; and hue turns RGB about the grey axis, where torchvision turns
HSV (the two agree at multiples of 120 degrees). At `FrameAugment`'s default strengths the mean difference is 0.03 of the range on
fully saturated pictures, and 0.006 without hue (`tests/test_augment.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of grey
CACHED = 2**18  # float32 numbers: 1 MiB
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the numbering of ColourDraw.order

_EYE = np.eye(3, dtype=np.float32)
_GREY = np.tile(np.array(LUMA, np.float32), (3, 1))  # every row gives grey
_CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.float32(math.sqrt(3))  # product with the grey axis


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


def colour_maps(draw: ColourDraw) -> Tensor:
    """Each clip's whole chain as `A @ rgb + B @ mean`, `mean` being the clip's mean colour -> float32 (N, 3, 6): A beside B, on the host.

    Reckoned in NumPy, whose calls take a quarter of the time of torch's for so few numbers.
    """
    brightness, contrast, saturation = (value.numpy()[:, None, None] for value in draw[:3])
    links = np.zeros((len(contrast), 4, 6, 6), np.float32)  # what a link makes of a pixel's colour, above that of the mean colour
    of_itself, of_mean, meanwhile = links[:, :, :3, :3], links[:, :, :3, 3:], links[:, :, 3:, 3:]
    of_itself[:, BRIGHTNESS] = _EYE * brightness
    of_itself[:, CONTRAST] = _EYE * contrast
    of_itself[:, SATURATION] = _EYE * saturation + _GREY * (1 - saturation)
    of_itself[:, HUE] = _turn(draw.hue.numpy())
    of_mean[:, CONTRAST] = (1 - contrast) * _GREY  # contrast turns about the mean colour's grey
    meanwhile[:] = of_itself + of_mean  # the same link changes the mean colour
    rows = np.arange(len(links))
    first, second, third, fourth = (links[rows, which] for which in draw.order.numpy().T)
    last = np.where(draw.grey.numpy()[:, None, None], _GREY, _EYE) * (np.arange(3) != draw.dropped.numpy()[:, None])[:, :, None]
    return torch.from_numpy((last @ (fourth @ third @ second @ first)[:, :3]).astype(np.float32, copy=False))


def colour_fused(x: Tensor, maps: Tensor, out: Tensor) -> None:
    """Apply `colour_maps` (on the device of `x`) to `x`, uint8 or float in 0..1 (N, T, 3, H, W), into `out` of the same type and shape.

    On a CPU both are quickest where the colours of a pixel lie side by side, as the loader's pictures have them; uint8 comes out within
    a grey level of the rounded product there, OpenCV reckoning with 10 bits behind the point.
    """
    if x.device.type == "cpu":
        for clip, of_clip, into in zip(x, maps, out, strict=True):
            _fused_in_cache(clip, of_clip, into)
        return
    planes = x.flatten(3).float()
    shift = maps[:, :, 3:] @ planes.mean((1, 3))[:, :, None]  # (N, 3, 1)
    frames = x.shape[1]
    turned = torch.baddbmm(shift.repeat_interleave(frames, 0), maps[:, :, :3].repeat_interleave(frames, 0), planes.flatten(0, 1))
    if x.dtype == torch.uint8:
        turned = turned.clamp_(0, 255).round_()
    else:
        turned = turned.clamp_(0, 1)
    out.copy_(turned.view(x.shape))


def _fused_in_cache(clip: Tensor, maps: Tensor, out: Tensor) -> None:
    """One clip (T, 3, H, W) on a CPU. OpenCV's product of pixels and a matrix takes a tenth of the time of torch's, which gains nothing from
    an inner size of 3. uint8 goes straight into `out`; of anything else a few frames at a time, so that what is between two operations stays
    in the CPU's cache."""
    pixels, into = clip.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1)
    frames, height, width = pixels.shape[:3]
    straight = clip.dtype == torch.uint8 and into.is_contiguous()
    few = frames if straight else max(1, CACHED // pixels[0].numel())
    parts = [slice(start, start + few) for start in range(0, frames, few)]
    pictures = [pixels[part].reshape(-1, width, 3).contiguous().numpy() for part in parts]
    # In NumPy: torch's calls for this dozen of numbers took a fifth of the time of the whole.
    total = np.sum([np.multiply(cv2.mean(picture)[:3], len(picture)) for picture in pictures], 0)
    links = maps.numpy()
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3], matrix[:, 3] = links[:, :3], links[:, 3:] @ (total / (frames * height))
    if straight:  # clamped and rounded by OpenCV
        cv2.transform(pictures[0], matrix, dst=into.view(-1, width, 3).numpy())
        return
    for part, picture in zip(parts, pictures, strict=True):
        turned = torch.from_numpy(cv2.transform(picture, matrix)).view(-1, height, width, 3).permute(0, 3, 1, 2)
        if clip.dtype == torch.uint8:
            out[part] = turned
        else:
            torch.clamp(turned, 0, 1, out=out[part])


def _turn(hue: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) of RGB about the grey axis by `hue` turns (Rodrigues' formula)."""
    angle = hue[:, None, None] * np.float32(2 * math.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * _EYE + (1 - cosine) / 3 + sine * _CROSS
