"""Small residual blocks, in two or three dimensions, whose cells lie where bilinear upsampling expects them.

A 3x3 convolution of stride 2 with padding 1 centres its outputs on pixels 0, 2, 4, ...; upsampling puts them on 0.5, 2.5,
4.5, .... Three such layers displace a heatmap by 3.5 pixels. Here every axis that is halved has a kernel of 4 with padding 1, or
2 without (pooling), and both centre on 0.5, 2.5, ...: after a total stride of s, cell i is centred on pixel s*i + (s - 1)/2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["group", "batch"]
Padding = Literal["zeros", "reflect"]


def make_norm(kind: Norm, channels: int, dims: int) -> nn.Module:
    """Group normalisation over groups of 8 channels, or batch normalisation, for inputs of `dims` spatial axes."""
    if kind == "group":
        return nn.GroupNorm(max(1, channels // 8), channels)
    if kind == "batch":
        return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)
    raise ValueError(f"norm must be 'group' or 'batch', got {kind!r}")


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016, basic block), each axis of `stride` 1 or 2, self-centred as above."""

    def __init__(self, inputs: int, outputs: int, *, stride: Sequence[int], norm: Norm, padding: Padding = "zeros") -> None:
        super().__init__()
        dims = len(stride)
        kinds: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
        convolution = kinds[dims]
        self.stride = tuple(stride)
        kernel = tuple(4 if step == 2 else 3 for step in stride)
        self.conv1 = convolution(inputs, outputs, kernel, stride=self.stride, padding=1, padding_mode=padding, bias=False)
        self.norm1 = make_norm(norm, outputs, dims)
        self.conv2 = convolution(outputs, outputs, 3, padding=1, padding_mode=padding, bias=False)
        self.norm2 = make_norm(norm, outputs, dims)
        self.shortcut = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, outputs, ... / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(self._pool(x)))

    def _pool(self, x: Tensor) -> Tensor:
        if all(step == 1 for step in self.stride):
            return x
        return F.avg_pool2d(x, self.stride) if len(self.stride) == 2 else F.avg_pool3d(x, self.stride)
