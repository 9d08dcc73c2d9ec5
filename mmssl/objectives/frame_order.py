"""Order Prediction Network: in which order do four shuffled pictures belong?

Lee, Huang, Singh, Yang, "Unsupervised Representation Learning by Sorting Sequences", ICCV 2017, arXiv:1708.01246, section 3. Of the 24 orders of
four pictures an order and its reverse share a class, since most motion looks as plausible backwards: 12 classes. Pictures are compared in pairs
before the order is classified:

    h_ij = relu(U f(x_i) + V f(x_j) + b) for places i < j,    logits = W [h_12; h_13; h_14; h_23; h_24; h_34] + c

Each row's four pictures are encoded once and asked about in all 24 orders, so all classes are equally frequent in every row; the paper
drew one order at a time. Defences of the paper: windows where much moves, channel splitting (`channel_split`). Its third, a random
shift of each picture, is left out: all pictures share one crop box, so that things can be followed by place.

N rows, T frames of a clip (1 for an encoder that sees pictures alone), A = 24 orders, K = 12 classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mmssl.cuts.clips import OrderViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.arrangement import PairwiseOrder, all_orders, choice_hits, choice_loss, reversal_classes
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, Members
from mmssl.nn.health import spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

MEMBERS, CLASSES = 4, 12
GAP = (0.2, 0.6)  # seconds between neighbours of the four


class FrameOrder(Objective):
    """Name the order of four pictures (or short clips), up to reversal.

    Args:
        encoders: `video`.
        views: the cuts; None in them is filled in from the encoder.
        hidden: features of each picture, and of each pair.
        cells: each picture is summed up in `cells` x `cells` parts, so that where things are can count; 1: the pooled features alone.
        channel_split: show each picture in one colour channel: a random one in training, green in evaluation.
        frame_augment: applied in training, alike for all four.

    `accuracy` is over all 24 orders of every row: chance is 1/12.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video")}
    classes: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: OrderViews = OrderViews(),
        hidden: int = 128,
        cells: int = 4,
        channel_split: bool = True,
        frame_augment: FrameAugment = FrameAugment(),
    ) -> None:
        super().__init__()
        if hidden < 1 or cells < 1:
            raise InputError(f"frame_order: hidden {hidden}, cells {cells}; at least 1 of each is needed")
        self.views = views.resolve(encoders["video"].spec, members=MEMBERS, gap=GAP)
        orders = all_orders(MEMBERS)
        self.summary = ClipSummary(encoders["video"].dim, hidden, cells=cells)
        self.order = PairwiseOrder(hidden, CLASSES, hidden=hidden, orders=orders)
        self.register_buffer("classes", reversal_classes(orders))
        self.channel_split, self.frame_augment = channel_split, frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the classes, mean over all orders. Needs `video` (n, 4 * T, 3, H, W)."""
        parts, logits = self._logits(batch, bank)
        accuracy = choice_hits(logits, self.classes).mean()
        metrics = {
            "accuracy": accuracy,
            "accuracy/chance": torch.full_like(accuracy, 1 / CLASSES),
            "loss/uninformed": torch.full_like(accuracy, math.log(CLASSES)),
            "spread/video": spread(parts),
        }
        return Loss(choice_loss(logits, self.classes), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, 24) of each row in each order."""
        return {"accuracy": Judged(choice_hits(self._logits(batch, bank)[1], self.classes), 1 / CLASSES)}

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The parts' vectors (4 * n, hidden), and logits (n, 24, 12)."""
        channel = ("random" if self.training else "green") if self.channel_split else "all"
        show = Members(MEMBERS, self.frame_augment if self.training else None, channel)
        parts = self.summary(bank.encode("video", batch["video"], show))
        return parts.detach(), self.order(parts.unflatten(0, (-1, MEMBERS)))
