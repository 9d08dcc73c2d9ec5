"""Stages with convolutions over time: torchvision's R3D, MC3, R(2+1)D and S3D, and tiny ones for two cores, for any number of channels.

Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions" (arXiv:1711.11248); Xie et al. 2018, "Rethinking Spatiotemporal
Feature Learning" (arXiv:1712.04851).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torchvision.models as models
from torch import Tensor, nn

from mmssl.nn.residual import Norm, ResidualBlock, make_norm

Size = Literal["tiny", "r3d_18", "mc3_18", "r2plus1d_18", "s3d"]
DIMS = {"tiny": 96, "r3d_18": 512, "mc3_18": 512, "r2plus1d_18": 512, "s3d": 1024}
# How many pixels and frames one cell steps: picture stride, picture offset, time stride, time offset. torchvision's padded strides centre
# on multiples; S3D's last pooling has a kernel of 2 without padding, which centres between two cells of the stride before it.
LAYOUT = {
    "tiny": (8, 3.5, 2, 0.5),
    "r3d_18": (16, 0.0, 8, 0.0),
    "mc3_18": (16, 0.0, 1, 0.0),
    "r2plus1d_18": (16, 0.0, 8, 0.0),
    "s3d": (32, 8.0, 8, 2.0),
}
PIXELS = {"tiny": 64, "r3d_18": 112, "mc3_18": 112, "r2plus1d_18": 112, "s3d": 224}  # the side that each is meant for


def fewest_frames(size: str) -> int:
    """The shortest input. The last strides of s3d and tiny have no padding: they need all the frames of a cell. The others make one of any."""
    _, _, stride, offset = LAYOUT[size]
    return stride if offset else 1


def video_stages(size: str, norm: Norm, *, channels: int = 3, state: dict[str, Tensor] | None = None) -> nn.Sequential:
    """(N, channels, T, H, W) -> (N, DIMS[size], T', H', W'), cells as `LAYOUT` says.

    `state`: published weights of torchvision's model, for 3 channels.
    """
    return _tiny_stages(norm, channels) if size == "tiny" else _torchvision_stages(size, norm, channels, state)


def _tiny_stages(norm: Norm, channels: int) -> nn.Sequential:
    stem = nn.Conv3d(channels, 32, (3, 8, 8), stride=(1, 4, 4), padding=(1, 2, 2), bias=False)
    blocks = nn.Sequential(
        ResidualBlock(32, 64, stride=(2, 2, 2), norm=norm),
        ResidualBlock(64, 96, stride=(1, 1, 1), norm=norm),
    )
    return nn.Sequential(nn.Sequential(stem, make_norm(norm, 32, 3), nn.ReLU()), blocks)


def _torchvision_stages(size: str, norm: Norm, channels: int, state: dict[str, Tensor] | None) -> nn.Sequential:
    net: models.video.S3D | models.video.VideoResNet
    if size == "s3d":
        # The published momentum (0.001) is meant for the published weights: from random ones, averages would need thousands of steps.
        net = models.video.s3d(weights=None, **({} if state is not None else {"norm_layer": partial(nn.BatchNorm3d, eps=1e-3)}))
    else:
        make = {"r3d_18": models.video.r3d_18, "mc3_18": models.video.mc3_18, "r2plus1d_18": models.video.r2plus1d_18}[size]
        net = make(weights=None)
    if state is not None:
        net.load_state_dict(state)
    if isinstance(net, models.video.S3D):
        stages = net.features
    else:
        stages = nn.Sequential(net.stem, net.layer1, net.layer2, net.layer3, net.layer4)
    if channels != 3:
        _take_channels(stages, channels)
    if norm == "group":
        _group_norms(stages)
    return stages


def _take_channels(stages: nn.Sequential, channels: int) -> None:
    """Put a convolution for another number of channels in the place of the first."""
    name, old = next((name, module) for name, module in stages.named_modules() if isinstance(module, nn.Conv3d))
    fresh = nn.Conv3d(channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)  # type: ignore[arg-type]  # tuples of three, of no length to the checker
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    parent, _, last = name.rpartition(".")
    setattr(stages.get_submodule(parent), last, fresh)


def _group_norms(root: nn.Module) -> None:
    """Put group normalisation (groups of 8 channels) in the place of batch normalisation, throughout."""
    for name, module in root.named_children():
        if isinstance(module, nn.BatchNorm3d):
            setattr(root, name, make_norm("group", module.num_features, 3))
        else:
            _group_norms(module)
