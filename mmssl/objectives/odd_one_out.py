"""Odd-one-out: which of these sequences of one video is in the wrong order?

Fernando, Bilen, Gavves, Gould, "Self-Supervised Video Representation Learning With Odd-One-Out Networks", CVPR 2017, arXiv:1611.06646, section 3.
Q sequences of W pictures are cut from one video. Q - 1 of them are in the order of time, the pictures of one are shuffled; the network sees all of them
and names that one:

    loss = - mean over places q of log softmax(head(v_1 .. v_Q with the odd one in place q))_q

with head(v_1 .. v_Q) = W relu(V [v_1; ..; v_Q] + b) + c, the paper's fusion by concatenation.

The windows of all sequences are drawn alike and independently, so that neither time in the film nor order in time says anything about which is odd; a
shuffled sequence holds the pictures that it would have held unshuffled. Each sequence is encoded once and the odd one stands in every place in turn:
all answers are equally frequent in every row. Reversed order does not count as wrong, as most motion looks as plausible backwards.

N rows, Q sequences, W frames each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmssl.cuts.clips import FPS, check_counts, clip_times, draw_start, several, unusable
from mmssl.cuts.pictures import WHOLE, check, check_crop, check_region, draw_box, fill_size, region_box
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.arrangement import choice_hits, choice_loss
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, Members
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Box, Frames, InputError, InputSpec, Loss, Modality, Plan, Source, Views


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencesViews(Views):
    """Q sequences of one source, the last of which is shuffled. Request `video` (Q * W, 3, size, size), sequence by sequence.

    None in `frames`, `fps`, `size` stands for what the encoder was built for (`resolve`).
    """

    sequences: int = 6  # Q
    frames: int | None = None  # W; 8 where the encoder sees pictures alone
    fps: float | None = None  # 12.5 where the encoder takes any
    size: int | None = None  # pixels
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        check_counts(self.frames, self.fps, least=3)  # with two, every order is an order or its reverse
        check(self.sequences >= 2, f"views.sequences is {self.sequences}; at least 2 are needed for one to be odd")

    def resolve(self, picture: InputSpec) -> SequencesViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoder say a size."""
        frames, fps = several(self.frames, picture), self.fps or picture.fps or FPS
        check_counts(frames, fps, least=3)
        return replace(self, frames=frames, fps=fps, size=fill_size(self.size, picture))

    def reject(self, source: Source) -> str | None:
        """ "no picture", "shorter than 0.64 s", "fewer than 12.5 frames a second ...", or no size to cut a region of."""
        frames, fps, _ = self._numbers()
        return unusable(source, seconds=frames / fps, fps=fps, region=self.region)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw where each sequence begins, in which order the last one's pictures stand, and the crop."""
        frames, fps, size = self._numbers()
        starts = np.array([draw_start(source, frames / fps, rng) for _ in range(self.sequences)])
        times = clip_times(starts, frames, fps)
        order = rng.permutation(frames)
        while (np.diff(order) == 1).all() or (np.diff(order) == -1).all():
            order = rng.permutation(frames)
        odd = times[-frames:]
        times = times[:-frames] + tuple(odd[k] for k in order)
        return Plan({"video": Frames(times, size, draw_box(source, self.crop, rng, region=self.region))})

    def _numbers(self) -> tuple[int, float, int]:
        if self.frames is None or self.fps is None or self.size is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        return self.frames, self.fps, self.size


class OddOneOut(Objective):
    """Name the shuffled sequence.

    Args:
        encoders: `video`.
        views: the cuts; None in them is filled in from the encoder.
        hidden: features of each sequence, and units of the layer where they meet.
        cells: each sequence is summed up in `cells` x `cells` parts; 1: the pooled features alone.
        moments: and in so many parts of its time; None: 1 for a video encoder, W for one that sees pictures alone.
        frame_augment: applied in training, alike for all sequences of a row.

    `accuracy` is over all places of the odd one in every row: chance is 1 / Q.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("video", "frame")}
    places: Tensor
    classes: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: SequencesViews = SequencesViews(),
        hidden: int = 128,
        cells: int = 1,
        moments: int | None = None,
        frame_augment: FrameAugment = FrameAugment(),
    ) -> None:
        super().__init__()
        if hidden < 1 or cells < 1 or (moments is not None and moments < 1):
            raise InputError(f"odd_one_out: hidden {hidden}, cells {cells}, moments {moments}; at least 1 of each is needed")
        encoder, count = encoders["video"], views.sequences
        self.views = views.resolve(encoder.spec)
        moments = moments or ((self.views.frames or 1) if encoder.modality == "frame" else 1)
        self.summary = ClipSummary(encoder.dim, hidden, moments=moments, cells=cells)
        self.head = nn.Sequential(nn.Linear(count * hidden, hidden), nn.ReLU(), nn.Linear(hidden, count))
        # Row q: which sequence stands in each place when the odd one (the last) stands in place q.
        rest = torch.arange(count - 1)
        self.register_buffer("places", torch.stack([torch.cat([rest[:q], rest[-1:] + 1, rest[q:]]) for q in range(count)]))
        self.register_buffer("classes", torch.arange(count))
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the places, mean over all of them. Needs `video` (n, Q * W, 3, H, W)."""
        vectors, logits = self._logits(batch, bank)
        accuracy = choice_hits(logits, self.classes).mean()
        metrics = {
            "accuracy": accuracy,
            "accuracy/chance": torch.full_like(accuracy, 1 / len(self.classes)),
            "loss/uninformed": torch.full_like(accuracy, math.log(len(self.classes))),
            "spread/video": spread(vectors),
        }
        return Loss(choice_loss(logits, self.classes), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, Q) of each row with the odd one in each place."""
        return {"accuracy": Judged(choice_hits(self._logits(batch, bank)[1], self.classes), 1 / len(self.classes))}

    def _logits(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """The sequences' vectors (Q * n, hidden), and logits (n, Q, Q): row, place shown, place named."""
        show = Members(len(self.classes), self.frame_augment if self.training else None)
        vectors = self.summary(bank.encode("video", batch["video"], show))
        placed = vectors.unflatten(0, (-1, len(self.classes)))[:, self.places]  # (n, Q, Q, hidden)
        return vectors.detach(), at_least_float32(self.head(placed.flatten(2)))
