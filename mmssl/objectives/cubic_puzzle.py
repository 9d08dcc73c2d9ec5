"""Space-time cubic puzzle: how were the pieces of this clip arranged?

Kim, Cho, Kweon, "Self-Supervised Video Representation Learning with Space-Time Cubic Puzzles", AAAI 2019, arXiv:1811.09795, section 3; of pictures: Noroozi
and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016, arXiv:1603.09246. Two puzzles of four pieces each: the four
quarters of the picture at one time, and four clips of the same place one after the other. Each piece is encoded by itself, pieces are compared in pairs, and the
order is one of 4! = 24 classes, for each puzzle with a head of its own:

    loss = mean over puzzles and orders a of - log softmax(head(pieces in order a))_a

Each row's pieces are encoded once and asked about in all 24 orders, so all classes are equally frequent in every row.

Defences. Lines and textures that go on from piece to piece: pieces are smaller than their quarters, stand in them at random, and `gap` keeps them apart.
Chromatic aberration, which grows towards the corners of a lens: each piece is shown in one colour channel. Vignetting and brightness: each piece gets the same mean
and deviation. Logos, bars, time stamps at the rim: only the inner `region` is looked at, by crops that move about. Key frames: clips begin at
times from a continuous range, with gaps drawn one by one. Mirroring single pieces would contradict their arrangement, so there is none.

N rows, T frames, A = K = 24 orders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmssl.cuts.clips import FPS, check_counts, check_motion, clip_times, draw_apart, draw_start, several, unusable
from mmssl.cuts.pictures import check, check_crop, check_region, draw_box, fill_size, region_box
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.arrangement import PairwiseOrder, all_orders, choice_hits, choice_loss
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import ClipSummary, Members
from mmssl.nn.health import spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Box, Frames, InputError, InputSpec, Loss, Modality, Plan, Source, Views

PIECES = 4
QUARTERS = tuple((row, column) for row in range(2) for column in range(2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PuzzleViews(Views):
    """The pieces of both puzzles, in order. Requests `space_0` to `space_3` (T, 3, size, size), left to right and top to bottom, and
    `time` (4 * T, 3, size, size), clip by clip.

    None in `frames`, `fps`, `size` stands for what the encoder was built for (`resolve`).
    """

    needs_motion: ClassVar[bool] = True

    puzzles: Literal["both", "space", "time"] = "both"  # which are asked
    piece: float = 0.75  # side of a piece as a share of the quarter in which it lies
    apart: float = 0.1  # what lies between neighbouring pieces at least, as a share of a quarter's side
    gap: tuple[float, float] = (0.1, 0.4)  # seconds between the clips of the puzzle in time, drawn for each gap
    motion: float = (
        1.0  # share of draws in which windows count by how much moves in them; no effect where the index has no motion
    )
    frames: int | None = None  # T; 8 where the encoder sees pictures alone
    fps: float | None = None  # 12.5 where the encoder takes any
    size: int | None = None  # pixels of a piece
    crop: tuple[float, float] = (0.8, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = (0.1, 0.1, 0.8, 0.8)  # left, top, width, height of what is looked at

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        check_motion(self.motion)
        check_counts(self.frames, self.fps)
        fits = 0.0 < self.piece <= 1.0 and self.apart >= 0.0 and self.piece + self.apart <= 1.0 + 1e-9
        check(fits, f"views.piece {self.piece} and views.apart {self.apart} must fit in a quarter: their sum is at most 1")
        check(0.0 <= self.gap[0] <= self.gap[1], f"views.gap is {self.gap}; give (least, most) seconds, 0 <= least <= most")

    def resolve(self, picture: InputSpec) -> PuzzleViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoder say a size."""
        frames, fps = several(self.frames, picture), self.fps or picture.fps or FPS
        return replace(self, frames=frames, fps=fps, size=fill_size(self.size, picture))

    def reject(self, source: Source) -> str | None:
        """ "no picture", "size unknown ...", "shorter than 2.86 s", "fewer than 12.5 frames a second ..."."""
        frames, fps, _ = self._numbers()
        if source.has_video and (source.width <= 0 or source.height <= 0):
            return "size unknown, so no pieces can be cut"
        seconds = frames / fps if self.puzzles == "space" else PIECES * frames / fps + (PIECES - 1) * self.gap[0]
        return unusable(source, seconds=seconds, fps=fps, region=self.region)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the crop, the pieces in it, and the clips in time."""
        frames, fps, size = self._numbers()
        requests: dict[str, Frames] = {}
        outer = draw_box(source, self.crop, rng, region=self.region)
        if outer is None:
            raise InputError(f"{source.id}: the size of the picture is unknown, so no pieces can be cut; see reject")
        if self.puzzles != "time":
            start = draw_start(source, frames / fps, rng, motion=self.motion)
            times = clip_times(np.array([start]), frames, fps)
            for number, quarter in enumerate(QUARTERS):
                requests[f"space_{number}"] = Frames(times, size, self._piece(outer, quarter, rng))
        if self.puzzles != "space":
            starts = draw_apart(source, PIECES, frames / fps, self.gap, rng, motion=self.motion)
            requests["time"] = Frames(clip_times(starts, frames, fps), size, outer)
        return Plan(requests)

    def _piece(self, outer: Box, quarter: tuple[int, int], rng: np.random.Generator) -> Box:
        down, across = quarter
        # Half of what must lie between two pieces is taken from either quarter.
        free = 1.0 - self.piece - self.apart
        x, y = self.apart / 2 + rng.random(2) * free
        wide, tall = outer.width / 2, outer.height / 2
        return Box(
            float(outer.left + (across + x) * wide),
            float(outer.top + (down + y) * tall),
            self.piece * wide,
            self.piece * tall,
        )

    def _numbers(self) -> tuple[int, float, int]:
        if self.frames is None or self.fps is None or self.size is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        return self.frames, self.fps, self.size


class CubicPuzzle(Objective):
    """Name the arrangement of four pieces in space, and of four in time.

    Args:
        encoders: `video`.
        views: the cuts, and which puzzles; None in them is filled in from the encoder.
        hidden: features of each piece, and of each pair.
        cells: each piece is summed up in `cells` x `cells` parts; 1: the pooled features alone.
        moments: and in so many parts of its time; None: 1 for a video encoder, T for one that sees pictures alone.
        channel_split: show each piece in one colour channel: a random one in training, green in evaluation.
        standard: give each piece of the puzzle in space the same mean and deviation.
        frame_augment: applied in training, alike for all pieces; `flip` must be 0.

    `accuracy` is over the puzzles and all 24 orders of every row, `accuracy_space` and `accuracy_time` over each puzzle: chance is 1/24.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("video", "frame")}
    classes: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: PuzzleViews = PuzzleViews(),
        hidden: int = 128,
        cells: int = 1,
        moments: int | None = None,
        channel_split: bool = True,
        standard: bool = True,
        frame_augment: FrameAugment = FrameAugment(flip=0.0),
    ) -> None:
        super().__init__()
        if hidden < 1 or cells < 1 or (moments is not None and moments < 1):
            raise InputError(f"cubic_puzzle: hidden {hidden}, cells {cells}, moments {moments}; at least 1 of each is needed")
        if frame_augment.flip:
            raise InputError(
                f"cubic_puzzle: frame_augment.flip is {frame_augment.flip}; mirrored pieces would not fit their arrangement; set 0"
            )
        encoder = encoders["video"]
        self.views = views.resolve(encoder.spec)
        moments = moments or ((self.views.frames or 1) if encoder.modality == "frame" else 1)
        self.summary = ClipSummary(encoder.dim, hidden, moments=moments, cells=cells)
        orders = all_orders(PIECES)
        asked = ("space", "time") if views.puzzles == "both" else (views.puzzles,)
        self.heads = nn.ModuleDict({kind: PairwiseOrder(hidden, len(orders), hidden=hidden, orders=orders) for kind in asked})
        self.register_buffer("classes", torch.arange(len(orders)))
        self.channel_split, self.standard, self.frame_augment = channel_split, standard, frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the orders, mean over all orders and puzzles.

        Needs `space_0` to `space_3` (n, T, 3, S, S) and `time` (n, 4 * T, 3, S, S), as `views.puzzles` says.
        """
        solved = self._solve(batch, bank)
        losses = [choice_loss(logits, self.classes) for _, logits in solved.values()]
        rates = {kind: choice_hits(logits, self.classes).mean() for kind, (_, logits) in solved.items()}
        accuracy = torch.stack(list(rates.values())).mean()
        metrics = {"accuracy": accuracy} | {f"accuracy_{kind}": rate for kind, rate in rates.items()}
        metrics |= {f"{name}/chance": torch.full_like(accuracy, 1 / len(self.classes)) for name in list(metrics)}
        metrics |= {
            "loss/uninformed": torch.full_like(accuracy, math.log(len(self.classes))),
            "spread/video": spread(torch.cat([parts for parts, _ in solved.values()])),
        }
        return Loss(torch.stack(losses).mean(), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` (n, 24 or 48) of each row in each order, and for each puzzle (n, 24)."""
        chance = 1 / len(self.classes)
        rates = {kind: choice_hits(logits, self.classes) for kind, (_, logits) in self._solve(batch, bank).items()}
        each = {f"accuracy_{kind}": Judged(rate, chance) for kind, rate in rates.items()}
        return {"accuracy": Judged(torch.cat(list(rates.values()), dim=1), chance)} | each

    def _solve(self, batch: Batch, bank: EncoderBank) -> dict[str, tuple[Tensor, Tensor]]:
        """Puzzle -> the pieces' vectors (4 * n, hidden), and logits (n, 24, 24)."""
        channel = ("random" if self.training else "green") if self.channel_split else "all"
        solved: dict[str, tuple[Tensor, Tensor]] = {}
        for kind, head in self.heads.items():
            space = kind == "space"
            video = torch.cat([batch[f"space_{k}"] for k in range(PIECES)], dim=1) if space else batch["time"]
            show = Members(PIECES, self.frame_augment if self.training else None, channel, self.standard and space)
            parts = self.summary(bank.encode("video", video, show))
            solved[kind] = (parts.detach(), head(parts.unflatten(0, (-1, PIECES))))
        return solved
