"""Networks with convolutions over time: torchvision's R3D, MC3, R(2+1)D and S3D, and a tiny one for two cores.

Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions" (arXiv:1711.11248); Xie et al. 2018, "Rethinking Spatiotemporal
Feature Learning" (arXiv:1712.04851).
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
import torchvision.models as models
from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import KINETICS, NormalizePictures, check_pictures
from mmssl.nn.residual import Norm, ResidualBlock, make_norm
from mmssl.nn.zoo import fetch_weights
from mmssl.types import Features, InputSpec, Modality

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


class VideoResNet(Encoder):
    """(N, T, 3, H, W) -> pooled (N, D), grid (N, T / time_stride, H / stride, W / stride, D).

    `pixels` (None: 64 for tiny, 224 for s3d, 112 for the others), `frames` and `fps`: what views should ask for; any size and number
    of frames that gives a cell works. Cell t of the grid is centred on frame `time_offset + time_stride * t`. `norm`: "batch" or
    "group" (None: "group" for tiny, "batch" for the others). `weights`: a name of torchvision's, such as "KINETICS400_V1"; they are
    fetched, and bring their own normalisation.

    Raises `ValueError` for arguments that do not fit one another, `InputError` where weights cannot be had.
    """

    modality: ClassVar[Modality] = "video"

    def __init__(
        self,
        *,
        size: Size = "r2plus1d_18",
        pixels: int | None = None,
        frames: int = 16,
        fps: float = 12.5,
        norm: Norm | None = None,
        weights: str | None = None,
    ) -> None:
        if size not in DIMS:
            raise ValueError(f"size must be one of {', '.join(DIMS)}, got {size!r}")
        tiny = size == "tiny"
        pixels = pixels or {"tiny": 64, "s3d": 224}.get(size, 112)
        norm = norm or ("group" if tiny else "batch")
        if weights is not None and (tiny or norm != "batch"):
            raise ValueError(
                f"weights={weights!r} need a size of torchvision's and norm='batch', got size={size!r}, norm={norm!r}"
            )
        # A saved encoder brings its weights: `weights` is not among the arguments, or rebuilding would fetch them again.
        arguments = {"size": size, "pixels": pixels, "frames": frames, "fps": fps, "norm": norm}
        super().__init__(dim=DIMS[size], spec=InputSpec(size=pixels, frames=frames, fps=fps), arguments=arguments)
        stride, self.grid_offset, self.time_stride, self.time_offset = LAYOUT[size]
        self.grid_stride = float(stride)
        # The last strides of s3d and tiny have no padding: they need all the frames of a cell. The others make one of any.
        self.fewest = self.time_stride if self.time_offset else 1
        published = None if weights is None else fetch_weights(size, weights)
        self.normalize = NormalizePictures(*(KINETICS if published is None else (published.mean, published.std)))
        self.stages = (
            _tiny_stages(norm) if tiny else _torchvision_stages(size, norm, None if published is None else published.state)
        )

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape, type or size."""
        del valid
        check_pictures(x, side=int(self.grid_stride), frames=self.fewest)
        y = self.normalize(x).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        y = self.stages(y)
        grid = y.permute(0, 2, 3, 4, 1).clone(memory_format=torch.contiguous_format)
        return Features(pooled=grid.mean((1, 2, 3)), grid=grid)


def _tiny_stages(norm: Norm) -> nn.Sequential:
    stem = nn.Conv3d(3, 32, (3, 8, 8), stride=(1, 4, 4), padding=(1, 2, 2), bias=False)
    blocks = nn.Sequential(
        ResidualBlock(32, 64, stride=(2, 2, 2), norm=norm),
        ResidualBlock(64, 96, stride=(1, 1, 1), norm=norm),
    )
    return nn.Sequential(nn.Sequential(stem, make_norm(norm, 32, 3), nn.ReLU()), blocks)


def _torchvision_stages(size: str, norm: Norm, state: dict[str, Tensor] | None) -> nn.Sequential:
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
    if norm == "group":
        _group_norms(stages)
    return stages


def _group_norms(root: nn.Module) -> None:
    """Put group normalisation (groups of 8 channels) in the place of batch normalisation, throughout."""
    for name, module in root.named_children():
        if isinstance(module, nn.BatchNorm3d):
            setattr(root, name, make_norm("group", module.num_features, 3))
        else:
            _group_norms(module)
