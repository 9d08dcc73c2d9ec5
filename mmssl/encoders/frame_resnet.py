"""Residual networks that see each picture alone: torchvision's ResNets, and a tiny one for two cores.

He et al. 2016, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385). Dilation in place of stride, for a finer
grid: Chen et al. 2017, "Rethinking Atrous Convolution" (arXiv:1706.05587), section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import torch
import torchvision.models as models
from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import IMAGENET, NormalizePictures, check_pictures
from mmssl.nn.residual import Norm, Padding, ResidualBlock, make_norm
from mmssl.nn.zoo import fetch_weights
from mmssl.types import Features, InputSpec, Modality

Size = Literal["tiny", "resnet18", "resnet34", "resnet50"]
STRIDES = {"tiny": (4, 8), "torchvision": (4, 8, 16, 32)}
DIMS = {"tiny": 96, "resnet18": 512, "resnet34": 512, "resnet50": 2048}


class FrameResNet(Encoder):
    """(N, T, 3, H, W) -> pooled (N, D), grid (N, T, H / stride, W / stride, D).

    Args:
        size: which network: "tiny" for two cores, or one of torchvision's.
        pixels: side that views should ask for; other sizes and oblong pictures work too; None: 128 for tiny, 224 for the others.
        output_stride: pixels from cell to cell: 8 or 4 for tiny (None: 8); 32, 16, 8 or 4 for the others (None: 32), where later strides
            become dilations, so that loaded weights compute what they did.
        dilated: false takes those strides away and puts nothing in their place: cells see less around them, which suits tracking
            (Jabri et al., NeurIPS 2020) but not loaded weights.
        padding: "zeros", or "reflect", which tells cells nothing of how far the border is (what a picture shows near its border still does).
        norm: kind of normalisation; None: "group" for tiny, "batch" for the others.
        width: channels of tiny's stem; its features are twice as wide.
        weights: a name of torchvision's, such as "IMAGENET1K_V1"; they are fetched, and bring their own normalisation.

    Raises:
        ValueError: for arguments that do not fit one another.
        InputError: where weights cannot be had.
    """

    modality: ClassVar[Modality] = "frame"

    def __init__(
        self,
        *,
        size: Size = "resnet18",
        pixels: int | None = None,
        output_stride: Literal[4, 8, 16, 32] | None = None,
        dilated: bool = True,
        padding: Padding = "zeros",
        norm: Norm | None = None,
        width: int = 48,
        weights: str | None = None,
    ) -> None:
        if size not in DIMS:
            raise ValueError(f"size must be one of {', '.join(DIMS)}, got {size!r}")
        tiny = size == "tiny"
        pixels = pixels or (128 if tiny else 224)
        output_stride = output_stride or (8 if tiny else 32)
        norm = norm or ("group" if tiny else "batch")
        known = STRIDES["tiny" if tiny else "torchvision"]
        if output_stride not in known:
            raise ValueError(f"output_stride of {size} must be one of {', '.join(map(str, known))}, got {output_stride}")
        if weights is not None and not dilated:
            raise ValueError(f"weights={weights!r} need dilated=True: without dilation they compute something else")
        if weights is not None and (tiny or norm != "batch"):
            raise ValueError(
                f"weights={weights!r} need a size of torchvision's and norm='batch', got size={size!r}, norm={norm!r}"
            )
        # A saved encoder brings its weights: `weights` is not among the arguments, or rebuilding would fetch them again.
        arguments = {
            "size": size,
            "pixels": pixels,
            "output_stride": output_stride,
            "dilated": dilated,
            "padding": padding,
            "norm": norm,
            "width": width,
        }
        super().__init__(dim=2 * width if tiny else DIMS[size], spec=InputSpec(size=pixels, frames=1), arguments=arguments)
        self.grid_stride = float(output_stride)
        self.grid_offset = (output_stride - 1) / 2 if tiny else 0.0  # torchvision's padded strides centre on multiples
        published = None if weights is None else fetch_weights(size, weights)
        self.normalize = NormalizePictures(*(IMAGENET if published is None else (published.mean, published.std)))
        if tiny:
            self.stages = _tiny_stages(norm, width, output_stride, padding)
        else:
            state = None if published is None else published.state
            self.stages = _torchvision_stages(size, norm, output_stride, dilated, state)
            if padding == "reflect":
                _reflect(self.stages)
        # A picture can be reflected only by less than its own side.
        widest = _widest_padding(self.stages[1:]) if padding == "reflect" else 0
        self.least = output_stride * (widest + 1)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape, type or size."""
        del valid
        check_pictures(x, side=self.least)
        # Normalised first: a vector of 3 over planes is six times quicker than over interleaved channels.
        y = self.normalize(x.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        y = self.stages(y)
        grid = y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2]).clone(memory_format=torch.contiguous_format)
        return Features(pooled=grid.mean((1, 2, 3)), grid=grid)


def _tiny_stages(norm: Norm, width: int, output_stride: int, padding: Padding) -> nn.Sequential:
    # A stem of patches (kernel = stride) stayed at chance on the toy world; windows must overlap.
    stem = nn.Conv2d(3, width, 8, stride=4, padding=2, padding_mode=padding, bias=False)
    step = output_stride // 4
    blocks = nn.Sequential(
        ResidualBlock(width, 2 * width, stride=(step, step), norm=norm, padding=padding),
        ResidualBlock(2 * width, 2 * width, stride=(1, 1), norm=norm, padding=padding),
    )
    return nn.Sequential(nn.Sequential(stem, make_norm(norm, width, 2), nn.ReLU()), blocks)


def _torchvision_stages(
    size: str, norm: Norm, output_stride: int, dilated: bool, state: dict[str, Tensor] | None
) -> nn.Sequential:
    layer: Callable[..., nn.Module] | None = None if norm == "batch" else partial(nn.GroupNorm, 32)
    make = {"resnet18": models.resnet18, "resnet34": models.resnet34, "resnet50": models.resnet50}[size]
    net = make(weights=None, norm_layer=layer)
    if state is not None:
        net.load_state_dict(state)
    dilation = 1
    for stage, stride in ((net.layer2, 8), (net.layer3, 16), (net.layer4, 32)):
        if stride > output_stride:
            dilation = _dilate(stage, dilation, dilated)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return nn.Sequential(stem, net.layer1, net.layer2, net.layer3, net.layer4)


def _dilate(stage: nn.Sequential, before: int, dilated: bool) -> int:
    """Take the stride of a stage away, or turn it into dilation; `before` is the dilation that its input already has."""
    first = True
    for convolution in (module for module in stage.modules() if isinstance(module, nn.Conv2d)):
        if convolution.kernel_size == (3, 3) and dilated:
            # What comes before the removed stride keeps its spacing; what comes after it steps twice as far.
            step = before if first else 2 * before
            convolution.dilation, convolution.padding = (step, step), (step, step)
            first = False
        convolution.stride = (1, 1)
    return 2 * before


def _reflect(stages: nn.Module) -> None:
    """Replace zero padding by reflection, in place; weights stay the same tensors."""
    for parent in list(stages.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Conv2d) or child.padding == (0, 0):
                continue
            other = nn.Conv2d(
                child.in_channels,
                child.out_channels,
                child.kernel_size,  # type: ignore[arg-type]  # pairs, of no length to the checker
                stride=child.stride,  # type: ignore[arg-type]  # as above
                padding=child.padding,  # type: ignore[arg-type]  # as above
                dilation=child.dilation,  # type: ignore[arg-type]  # as above
                bias=False,
                padding_mode="reflect",
            )
            other.weight = child.weight
            setattr(parent, name, other)


def _widest_padding(stages: nn.Module) -> int:
    return max(int(module.padding[0]) for module in stages.modules() if isinstance(module, nn.Conv2d))
