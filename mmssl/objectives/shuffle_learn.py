"""Shuffle and Learn: are these three pictures in the order of time?

Misra, Zitnick, Hebert, "Shuffle and Learn: Unsupervised Learning using Temporal Order Verification", ECCV 2016, arXiv:1603.08561,
section 3. Five pictures a < b < c < d < e are taken where much moves. (b, c, d) is in order; (b, a, d) and (b, e, d) are not. First and last
picture are the same in all three, so that only what lies between can tell. (d, c, b) counts as ordered too (section 3.1).

    logit(x, y, z) = w . relu(W [f(x); f(y); f(z)] + u) + v,    f = relu of one linear layer on the encoder's features
    loss = 1/2 softplus(-logit) over ordered + 1/2 softplus(logit) over the others

The paper's last layer is linear in the three f. Such a sum can only tell by each picture alone whether it looks like a middle one (first and
last are shared), so here the three meet in a hidden layer; `joint=0` is the paper's form.

Each row's five pictures are encoded once and asked about in all six ways, (b, c, d), (b, a, d), (b, e, d) and their reverses: the kinds are exactly
balanced in every row, where the paper drew 3 of 4 tuples wrong.

What is left: a and e lie further out than c, so in a film hardly longer than the five pictures the time of a lone picture, where it can be seen (a clock, a
fade, a fire burning down), says something about its place. Long films dilute this: in half a minute, knowing every time exactly would give less than 0.55.

N rows, T frames of a clip (1 for an encoder that sees pictures alone), H hidden features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.clips import OrderViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, Members
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import sign_hits, spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

A, B, C, D, E = range(5)
TUPLES = ((B, C, D), (D, C, B), (B, A, D), (D, A, B), (B, E, D), (D, E, B))
RIGHT = 2  # the first two are in order, forwards or backwards
GAP = (0.2, 0.6)  # seconds between neighbours of the five


class ShuffleAndLearn(Objective):
    """Tell ordered from disordered triples of pictures (or of clips).

    Args:
        encoders: `video`.
        views: the cuts: five pictures or clips; None in them is filled in from the encoder.
        hidden: features of each picture before the three are joined.
        joint: hidden units where the three meet; 0: none, as in the paper, see the module.
        cells: each picture is summed up in `cells` x `cells` parts, so that where things are can count; 1: the pooled features alone.
        frame_augment: applied in training, alike for all five.

    `accuracy` is the mean of the accuracies on ordered and on disordered triples: chance is 0.5.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video")}
    triples: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: OrderViews = OrderViews(),
        hidden: int = 128,
        joint: int = 128,
        cells: int = 4,
        frame_augment: FrameAugment = FrameAugment(),
    ) -> None:
        super().__init__()
        if hidden < 1 or joint < 0 or cells < 1:
            raise InputError(f"shuffle_learn: hidden {hidden}, joint {joint}, cells {cells}; at least 1, 0 and 1 are needed")
        self.views = views.resolve(encoders["video"].spec, members=5, gap=GAP)
        self.summary = ClipSummary(encoders["video"].dim, hidden, cells=cells)
        meet = nn.Sequential(nn.Linear(3 * hidden, joint), nn.ReLU(), nn.Linear(joint, 1)) if joint else nn.Linear(3 * hidden, 1)
        self.verify = meet
        self.register_buffer("triples", torch.tensor(TUPLES))
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Balanced binary cross-entropy over all triples. Needs `video` (n, 5 * T, 3, H, W)."""
        parts, logits = self._logits(batch, bank)
        losses = torch.cat([F.softplus(-logits[:, :RIGHT]).mean(1), F.softplus(logits[:, RIGHT:]).mean(1)])
        accuracy = _accuracy(logits.detach()).mean()
        metrics = {
            "accuracy": accuracy,
            "accuracy/chance": torch.full_like(accuracy, 0.5),
            "loss/uninformed": torch.full_like(accuracy, 0.6931472),  # ln 2
            "spread/video": spread(parts),
        }
        return Loss(losses.mean(), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` of each row: mean over its ordered and its disordered triples."""
        return {"accuracy": Judged(_accuracy(self._logits(batch, bank)[1].detach()), 0.5)}

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The parts' vectors (5 * n, hidden), and logits (n, 6): above zero where the model says "in order"."""
        show = Members(5, self.frame_augment if self.training else None)
        parts = self.summary(bank.encode("video", batch["video"], show))
        triples = parts.unflatten(0, (-1, 5))[:, self.triples]  # (n, 6, 3, hidden)
        return parts.detach(), at_least_float32(self.verify(triples.flatten(2))).squeeze(2)


def _accuracy(logits: Tensor) -> Tensor:
    return (sign_hits(logits[:, :RIGHT]).mean(1) + sign_hits(-logits[:, RIGHT:]).mean(1)) / 2
