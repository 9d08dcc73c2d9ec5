"""Networks with convolutions over time on optical flow: two channels in place of three colours.

The temporal stream of Simonyan and Zisserman 2014, "Two-Stream Convolutional Networks for Action Recognition in Videos"
(arXiv:1406.2199), with 3D convolutions, as the flow towers of Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?"
(arXiv:1705.07750).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import check_flow
from mmssl.nn.residual import Norm
from mmssl.nn.video_stages import DIMS, LAYOUT, PIXELS, Size, fewest_frames, video_stages
from mmssl.types import Features, InputSpec, Modality


class FlowCNN(Encoder):
    """(N, T, 2, H, W) floating point, pixels for one step -> pooled (N, D), grid (N, T / time_stride, H / stride, W / stride, D).

    Where cells lie: as in `video_resnet`. Flow is normalised as asinh(flow / unit): linear up to about one `unit`, logarithmic above it,
    so that neither slow motion vanishes beside fast motion nor a wild estimate drowns all else.

    Args:
        size: which network: "tiny" for two cores, or one of torchvision's.
        pixels: side of the fields that views should ask for, any that gives a cell works; None: 64 for tiny, 224 for s3d, 112 for the others.
        frames: fields of flow that views should ask for; any number that gives a cell works.
        fps: fields a second that views should ask for.
        norm: kind of normalisation; None: "group" for tiny, "batch" for the others.
        unit: pixels up to which the normalisation is linear; None: a 64th of `pixels`.
        centre: take the mean over each field away first, which removes a panning camera (section 3.1 of the first paper) and with it
            how fast the whole moves.

    Raises:
        ValueError: for arguments that do not fit one another.
    """

    modality: ClassVar[Modality] = "flow"

    def __init__(
        self,
        *,
        size: Size = "r2plus1d_18",
        pixels: int | None = None,
        frames: int = 16,
        fps: float = 12.5,
        norm: Norm | None = None,
        unit: float | None = None,
        centre: bool = False,
    ) -> None:
        if size not in DIMS:
            raise ValueError(f"size must be one of {', '.join(DIMS)}, got {size!r}")
        pixels = pixels or PIXELS[size]
        norm = norm or ("group" if size == "tiny" else "batch")
        unit = pixels / 64 if unit is None else unit
        if not unit > 0:
            raise ValueError(f"unit must be above 0 pixels, got {unit}")
        arguments = {"size": size, "pixels": pixels, "frames": frames, "fps": fps, "norm": norm, "unit": unit, "centre": centre}
        super().__init__(dim=DIMS[size], spec=InputSpec(size=pixels, frames=frames, fps=fps), arguments=arguments)
        stride, self.grid_offset, self.time_stride, self.time_offset = LAYOUT[size]
        self.grid_stride = float(stride)
        self.fewest = fewest_frames(size)
        self.normalize = NormalizeFlow(unit, centre=centre)
        self.stages = video_stages(size, norm, channels=2)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape, type or size."""
        del valid
        check_flow(x, side=int(self.grid_stride), frames=self.fewest)
        y = self.normalize(x).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        y = self.stages(y)
        grid = y.permute(0, 2, 3, 4, 1).clone(memory_format=torch.contiguous_format)
        return Features(pooled=grid.mean((1, 2, 3)), grid=grid)


class NormalizeFlow(nn.Module):
    """Flow (..., 2, H, W) of any floating type -> asinh(flow / unit) in float32, centred first where asked for."""

    def __init__(self, unit: float, *, centre: bool) -> None:
        super().__init__()
        self.unit, self.centre = unit, centre

    def forward(self, x: Tensor) -> Tensor:
        """In float32 also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.centre:
                x = x - x.mean((-2, -1), keepdim=True)
            return torch.asinh(x / self.unit)
