"""Networks with convolutions over time: torchvision's R3D, MC3, R(2+1)D and S3D, and a tiny one for two cores.

Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions" (arXiv:1711.11248); Xie et al. 2018, "Rethinking Spatiotemporal
Feature Learning" (arXiv:1712.04851).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import KINETICS, NormalizePictures, check_pictures
from mmssl.nn.residual import Norm
from mmssl.nn.video_stages import DIMS, LAYOUT, PIXELS, Size, fewest_frames, video_stages
from mmssl.nn.zoo import fetch_weights
from mmssl.types import Features, InputSpec, Modality


class VideoResNet(Encoder):
    """(N, T, 3, H, W) -> pooled (N, D), grid (N, T / time_stride, H / stride, W / stride, D).

    Cell t of the grid is centred on frame `time_offset + time_stride * t`.

    Args:
        size: which network: "tiny" for two cores, or one of torchvision's.
        pixels: side that views should ask for, any that gives a cell works; None: 64 for tiny, 224 for s3d, 112 for the others.
        frames: pictures of a clip that views should ask for; any number that gives a cell works.
        fps: pictures a second that views should ask for.
        norm: kind of normalisation; None: "group" for tiny, "batch" for the others.
        weights: a name of torchvision's, such as "KINETICS400_V1"; they are fetched, and bring their own normalisation.

    Raises:
        ValueError: for arguments that do not fit one another.
        InputError: where weights cannot be had.
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
        pixels = pixels or PIXELS[size]
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
        self.fewest = fewest_frames(size)
        published = None if weights is None else fetch_weights(size, weights)
        self.normalize = NormalizePictures(*(KINETICS if published is None else (published.mean, published.std)))
        self.stages = video_stages(size, norm, state=None if published is None else published.state)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape, type or size."""
        del valid
        check_pictures(x, side=int(self.grid_stride), frames=self.fewest)
        y = self.normalize(x).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        y = self.stages(y)
        grid = y.permute(0, 2, 3, 4, 1).clone(memory_format=torch.contiguous_format)
        return Features(pooled=grid.mean((1, 2, 3)), grid=grid)
