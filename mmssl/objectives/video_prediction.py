"""Video prediction: what will the next pictures look like?

The encoder sees the past pictures. A convolutional LSTM reads their features one time step after the other and then runs on, without input,
into the future; from each of its later states, a decoder draws the next picture. To move things on, one has to know what is a thing and
where it goes.

Srivastava, Mansimov, Salakhutdinov, "Unsupervised Learning of Video Representations using LSTMs", ICML 2015, arXiv:1502.04681, section 2.3
(the future predictor, unconditioned). Mathieu, Couprie, LeCun, "Deep Multi-Scale Video Prediction Beyond Mean Square Error", ICLR 2016,
arXiv:1511.05440 (the gradient difference loss, and copying the last picture as the figure to beat).

    loss = mean over rows and future pictures of  mean |x - x^|^p  +  gradient * sum over both axes of mean | |dx| - |dx^| |

A picture is drawn as the one before it, filtered at each pixel by a kernel of that pixel's own, plus a correction (Finn, Goodfellow, Levine,
"Unsupervised Learning for Physical Interaction through Video Prediction", NeurIPS 2016, arXiv:1605.07157, has such kernels for the whole
picture). At first the kernels copy. So details need not pass through the encoder's coarse grid, but motion must: the decoder is given the last
past picture alone, and one picture does not show where things go. (Given two, it could do the task without the encoder.)

N clips, P past and K future pictures, H rows, W columns, C channels, R radius of kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mmssl.cuts.forecast import PredictionViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.areas import resize_grid
from mmssl.nn.augment import FrameAugment
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import sign_hits
from mmssl.nn.pixels import gradient_difference, pixel_error, psnr
from mmssl.nn.recurrent import ConvLSTMCell, repeat_border
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

LEAST_COPY_ERROR = 0.25 / 255  # mean absolute error of rounding to 8 bits: where copying errs less, nothing moved


class PictureDecoder(nn.Module):
    """State (N, C, H / patch, W / patch) and a picture (N, 3, H, W) -> the next picture.

    Sub-pixel convolutions (Shi et al., CVPR 2016, arXiv:1609.05158) bring the state to full size. With all weights of the last layer 0, as at
    first, the picture is copied.
    """

    def __init__(self, hidden: int, patch: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        layers: list[nn.Module] = []
        channels = hidden
        for _ in range(int(math.log2(patch))):
            after = max(16, channels // 2)
            layers += [nn.Conv2d(channels, 4 * after, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()]
            channels = after
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, (2 * radius + 1) ** 2 + 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Tensor, picture: Tensor) -> Tensor:
        """The next picture, float32, not clamped to 0..1."""
        drawn = at_least_float32(self.last(self.layers(state)))
        weights, correction = drawn[:, :-3], drawn[:, -3:]
        side = 2 * self.radius + 1
        height, width = picture.shape[-2:]
        around = repeat_border(picture, self.radius)
        moved = picture + correction
        for place in range(side**2):
            down, right = divmod(place, side)
            moved = moved + weights[:, place : place + 1] * around[..., down : down + height, right : right + width]
        return moved


class VideoPrediction(Objective):
    """Draw the coming pictures from the features of the past ones.

    Args:
        encoders: `video`.
        views: the cuts; None in them is filled in from the encoder.
        hidden: channels of the recurrent state.
        kernel: of the convolutional LSTM.
        patch: pixels that a cell of the recurrent state spans, a power of 2; the encoder's grid is brought to it by area.
        radius: how many pixels away a kernel reaches, so how far a thing can move from picture to picture; 0: corrections alone.
        power: of the pixel error, 2 or 1. As long as the direction of a motion is unknown, copying is the best that absolute errors (1) know:
            the median of what can come. They were seen to stay there; squared errors (2) blur first, and learn.
        gradient: weight of the gradient difference, which sharpens and slows; 0: none. It is an absolute error too.
        frame_augment: applied in training, one draw for past and future together.

    `loss/uninformed` is the loss of copying the last past picture. `error_ratio` is the mean absolute error over that of copying: below 1 is
    learnt. `psnr` (dB) stands beside `psnr/copy`. The encoder never sees a future picture.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video")}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: PredictionViews = PredictionViews(),
        hidden: int = 64,
        kernel: int = 3,
        patch: int = 8,
        radius: int = 3,
        power: Literal[1, 2] = 2,
        gradient: float = 0.1,
        frame_augment: FrameAugment = FrameAugment(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
    ) -> None:
        super().__init__()
        encoder = encoders["video"]
        self.views = views = views.resolve(encoder.spec, encoder.modality)
        self.past, size = views.past or 1, views.size or 0
        if patch < 1 or patch & (patch - 1) or size % patch:
            raise InputError(
                f"video_prediction: patch is {patch} and views.size is {size}; give a power of 2 of which the size is a multiple"
            )
        if hidden < 1 or radius < 0 or gradient < 0:
            raise InputError(
                f"video_prediction: hidden {hidden}, radius {radius}, gradient {gradient}; hidden is at least 1, the others at least 0"
            )
        self.patch, self.power, self.gradient = patch, power, gradient
        self.feature = nn.Linear(encoder.dim, hidden)
        self.recurrent = ConvLSTMCell(hidden, hidden, kernel)
        self.decoder = PictureDecoder(hidden, patch, radius)
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Pixel error and gradient difference. Needs `video` (n, past + future, 3, H, W)."""
        predicted, true, last = self._compare(batch, bank)
        value = self._errors(predicted, true).mean()
        with torch.no_grad():
            found, copied = predicted.clamp(0.0, 1.0), last[:, None].expand_as(true)
            ratio = pixel_error(found, true, power=1).mean() / pixel_error(copied, true, power=1).mean().clamp(
                min=LEAST_COPY_ERROR
            )
            metrics = {
                "loss/uninformed": self._errors(copied, true).mean(),
                "error_ratio": ratio,
                "psnr": psnr(found, true).mean(),
                "psnr/copy": psnr(copied, true).mean(),
            }
        return Loss(value, metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Row by row, means over the future pictures.

        `accuracy`: is the mean absolute error below that of copying the last picture (0.5: they are equal, as where nothing moves and it is
        copied); `error_ratio`: the one error over the other (1: copying; what copying errs by is taken to be at least a quarter of a step
        of 8 bits); `psnr`, `psnr_copy` in dB.
        """
        predicted, true, last = self._compare(batch, bank)
        found, copied = predicted.clamp(0.0, 1.0), last[:, None].expand_as(true)
        error, baseline = (pixel_error(x, true, power=1).mean(dim=1) for x in (found, copied))
        return {
            "accuracy": Judged(sign_hits(baseline - error), 0.5),
            "error_ratio": Judged(error / baseline.clamp(min=LEAST_COPY_ERROR), 1.0),
            "psnr": Judged(psnr(found, true).mean(dim=1)),
            "psnr_copy": Judged(psnr(copied, true).mean(dim=1)),
        }

    def predict(self, grid: Tensor, last: Tensor, count: int) -> Tensor:
        """Features (N, T, h, w, E) of the past and its last picture (N, 3, H, W) in 0..1 -> the next pictures (N, count, 3, H, W)."""
        height, width = last.shape[-2] // self.patch, last.shape[-1] // self.patch
        steps = self.feature(resize_grid(grid, height, width)).movedim(-1, 2)
        first, *later = steps.unbind(1)
        state = self.recurrent(first)
        for step in later:
            state = self.recurrent(step, state)
        drawn: list[Tensor] = []
        for _ in range(count):
            state = self.recurrent(None, state)
            drawn.append(self.decoder(state[0], drawn[-1] if drawn else last))
        return torch.stack(drawn, 1)

    def _compare(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and true future pictures (n, K, 3, H, W), and the last past one (n, 3, H, W), in 0..1."""
        video = batch["video"] if not self.training else self.frame_augment(batch["video"])
        grid = bank.encode("video", video[:, : self.past]).grid
        pictures = video[:, self.past - 1 :]
        pictures = pictures.float() / 255 if pictures.dtype == torch.uint8 else at_least_float32(pictures)
        last, true = pictures[:, 0], pictures[:, 1:]
        return self.predict(grid, last, true.shape[1]), true, last

    def _errors(self, predicted: Tensor, true: Tensor) -> Tensor:
        error = pixel_error(predicted, true, power=self.power)
        return error + self.gradient * gradient_difference(predicted, true) if self.gradient else error
