"""A guard for 3-D convolutions over few time steps in bfloat16 on a CPU.

There, with torch 2.13 (oneDNN, AVX-512 with bfloat16), the gradient of the weights is garbage, often finite, where the padded zeros before
and after the clip meet in one kernel position: T <= 2 * padding, so T = 2 with the usual kernel of 3 (T = 1 is right there, as tests hold). Outputs and
the gradient of the input are right. r3d_18 and its kin come to T = 2 in their last stage from 16 frames. Zeros appended to the
clip are what the padding would have put there, so the outputs that are kept stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

OUTPUTS = "_mmssl_time_steps"  # on the module, between its two hooks


def guard_short_conv3d(model: nn.Module) -> None:
    """Make every `Conv3d` of `model` append zeros to clips that are too short for torch's bfloat16 on a CPU. Costs nothing elsewhere."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and _time_padding(module) > 0:
            module.register_forward_pre_hook(_lengthen)
            module.register_forward_hook(_shorten)


def _time_padding(conv: nn.Conv3d) -> int:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return 0
    return int(conv.padding[0])


def _lengthen(conv: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    assert isinstance(conv, nn.Conv3d)
    (clip,) = inputs
    steps, padding = clip.shape[2], _time_padding(conv)
    low = clip.dtype == torch.bfloat16 or (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16)
    short = steps <= 2 * padding and (steps, padding) != (1, 1)
    if not (short and low and clip.device.type == "cpu" and torch.is_grad_enabled()):
        return None
    reach = conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
    setattr(conv, OUTPUTS, (steps + 2 * padding - reach) // conv.stride[0] + 1)
    return (functional.pad(clip, (0, 0, 0, 0, 0, 2 * padding + 1 - steps)),)


def _shorten(conv: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    del inputs
    kept = getattr(conv, OUTPUTS, None)
    if kept is None:
        return None
    delattr(conv, OUTPUTS)
    return output[:, :, :kept]
