"""Rotation: by which quarter turn is this clip turned?

Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018, arXiv:1803.07728; of clips, all frames turned
alike: Jing, Yang, Liu, Tian, "Self-Supervised Spatiotemporal Feature Learning via Video Rotation Prediction", 2018, arXiv:1811.11387.

    loss = - mean over r of log softmax(logits(clip turned by r quarters))_r,    r = 0, 1, 2, 3

All four turns of every clip are in the batch (as Gidaris et al. found best), with the same augmentation, so the classes are balanced in every row.

Defences. Quarter turns of a square move pixels and compute none. Vignetting, logos, time stamps and black bars sit at the rim of the picture and are upright:
by default only the inner `REGION` of the picture is looked at, and crops move about inside it. Blur in training hides what codecs and stretched
pixels do to rows and columns differently.

N rows, T frames (1 will do: the question makes sense for a picture).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmssl.cuts.clips import ClipViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.arrangement import choice_hits, choice_loss
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, QuarterTurns
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

TURNS = 4
REGION = (0.1, 0.1, 0.8, 0.8)  # what is looked at unless views.region says otherwise


class VideoRotation(Objective):
    """Name the quarter turn of a clip.

    Args:
        encoders: `video`.
        views: the cuts; None in them is filled in from the encoder, `region` by `REGION`.
        hidden: units of the hidden layer.
        cells: the clip is summed up in `cells` x `cells` parts; 1: the pooled features alone.
        moments: and in so many parts of its time; None: 1 for a video encoder, T for one that sees pictures alone.
        frame_augment: applied in training before turning, alike to all four. The default blurs half of all clips.

    `accuracy` is over all four turns of every clip: chance is 1/4.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("video", "frame")}
    classes: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: ClipViews = ClipViews(),
        hidden: int = 128,
        cells: int = 1,
        moments: int | None = None,
        frame_augment: FrameAugment = FrameAugment(blur=0.5),
    ) -> None:
        super().__init__()
        if hidden < 1 or cells < 1 or (moments is not None and moments < 1):
            raise InputError(f"video_rotation: hidden {hidden}, cells {cells}, moments {moments}; at least 1 of each is needed")
        encoder = encoders["video"]
        self.views = views.resolve(encoder.spec, region=REGION)
        moments = moments or ((self.views.frames or 1) if encoder.modality == "frame" else 1)
        self.summary = ClipSummary(encoder.dim, hidden, moments=moments, cells=cells)
        self.turn = nn.Linear(hidden, TURNS)
        self.register_buffer("classes", torch.arange(TURNS))
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the turns, mean over all four of each clip. Needs `video` (n, T, 3, S, S)."""
        vectors, logits = self._logits(batch, bank)
        accuracy = choice_hits(logits, self.classes).mean()
        metrics = {
            "accuracy": accuracy,
            "accuracy/chance": torch.full_like(accuracy, 1 / TURNS),
            "loss/uninformed": torch.full_like(accuracy, math.log(TURNS)),
            "spread/video": spread(vectors),
        }
        return Loss(choice_loss(logits, self.classes), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, 4) of each clip in each turn."""
        return {"accuracy": Judged(choice_hits(self._logits(batch, bank)[1], self.classes), 1 / TURNS)}

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The clips' vectors (4 * n, hidden), and logits (n, 4, 4): row, turn shown, turn named."""
        show = QuarterTurns(self.frame_augment if self.training else None)
        vectors = self.summary(bank.encode("video", batch["video"], show))
        logits = at_least_float32(self.turn(vectors))
        return vectors.detach(), logits.unflatten(0, (TURNS, -1)).transpose(0, 1)
