"""Playback rate: how fast is this clip played?

Benaim, Ephrat, Lang, Mosseri, Freeman, Rubinstein, Irani, Dekel, "SpeedNet: Learning the Speediness in Videos", CVPR 2020, arXiv:2004.06130,
section 3 (two speeds: normal, and twice as fast); more speeds: Yao et al., "Video Playback Rate Perception", CVPR 2020, arXiv:2006.11476.

    loss = - mean over speeds s of log softmax(logits(clip at speed s))_s

Every row holds its clip at all speeds around the same moment ("same-batch training" in SpeedNet), with the same crop and augmentation.

Defences. Every clip takes every k-th picture of the source, k a whole number that is 1 or more at the slowest speed and a whole multiple of it at the
others: no picture repeats, and no speed stumbles where another does not. (Times at a constant distance that is no multiple of the source's take steps of, say,
2, 3, 2, 2 pictures, and that pattern names the speed without a look at any motion.) Sources with too few pictures a second are rejected. The middle of the
window is drawn from the same range for all speeds: otherwise fast clips, being longer, would lie nearer to the middle of the film. What remains: films that
repeat pictures themselves (12 a second in a file of 24), and motion blur, which grows with true speed.

N rows, S speeds, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmssl.cuts.clips import FPS, check_counts, several, unusable, video_span
from mmssl.cuts.pictures import WHOLE, check, check_crop, check_region, draw_box, fill_size, region_box
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.arrangement import choice_hits, choice_loss
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, Members
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import sign_hits, spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Box, Frames, InputError, InputSpec, Loss, Modality, Plan, Source, Views


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedViews(Views):
    """A clip at every speed around one moment. Request `video` (S * T, 3, size, size), speed by speed.

    None in `frames`, `fps`, `size` stands for what the encoder was built for (`resolve`).
    """

    speeds: tuple[int, ...] = (1, 2)  # how many times as fast, rising; whole numbers, so that all speeds step alike
    frames: int | None = None  # T; 8 where the encoder sees pictures alone
    fps: float | None = None  # of speed 1, rounded so that it divides the source's; 12.5 where the encoder takes any
    size: int | None = None  # pixels
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        check_counts(self.frames, self.fps, least=2)
        rising = all(0 < slow < fast for slow, fast in zip(self.speeds, self.speeds[1:], strict=False))
        check(len(self.speeds) >= 2 and rising, f"views.speeds is {self.speeds}; give two or more rising whole numbers, from 1")

    def resolve(self, picture: InputSpec) -> SpeedViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoder say a size."""
        frames, fps = several(self.frames, picture), self.fps or picture.fps or FPS
        return replace(self, frames=frames, fps=fps, size=fill_size(self.size, picture))

    def reject(self, source: Source) -> str | None:
        """ "no picture", "fewer than 12.5 frames a second ...", "shorter than 2.6 s" (the fastest clip), or no size for a region."""
        frames, fps, _ = self._numbers()
        reason = unusable(source, seconds=0.0, fps=fps * self.speeds[0], region=self.region)
        if reason is not None:
            return reason
        seconds = frames * self._steps(source)[-1]
        return f"shorter than {seconds:.1f} s" if video_span(source).seconds < seconds else None

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the moment that all clips have in their middle, and the crop."""
        frames, _, size = self._numbers()
        span, steps = video_span(source), self._steps(source)
        half = frames * steps[-1] / 2
        middle = rng.uniform(span.start + half, max(span.start + half, span.end - half))
        times = tuple(float(middle + (k - frames / 2) * step) for step in steps for k in range(frames))
        return Plan({"video": Frames(times, size, draw_box(source, self.crop, rng, region=self.region))})

    def _steps(self, source: Source) -> list[float]:
        """Seconds from picture to picture at each speed: whole numbers of the source's own."""
        fps = self._numbers()[1]
        every = max(1, round(source.fps / fps))  # how many of the source's pictures one step of speed 1 goes
        return [speed * every / source.fps for speed in self.speeds]

    def _numbers(self) -> tuple[int, float, int]:
        if self.frames is None or self.fps is None or self.size is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        return self.frames, self.fps, self.size


class PlaybackRate(Objective):
    """Name the speed of a clip.

    Args:
        encoders: `video`.
        views: the cuts and the speeds; None in them is filled in from the encoder.
        hidden: units of the hidden layer.
        cells: the clip is summed up in `cells` x `cells` parts; 1: the pooled features alone.
        moments: and in so many parts of its time; None: 1 for a video encoder, T for one that sees pictures alone.
        frame_augment: applied in training, alike at all speeds.

    `accuracy` judges each speed of each clip: chance is 1 / S. `accuracy_pair` asks whether the model finds the fastest clip of a row faster than the slowest
    (difference of the two logits): chance is 0.5.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("video", "frame")}
    classes: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: SpeedViews = SpeedViews(),
        hidden: int = 128,
        cells: int = 1,
        moments: int | None = None,
        frame_augment: FrameAugment = FrameAugment(),
    ) -> None:
        super().__init__()
        if hidden < 1 or cells < 1 or (moments is not None and moments < 1):
            raise InputError(f"playback_rate: hidden {hidden}, cells {cells}, moments {moments}; at least 1 of each is needed")
        encoder = encoders["video"]
        self.views = views.resolve(encoder.spec)
        moments = moments or ((self.views.frames or 1) if encoder.modality == "frame" else 1)
        self.summary = ClipSummary(encoder.dim, hidden, moments=moments, cells=cells)
        self.speed = nn.Linear(hidden, len(views.speeds))
        self.register_buffer("classes", torch.arange(len(views.speeds)))
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the speeds, mean over all speeds of each row. Needs `video` (n, S * T, 3, H, W)."""
        vectors, logits = self._logits(batch, bank)
        judged = self._judged(logits)
        metrics = {name: values.values.mean() for name, values in judged.items()}
        metrics |= {f"{name}/chance": torch.full_like(metrics[name], values.chance or 0.0) for name, values in judged.items()}
        metrics |= {
            "loss/uninformed": torch.full_like(metrics["accuracy"], math.log(len(self.classes))),
            "spread/video": spread(vectors),
        }
        return Loss(choice_loss(logits, self.classes), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, S) of each clip at each speed, and `accuracy_pair` (n,)."""
        return self._judged(self._logits(batch, bank)[1])

    def _judged(self, logits: Tensor) -> dict[str, Judged]:
        fast = (logits[..., -1] - logits[..., 0]).detach()  # (n, S): how fast each clip seems
        return {
            "accuracy": Judged(choice_hits(logits, self.classes), 1 / len(self.classes)),
            "accuracy_pair": Judged(sign_hits(fast[:, -1] - fast[:, 0]), 0.5),
        }

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The clips' vectors (S * n, hidden), and logits (n, S, S): row, speed shown, speed named."""
        show = Members(len(self.classes), self.frame_augment if self.training else None)
        vectors = self.summary(bank.encode("video", batch["video"], show))
        logits = at_least_float32(self.speed(vectors))
        return vectors.detach(), logits.unflatten(0, (-1, len(self.classes)))
