"""Augmentation of whole batches on the device, with one draw for each clip: all its frames change alike.

Draws come from torch's global generator on the host, which the trainer seeds for each micro-batch (`mmssl.rng.seed_step`), so a
resumed run augments as the uninterrupted one would, and a GPU as a CPU; only the noise of `WaveAugment` is drawn on the device.
Nothing here waits for the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from mmssl.nn.colour import ColourDraw, colour_exact, colour_fused, colour_maps


class FrameDraw(NamedTuple):
    """What was drawn for each of N clips, on the host."""

    box: Tensor  # (N, 4) int64: top, left, height, width of the crop in pixels
    flip: Tensor  # (N,) bool
    colour: ColourDraw
    sigma: Tensor  # (N,) pixels of blur, 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAugment:
    """uint8, or float in 0..1, (N, T, 3, H, W) -> the same shape; uint8 stays uint8 (rounded), anything else becomes float32. With every
    strength 0 it is the identity.

    Colours change in random order (Howard 2013, arXiv:1312.5402, as torchvision's ColorJitter).

    Args:
        brightness: strength s; the factor is uniform in 1 - s .. 1 + s (not below 0).
        contrast: likewise.
        saturation: likewise.
        hue: strength s, at most 0.5; turned by uniform -s .. s turns.
        grey: probability of turning grey.
        flip: probability of mirroring left to right.
        drop_channel: probability of blackening one colour channel.
        blur: probability of Gaussian blur.
        blur_sigma: pixels between which the blur's sigma is drawn.
        crop: the smallest share of the area that a random crop keeps, with aspect ratio 3:4 to 4:3, resized to the full size; 1: no crop.
        mode: "fused" does all colour work by one 3x4 matrix for each clip; "exact" calls torchvision's functions clip by clip.

    Raises:
        ValueError: for a strength or probability out of range.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.0
    flip: float = 0.5
    drop_channel: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    crop: float = 1.0
    mode: Literal["fused", "exact"] = "fused"

    def __post_init__(self) -> None:
        for name in ("grey", "flip", "drop_channel", "blur"):
            _check_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("brightness", "contrast", "saturation"):
            _check_range(name, getattr(self, name), 0.0, math.inf)
        _check_range("hue", self.hue, 0.0, 0.5)
        _check_range("crop", self.crop, 0.01, 1.0)
        _check_pair("blur_sigma", self.blur_sigma, 0.01, math.inf)
        if self.mode not in ("fused", "exact"):
            raise ValueError(f"mode must be 'fused' or 'exact', got {self.mode!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """Draw for each clip, and apply."""
        if x.ndim != 5 or x.shape[2] != 3:
            raise ValueError(f"pictures must be (N, T, 3, H, W), got {tuple(x.shape)}")
        return self.apply(x, self.draw(len(x), x.shape[3], x.shape[4]))

    def draw(self, clips: int, height: int, width: int) -> FrameDraw:
        """Draw for `clips` clips of `height` x `width` pixels, from torch's global generator on the host."""
        colour = ColourDraw(
            brightness=_factor(clips, self.brightness),
            contrast=_factor(clips, self.contrast),
            saturation=_factor(clips, self.saturation),
            hue=_uniform(clips, -self.hue, self.hue),
            order=torch.rand(clips, 4).argsort(1),
            grey=torch.rand(clips) < self.grey,
            dropped=torch.where(torch.rand(clips) < self.drop_channel, torch.randint(3, (clips,)), -1),
        )
        box = self._draw_box(clips, height, width)
        flip = torch.rand(clips) < self.flip
        sigma = _uniform(clips, *self.blur_sigma) * (torch.rand(clips) < self.blur)
        return FrameDraw(box, flip, colour, sigma)

    def apply(self, x: Tensor, draw: FrameDraw) -> Tensor:
        """Apply a draw: crop, mirror, colours, blur."""
        # One clip at a time stays in a CPU's cache; an accelerator wants the whole batch.
        rows = 1 if x.device.type == "cpu" else max(1, len(x))
        kind = torch.uint8 if x.dtype == torch.uint8 else torch.float32
        clips, frames, colours, height, width = x.shape
        if (
            x.device.type == "cpu"
        ):  # the colours of a pixel side by side, as they come from the loader and as convolutions like them
            out = torch.empty(clips, frames, height, width, colours, dtype=kind).permute(0, 1, 4, 2, 3)
        else:
            out = torch.empty(x.shape, dtype=kind, device=x.device)
        with torch.autocast("cpu", enabled=False), torch.autocast(x.device.type, enabled=False):
            maps = colour_maps(draw.colour).to(x.device, non_blocking=True)  # made on the host, hence both
            for start in range(0, len(x), rows):
                part = slice(start, start + rows)
                self._apply_part(x[part], draw, maps, part, out[part])
        return out

    def _apply_part(self, x: Tensor, draw: FrameDraw, maps: Tensor, part: slice, out: Tensor) -> None:
        if self.crop < 1:
            boxes = draw.box[part].tolist()
            x = torch.stack([tv.resized_crop(clip, *box, size=list(x.shape[3:])) for clip, box in zip(x, boxes, strict=True)])
        x = _mirror(x, draw.flip[part])
        if not self._changes_colour:
            out.copy_(x)
        elif self.mode == "fused":
            colour_fused(x if x.dtype == out.dtype else x.float(), maps[part], out)
        else:
            out.copy_(_kind(colour_exact(_unit(x), ColourDraw(*(values[part] for values in draw.colour))), out.dtype))
        if self.blur:
            out.copy_(_kind(_blur(_unit(out), draw.sigma[part], max(self.blur_sigma)), out.dtype))

    @property
    def _changes_colour(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.grey, self.drop_channel))

    def _draw_box(self, clips: int, height: int, width: int) -> Tensor:
        area = _uniform(clips, self.crop, 1.0) * height * width
        ratio = _uniform(clips, math.log(3 / 4), math.log(4 / 3)).exp()
        tall = (area / ratio).sqrt().round().clamp(1, height)
        wide = (area * ratio).sqrt().round().clamp(1, width)
        top, left = torch.rand(clips) * (height - tall + 1), torch.rand(clips) * (width - wide + 1)
        return torch.stack([top.floor(), left.floor(), tall, wide], 1).long()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveAugment:
    """float (N, S) in -1..1 -> float32 (N, S), not clamped. With every strength 0 it is the identity.

    Filters have a second-order Butterworth magnitude response without phase; cut-offs are drawn uniformly in the logarithm.

    Args:
        gain: loudness changes by uniform -g .. g dB.
        polarity: probability of a sign change.
        noise: probability of added white noise (a silent clip stays silent).
        noise_snr: dB of the clip's own power over the noise, lowest and highest.
        roll: shifted by up to so many samples either way, the end wrapping to the start; leave it at 0 where timing is the task.
        low_pass: probability of a low-pass filter.
        low_cut: its cut-off as a share of half the sample rate, lowest and highest.
        high_pass: probability of a high-pass filter.
        high_cut: its cut-off as a share of half the sample rate, lowest and highest.

    Raises:
        ValueError: for a strength or probability out of range.
    """

    gain: float = 6.0
    polarity: float = 0.0
    noise: float = 0.0
    noise_snr: tuple[float, float] = (10.0, 40.0)
    roll: int = 0
    low_pass: float = 0.0
    low_cut: tuple[float, float] = (0.2, 1.0)
    high_pass: float = 0.0
    high_cut: tuple[float, float] = (0.005, 0.05)

    def __post_init__(self) -> None:
        for name in ("polarity", "noise", "low_pass", "high_pass"):
            _check_range(name, getattr(self, name), 0.0, 1.0)
        _check_range("gain", self.gain, 0.0, 120.0)
        _check_range("roll", self.roll, 0, math.inf)
        _check_pair("noise_snr", self.noise_snr, -math.inf, math.inf)
        _check_pair("low_cut", self.low_cut, 1e-4, 1.0)
        _check_pair("high_cut", self.high_cut, 1e-4, 1.0)

    def __call__(self, x: Tensor) -> Tensor:
        """Draw for each clip, and apply: filter, shift, noise, then gain and sign."""
        if x.ndim != 2 or not x.is_floating_point():
            raise ValueError(f"sound must be floating point (N, samples), got {x.dtype} {tuple(x.shape)}")
        clips = len(x)
        decibels = _uniform(clips, -self.gain, self.gain)
        sign = 1 - 2 * (torch.rand(clips) < self.polarity).float()
        noisy, snr = torch.rand(clips) < self.noise, _uniform(clips, *self.noise_snr)
        shift = torch.randint(-self.roll, self.roll + 1, (clips,))
        low = torch.where(torch.rand(clips) < self.low_pass, _log_uniform(clips, *self.low_cut), math.inf)
        high = torch.where(torch.rand(clips) < self.high_pass, _log_uniform(clips, *self.high_cut), 0.0)
        with torch.autocast(x.device.type, enabled=False):
            y = x.float()
            if self.low_pass or self.high_pass:
                y = _filter(y, low, high)
            if self.roll:
                y = _roll(y, shift)
            if self.noise:
                ratio = torch.where(noisy, 10 ** (-snr / 20), 0.0).to(y.device)
                y = y + torch.randn_like(y) * (y.square().mean(1).sqrt() * ratio)[:, None]
            factor = (10 ** (decibels / 20) * sign).to(y.device)
            return y * factor[:, None] if self.gain or self.polarity else y


def _unit(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x.float()


def _kind(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Float in 0..1 as it is, or rounded to uint8."""
    return (x * 255).round_().to(torch.uint8) if dtype == torch.uint8 else x


def _mirror(x: Tensor, flip: Tensor) -> Tensor:
    if not flip.any():
        return x
    mirrored = _mirrored(x)
    return mirrored if flip.all() else torch.where(flip.to(x.device)[:, None, None, None, None], mirrored, x)


def _mirrored(x: Tensor) -> Tensor:
    """Left to right. On a CPU OpenCV turns round rows of whole pixels in less than half of the time that torch takes."""
    pixels = x.movedim(-3, -1)
    if x.device.type != "cpu" or x.dtype not in (torch.uint8, torch.float32) or not pixels.is_contiguous():
        return x.flip(-1)
    rows = pixels.reshape(-1, *pixels.shape[-2:]).numpy()
    return torch.from_numpy(cv2.flip(rows, 1)).view(pixels.shape).movedim(-1, -3)


def _blur(x: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur of the clips whose sigma is not 0; the kernel reaches to 3 of the largest sigma; edges are reflected."""
    chosen = sigma.nonzero().squeeze(1)
    if len(chosen) == 0:
        return x
    down, along = (_blur_matrix(sigma[chosen], extent, largest).to(x.device)[:, None, None] for extent in x.shape[3:])
    if len(chosen) == len(x):
        return down @ x @ along.transpose(3, 4)
    rows = chosen.to(x.device)
    return x.index_copy(0, rows, down @ x.index_select(0, rows) @ along.transpose(3, 4))


def _blur_matrix(sigma: Tensor, extent: int, largest: float) -> Tensor:
    """Blur of a line of `extent` pixels as matrices (n, extent, extent): a product is faster than a convolution this narrow."""
    radius = min(math.ceil(3 * largest), extent - 1)
    taps = torch.arange(-radius, radius + 1)
    kernel = (-0.5 * (taps / sigma[:, None]).square()).exp()
    kernel = kernel / kernel.sum(1, keepdim=True)
    reached = (torch.arange(extent)[:, None] + taps).abs()
    reached = (extent - 1) - (extent - 1 - reached).abs()  # reflected at both ends
    shape = (len(sigma), extent, len(taps))
    matrix = torch.zeros(len(sigma), extent, extent)
    return matrix.scatter_add_(2, reached.expand(shape), kernel[:, None].expand(shape))


def _filter(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Zero-phase second-order Butterworth magnitudes; cut-offs (N,) as shares of half the rate, inf and 0 for none."""
    spectrum = torch.fft.rfft(x)
    frequency = torch.linspace(0, 1, spectrum.shape[1], device=x.device)
    low, high = low.to(x.device)[:, None], high.to(x.device)[:, None]
    response = (1 + (frequency / low) ** 4).rsqrt() * frequency**2 / (frequency**4 + high**4).sqrt().clamp_min(1e-12)
    response = torch.where((high == 0) & (frequency == 0), 1.0, response)
    return torch.fft.irfft(spectrum * response, n=x.shape[1])


def _roll(x: Tensor, shift: Tensor) -> Tensor:
    index = (torch.arange(x.shape[1], device=x.device) - shift.to(x.device)[:, None]) % x.shape[1]
    return x.gather(1, index)


def _uniform(clips: int, low: float, high: float) -> Tensor:
    return torch.rand(clips) * (high - low) + low


def _log_uniform(clips: int, low: float, high: float) -> Tensor:
    return _uniform(clips, math.log(low), math.log(high)).exp()


def _factor(clips: int, strength: float) -> Tensor:
    return _uniform(clips, max(0.0, 1 - strength), 1 + strength)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in {low}..{high}, got {value}")


def _check_pair(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise ValueError(f"{name} must be two rising numbers in {low}..{high}, got {pair}")
