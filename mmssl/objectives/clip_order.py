"""Video clip order prediction: in which order do shuffled clips of a video belong?

Xu, Xiao, Zhao, Shao, Xie, Zhuang, "Self-supervised Spatiotemporal Learning via Video Clip Order Prediction", CVPR 2019, section 3. Three clips
with gaps between them are encoded, compared in pairs, and their order is classified; unlike with still pictures, motion inside a clip tells
the direction of time, so each of the 3! = 6 orders is a class of its own:

    h_ij = relu(U f(x_i) + V f(x_j) + b) for places i < j,    logits = W [h_12; h_13; h_23] + c

Each row's clips are encoded once and asked about in all orders, so all classes are equally frequent in every row. Clips of a row share one crop
box; the paper crops each by itself. Gaps are drawn for each row and gap: the paper's fixed 8 frames would let the end of a clip and the
beginning of the next be told by a constant step.

N rows, M clips, T frames of a clip, A = K = M! orders.
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
from mmssl.nn.arrangement import PairwiseOrder, all_orders, choice_hits, choice_loss
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, Members
from mmssl.nn.health import spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

GAP = (0.2, 0.6)  # seconds; the paper's 8 frames are 0.3 s


class ClipOrder(Objective):
    """Name the order of clips.

    Args:
        encoders: `video`; one that sees pictures alone needs `views.frames` of 2 or more for the direction of time to show.
        views: the cuts; None in them is filled in from the encoder.
        clips: M, 3 in the paper; 2 to 4.
        hidden: features of each clip, and of each pair (512 in the paper).
        cells: each clip is summed up in `cells` x `cells` parts; 1: the pooled features alone, as in the paper.
        moments: and in so many parts of its time; None: 1 for a video encoder, T for one that sees pictures alone.
        frame_augment: applied in training, alike for all clips of a row.

    `accuracy` is over all orders of every row: chance is 1 / M!.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("video", "frame")}
    classes: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: OrderViews = OrderViews(),
        clips: int = 3,
        hidden: int = 256,
        cells: int = 1,
        moments: int | None = None,
        frame_augment: FrameAugment = FrameAugment(),
    ) -> None:
        super().__init__()
        if not 2 <= clips <= 4 or hidden < 1 or cells < 1 or (moments is not None and moments < 1):
            raise InputError(
                f"clip_order: clips {clips}, hidden {hidden}, cells {cells}, moments {moments}; give 2 to 4 clips and at least 1 of the others"
            )
        encoder = encoders["video"]
        self.clips, self.views = clips, views.resolve(encoder.spec, members=clips, gap=GAP)
        orders = all_orders(clips)
        moments = moments or ((self.views.frames or 1) if encoder.modality == "frame" else 1)
        self.summary = ClipSummary(encoder.dim, hidden, moments=moments, cells=cells)
        self.order = PairwiseOrder(hidden, len(orders), hidden=hidden, orders=orders)
        self.register_buffer("classes", torch.arange(len(orders)))
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the orders, mean over all orders. Needs `video` (n, M * T, 3, H, W)."""
        parts, logits = self._logits(batch, bank)
        accuracy = choice_hits(logits, self.classes).mean()
        metrics = {
            "accuracy": accuracy,
            "accuracy/chance": torch.full_like(accuracy, 1 / len(self.classes)),
            "loss/uninformed": torch.full_like(accuracy, math.log(len(self.classes))),
            "spread/video": spread(parts),
        }
        return Loss(choice_loss(logits, self.classes), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, M!) of each row in each order."""
        return {"accuracy": Judged(choice_hits(self._logits(batch, bank)[1], self.classes), 1 / len(self.classes))}

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The clips' vectors (M * n, hidden), and logits (n, M!, M!)."""
        show = Members(self.clips, self.frame_augment if self.training else None)
        parts = self.summary(bank.encode("video", batch["video"], show))
        return parts.detach(), self.order(parts.unflatten(0, (-1, self.clips)))
