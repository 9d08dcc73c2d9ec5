"""A transformer on tubelets: the encoder of VideoMAE, without masking, built from its configuration (no weights are fetched).

Tong et al. 2022, "VideoMAE" (arXiv:2203.12602), by way of transformers' `VideoMAEModel`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEModel

from mmssl.encoders.base import Encoder
from mmssl.nn.inputs import IMAGENET, NormalizePictures, check_pictures
from mmssl.types import Features, InputSpec, Modality

Size = Literal["tiny", "small", "base"]
# width, layers, heads, and the defaults of patch, pixels and frames
SHAPES = {"tiny": (128, 4, 4, 8, 64, 8), "small": (384, 12, 6, 16, 224, 16), "base": (768, 12, 12, 16, 224, 16)}


class VideoViT(Encoder):
    """(N, T, 3, H, W) -> pooled (N, D), the mean of the grid (N, T / tubelet, H / patch, W / patch, D).

    Positions are fixed sines, so input must be exactly `frames` pictures of `pixels` x `pixels`.

    Args:
        size: width and depth: "tiny" for two cores, "small" or "base".
        pixels: side of the pictures; None: 64 for tiny, 224 for the others.
        frames: pictures of a clip; None: 8 for tiny, 16 for the others.
        fps: pictures a second that views should ask for.
        patch: side of a patch in pixels; None: 8 for tiny, 16 for the others.
        tubelet: pictures that a patch spans in time.

    Raises:
        ValueError: for arguments that do not fit one another.
    """

    modality: ClassVar[Modality] = "video"

    def __init__(
        self,
        *,
        size: Size = "base",
        pixels: int | None = None,
        frames: int | None = None,
        fps: float = 12.5,
        patch: int | None = None,
        tubelet: int = 2,
    ) -> None:
        if size not in SHAPES:
            raise ValueError(f"size must be one of {', '.join(SHAPES)}, got {size!r}")
        width, layers, heads, *defaults = SHAPES[size]
        patch, pixels, frames = patch or defaults[0], pixels or defaults[1], frames or defaults[2]
        if pixels % patch or frames % tubelet:
            raise ValueError(f"pixels={pixels} must be a multiple of patch={patch}, and frames={frames} of tubelet={tubelet}")
        arguments = {"size": size, "pixels": pixels, "frames": frames, "fps": fps, "patch": patch, "tubelet": tubelet}
        super().__init__(dim=width, spec=InputSpec(size=pixels, frames=frames, fps=fps), arguments=arguments)
        self.grid_stride, self.grid_offset = float(patch), (patch - 1) / 2
        self.time_stride, self.time_offset = tubelet, (tubelet - 1) / 2
        self.normalize = NormalizePictures(*IMAGENET)
        self.net = VideoMAEModel(
            VideoMAEConfig(
                image_size=pixels,
                patch_size=patch,
                num_frames=frames,
                tubelet_size=tubelet,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=4 * width,
                use_mean_pooling=False,  # keeps the layer norm on every token: the grid needs it too
            )
        )

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. `valid` has no meaning here. Raises `ValueError` for a wrong shape, type, size or number of frames."""
        del valid
        check_pictures(x, side=self.spec.size, frames=self.spec.frames, exact_side=True, exact_frames=True)
        tokens = self.net(self.normalize(x)).last_hidden_state
        side = round(self.spec.size / self.grid_stride)
        grid = tokens.unflatten(1, (self.spec.frames // self.time_stride, side, side)).clone()
        return Features(pooled=grid.mean((1, 2, 3)), grid=grid)
