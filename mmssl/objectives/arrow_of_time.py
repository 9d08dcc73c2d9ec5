"""The arrow of time: does this clip run forwards or backwards?

Wei, Lim, Zisserman, Freeman, "Learning and Using the Arrow of Time", CVPR 2018, section 3. A clip is shown forwards and backwards:

    loss = 1/2 softplus(-logit(x)) + 1/2 softplus(logit(reversed x))

Both directions of every clip are in the batch with the same augmentation, so the classes are balanced in every row, hold the same pictures,
and nothing but their order can tell them apart.

What the paper found networks to use instead of motion, and what is done here: black frames around films: `views.region` cuts
them off; camera motion of the people who film: left in, as it takes stabilised film to be rid of it; compression that predicts pictures from
earlier ones, so that blur builds up and jumps back at each key frame: clips are blurred at random in training (`frame_augment.blur`), starts are drawn
without regard to key frames, and a run on frozen film (`mmssl toyworld --cut frozen`) shows what is left of it.

Motion that obeys reversible laws looks the same both ways: no network can do better than chance on bodies that fly and bounce without loss, as those of
the default toy world do (its difficulty "lossy" takes speed away at impacts).

N rows, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.clips import ClipViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import BothWays, ClipSummary
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import sign_hits, spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality


class ArrowOfTime(Objective):
    """Tell clips that run forwards from the same clips run backwards.

    Args:
        encoders: `video`.
        views: the cuts; None in them is filled in from the encoder.
        hidden: units of the hidden layer.
        cells: the clip is summed up in `cells` x `cells` parts; 1: the pooled features alone.
        moments: and in so many parts of its time; None: 1 for a video encoder, T for one that sees pictures alone.
        frame_augment: applied in training, alike in both directions. The default blurs half of all clips.

    `accuracy` judges each direction alone, against a logit of 0; `accuracy_pair` asks whether the forward logit of a clip is the higher one.
    Chance is 0.5 for both.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("video", "frame")}

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
            raise InputError(f"arrow_of_time: hidden {hidden}, cells {cells}, moments {moments}; at least 1 of each is needed")
        encoder = encoders["video"]
        self.views = views.resolve(encoder.spec, least=2)
        moments = moments or ((self.views.frames or 1) if encoder.modality == "frame" else 1)
        self.summary = ClipSummary(encoder.dim, hidden, moments=moments, cells=cells)
        self.direction = nn.Linear(hidden, 1)
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Binary cross-entropy over both directions of each clip. Needs `video` (n, T, 3, H, W)."""
        vectors, logits = self._logits(batch, bank)
        judged = self._judged(logits.detach())
        metrics = {name: values.flatten().mean() for name, values in judged.items()}
        half = torch.full_like(metrics["accuracy"], 0.5)
        metrics |= {f"{name}/chance": half for name in judged}
        metrics |= {"loss/uninformed": torch.full_like(half, 0.6931472), "spread/video": spread(vectors)}  # ln 2
        return Loss((F.softplus(-logits[:, 0]).mean() + F.softplus(logits[:, 1]).mean()) / 2, metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, 2) of each direction of each clip, and `accuracy_pair` (n,)."""
        judged = self._judged(self._logits(batch, bank)[1].detach())
        return {name: Judged(values, 0.5) for name, values in judged.items()}

    @staticmethod
    def _judged(logits: Tensor) -> dict[str, Tensor]:
        each = torch.stack([sign_hits(logits[:, 0]), sign_hits(-logits[:, 1])], dim=1)
        return {"accuracy": each, "accuracy_pair": sign_hits(logits[:, 0] - logits[:, 1])}

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The clips' vectors (2 * n, hidden), and logits (n, 2) of forwards and backwards: above zero says "forwards"."""
        show = BothWays(self.frame_augment if self.training else None)
        vectors = self.summary(bank.encode("video", batch["video"], show))
        logits = at_least_float32(self.direction(vectors)).squeeze(1)
        return vectors.detach(), torch.stack(logits.chunk(2), dim=1)
