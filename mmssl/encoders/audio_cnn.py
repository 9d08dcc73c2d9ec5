"""Convolutional networks on log-mel spectrograms: the VGG of L3, a ResNet, and a tiny one for two cores.

VGG: Arandjelovic and Zisserman 2017, "Look, Listen and Learn" (arXiv:1705.08168), figure 2, on mel bands in place of linear
frequency. ResNet on spectrograms: Chen et al. 2021, "Localizing Visual Sounds the Hard Way" (arXiv:2104.02691).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torchvision.models as models
from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import check_wave
from mmssl.nn.logmel import LogMel
from mmssl.nn.residual import Norm, ResidualBlock, make_norm
from mmssl.types import Features, InputSpec, Modality

Size = Literal["tiny", "vgg", "resnet18"]
DIMS = {"tiny": 96, "vgg": 512, "resnet18": 512}
STRIDES = {"tiny": 8, "vgg": 16, "resnet18": 32}  # windows and bands for each cell


class AudioCNN(Encoder):
    """(N, samples) at `rate` -> pooled (N, D), grid (N, T, F, D).

    Args:
        size: which network: "tiny" for two cores, "vgg" as in L3, or "resnet18".
        rate: of the sound that it takes, samples a second.
        seconds: the length that views should ask for (any length of at least one cell works).
        mels: bands of the log-mel spectrogram (`mmssl.nn.logmel`).
        window: seconds that each Hann window lasts.
        hop: seconds from window to window.
        pool: "max" over time and frequency, as L3 does, or "mean".
        norm: kind of normalisation; None takes "group" for tiny and "batch" for the others.
        band_offset: add a learnt vector for each frequency after the first layer; without it convolution and pooling see the same
            timbre at every pitch, and which band it lay in only by its distance to the border.

    Raises:
        ValueError: for arguments that do not fit.
    """

    modality: ClassVar[Modality] = "audio"

    def __init__(
        self,
        *,
        size: Size = "vgg",
        rate: int = 16000,
        seconds: float = 1.0,
        mels: int = 64,
        window: float = 0.025,
        hop: float = 0.010,
        pool: Literal["max", "mean"] = "max",
        norm: Norm | None = None,
        band_offset: bool = False,
    ) -> None:
        if size not in DIMS:
            raise ValueError(f"size must be one of {', '.join(DIMS)}, got {size!r}")
        if pool not in ("max", "mean"):
            raise ValueError(f"pool must be 'max' or 'mean', got {pool!r}")
        if mels < STRIDES[size]:
            raise ValueError(f"{size} needs at least {STRIDES[size]} mel bands, got mels={mels}")
        norm = norm or ("group" if size == "tiny" else "batch")
        arguments = {
            "size": size,
            "rate": rate,
            "seconds": seconds,
            "mels": mels,
            "window": window,
            "hop": hop,
            "pool": pool,
            "norm": norm,
            "band_offset": band_offset,
        }
        super().__init__(dim=DIMS[size], spec=InputSpec(rate=rate, seconds=seconds), arguments=arguments)
        self.pool = pool
        self.logmel = LogMel(rate=rate, mels=mels, window=window, hop=hop)
        self.shortest = self.logmel.samples(STRIDES[size])
        self.stages = {"tiny": _tiny_stages, "vgg": _vgg_stages, "resnet18": _resnet_stages}[size](norm)
        if band_offset:
            bands = {"tiny": mels // 2, "vgg": mels, "resnet18": (mels + 1) // 2}[size]
            first = self.stages[0]
            assert isinstance(first, nn.Sequential)
            first.insert(2, BandOffset(32 if size == "tiny" else 64, bands))  # behind the normalisation, before the ReLU

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape or type, or too short a sound."""
        del valid
        check_wave(x, samples=self.shortest, rate=self.spec.rate)
        y = self.stages(self.logmel(x).unsqueeze(1).contiguous(memory_format=torch.channels_last))
        grid = y.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
        return Features(pooled=grid.amax((1, 2)) if self.pool == "max" else grid.mean((1, 2)), grid=grid)


class BandOffset(nn.Module):
    """(N, C, T, F) plus a learnt (C, F): a convolution behind it can tell one frequency from another."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(0.5 * torch.randn(channels, 1, bands))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.offset.to(x.dtype)


def _tiny_stages(norm: Norm) -> nn.Sequential:
    stem = nn.Conv2d(1, 32, 4, stride=2, padding=1, bias=False)
    blocks = nn.Sequential(
        ResidualBlock(32, 64, stride=(2, 2), norm=norm),
        ResidualBlock(64, 96, stride=(2, 2), norm=norm),
    )
    return nn.Sequential(nn.Sequential(stem, make_norm(norm, 32, 2), nn.ReLU()), blocks)


def _vgg_stages(norm: Norm) -> nn.Sequential:
    stages, inputs = [], 1
    for outputs in (64, 128, 256, 512):
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), make_norm(norm, outputs, 2), nn.ReLU()]
            inputs = outputs
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    return nn.Sequential(*stages)


def _resnet_stages(norm: Norm) -> nn.Sequential:
    net = models.resnet18(weights=None, norm_layer=lambda channels: make_norm(norm, channels, 2))
    net.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return nn.Sequential(stem, net.layer1, net.layer2, net.layer3, net.layer4)
