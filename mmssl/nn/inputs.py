"""What encoders do to their input first: check its shape and type, and normalise pictures.

Nothing here looks at values (that would make a device wait for the host): a float picture outside 0..1 is not noticed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

IMAGENET = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # mean and standard deviation of RGB in 0..1, as torchvision's weights use
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))  # of torchvision's video weights

LARGE = 2**23  # numbers of 4 bytes: 32 MiB
CACHED = 2**20  # numbers that stay in a CPU's cache between two operations


class NormalizePictures(nn.Module):
    """(..., 3, H, W), uint8 or floating point in 0..1 -> float32 of the same shape: `(x - mean) / std`.

    Mean and deviation are buffers that are saved: they belong to the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32, also under autocast; the memory format of `x` is kept."""
        whole = 255.0 if x.dtype == torch.uint8 else 1.0
        scale, shift = 1.0 / (self.std * whole), -self.mean / self.std
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type == "cpu" and not x.requires_grad and not torch.compiler.is_compiling():
                return _scaled_in_cache(x, scale, shift)
            return torch.addcmul(shift.view(3, 1, 1), x.float(), scale.view(3, 1, 1))  # one pass over the pixels


def _scaled_in_cache(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """A few frames at a time stay in a CPU's cache. Where the colours of a pixel lie side by side, whole rows are scaled by a row of factors:
    a factor for each third number would leave vectors empty."""
    out = _empty_like(x)
    given_frames, frames = x.flatten(0, -4), out.flatten(0, -4)
    if x.stride(-3) == 1:
        given_frames, frames = (tensor.movedim(-3, -1).flatten(2) for tensor in (given_frames, frames))
        scale, shift = scale.repeat(x.shape[-1]), shift.repeat(x.shape[-1])
    else:
        scale, shift = scale.view(3, 1, 1), shift.view(3, 1, 1)
    few = max(1, CACHED // max(1, math.prod(x.shape[-3:])))
    for given, made in zip(given_frames.split(few), frames.split(few), strict=True):
        torch.addcmul(shift, made.copy_(given), scale, out=made)
    return out


def _empty_like(x: Tensor) -> Tensor:
    """float32 in the shape and memory order of `x`. Large ones from NumPy, which asks the system for huge pages: torch hands blocks of 32 MiB
    and more back when they are freed and gets them anew, and clearing their small pages takes longer than what is reckoned here."""
    interleaved = x.movedim(-3, -1)
    if x.numel() < LARGE or not (x.is_contiguous() or interleaved.is_contiguous()):
        return torch.empty_like(x, dtype=torch.float32)
    if x.is_contiguous():
        return torch.from_numpy(np.empty(x.shape, np.float32))
    return torch.from_numpy(np.empty(interleaved.shape, np.float32)).movedim(-1, -3)


def check_pictures(x: Tensor, *, side: int, frames: int = 1, exact_side: bool = False, exact_frames: bool = False) -> None:
    """Raise `ValueError` unless `x` is (N, T >= `frames`, 3, H >= `side`, W >= `side`), uint8 or floating point.

    With `exact_side`, H and W must equal `side`; with `exact_frames`, T must equal `frames`.
    """
    shape = tuple(x.shape)
    if x.ndim != 5 or shape[2] != 3:
        raise ValueError(f"pictures must be (N, T, 3, H, W), got {shape}; a single picture needs N = T = 1, RGB before H and W")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise ValueError(
            f"pictures must be uint8 in 0..255 or floating point in 0..1, got {x.dtype}; convert them with .to(torch.uint8)"
        )
    _check_extent("frames", shape[1], frames, exact_frames, "change the frames that the views ask for")
    for axis, value in (("height", shape[3]), ("width", shape[4])):
        _check_extent(f"{axis} in pixels", value, side, exact_side, "change the size that the views ask for")


def check_flow(x: Tensor, *, side: int, frames: int = 1) -> None:
    """Raise `ValueError` unless `x` is a floating-point (N, T >= `frames`, 2, H >= `side`, W >= `side`)."""
    shape = tuple(x.shape)
    if x.ndim != 5 or shape[2] != 2:
        raise ValueError(f"flow must be (N, T, 2, H, W), got {shape}; channel 0 points right, channel 1 down")
    if not x.is_floating_point():
        raise ValueError(f"flow must be floating point, in pixels for one step, got {x.dtype}; convert it with .float()")
    _check_extent("frames", shape[1], frames, False, "change the frames that the views ask for")
    for axis, value in (("height", shape[3]), ("width", shape[4])):
        _check_extent(f"{axis} in pixels", value, side, False, "change the size that the views ask for")


def check_wave(x: Tensor, *, samples: int, rate: int, exact: bool = False) -> None:
    """Raise `ValueError` unless `x` is a floating-point (N, S) with S >= `samples` (S == `samples` with `exact`)."""
    if x.ndim != 2:
        raise ValueError(
            f"sound must be mono (N, samples), got {tuple(x.shape)}; average the channels, and add a batch axis to one clip"
        )
    if not x.is_floating_point():
        raise ValueError(f"sound must be floating point in -1..1, got {x.dtype}; divide 16-bit samples by 32768")
    _check_extent("samples", x.shape[1], samples, exact, "change the seconds that the views ask for", rate)


def _check_extent(what: str, value: int, limit: int, exact: bool, move: str, rate: int = 0) -> None:
    if value < limit or (exact and value != limit):
        # Written here and no sooner: while a program is exported, `value` may be a symbol, which cannot be formatted.
        what += f" ({value / rate:.3f} s at {rate} Hz)" if rate else ""
        raise ValueError(f"input has {value} {what}; this encoder takes {'exactly' if exact else 'at least'} {limit}: {move}")
