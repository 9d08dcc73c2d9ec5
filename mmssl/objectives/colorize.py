"""Tracking emerges by colorizing video: which colour a cell has is copied from where the same thing stood before.

Vondrick, Shrivastava, Fathi, Guadarrama and Murphy, "Tracking Emerges by Colorizing Videos", ECCV 2018, arXiv:1806.09594, section 3. The network sees
grey frames only. For each cell i of the last frame it may point to the cells j of the frames before it, `A_ij = softmax_j(<f_i, f_j>)`,
and the colour it gives is what it points to: `y_i = sum_j A_ij c_j`, c_j the colour of j as one of `clusters` clusters of (a, b) in Lab. To give the
right colours it has to find the same thing again: that pointer is a tracker, for masks as for colours. The loss is
`-log(y_i[c_i] + eps)`: y is a probability already, a softmax over it (as in a common port) would flatten every gradient.

Frames are encoded one by one: the paper's 3-D convolutions over time on top, and its coordinates as input channels, are left out, so that the encoder's
own features serve for tracking and tell nothing of places.

Two later works are options. Lai and Xie (CorrFlow), BMVC 2019, arXiv:1905.00875: `radius` restricts the pointer, `dropout` < 1 shows the colours of some
clips (there by dropping channels of RGB, here of Lab, and without their rescaling: a dropped channel is 0.5, that is, no colour). Lai, Lu and Xie (MAST),
CVPR 2020, arXiv:2002.07793: `hide: channel` hides one of a and b, `form: regression` predicts what was hidden by a Huber loss on 20 times the value in
-1..1.

n clips, T frames, of which the last is the target and R = T - 1 are references; h x w cells, K colours, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.frames import FrameViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.health import masked_mean, spread
from mmssl.nn.lab import AB_WHOLE, lab_picture, lightness_picture, rgb_to_lab
from mmssl.nn.pointer import point
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

EPS = 1e-8  # added to the probability of the right colour, which no reference may have
HUBER_SCALE = 20.0  # as MAST's code: differences of less than 1 / 20 of the range are squared, larger ones are not
PALETTE_SIDE, PALETTE_BATCHES, PALETTE_CELLS = 32, 16, 100_000  # the paper's grid of labels; batches and cells for k-means


class Colorize(Objective):
    """Colour a frame by pointing to frames before it.

    Args:
        encoders: `video`, of single frames, with a fine grid (`output_stride: 8` or 4) and, best, `padding: reflect`.
        views: the cuts; the last frame is coloured from all before it.
        form: "classes" (the paper's clusters) or "regression" (MAST's Huber loss on a and b).
        hide: "colour": both a and b, the network sees grey. "channel": one of the two, drawn for each clip.
        dropout: share of training clips in which that is hidden; in the others everything is seen. In eval mode it is always hidden.
        clusters: K, colours of the palette.
        dim: D, of the linear head whose products are compared.
        radius: rows and columns of the grid that the pointer may span; None: all.
        temperature: divides the products; None: sqrt(D). Without a divisor, users of MAST's code report that it does not converge.
        frame_augment: applied in training, before colours are taken away.

    `accuracy/chance` and `loss/uninformed` are what pointing everywhere alike gives (a collapsed encoder's score), `copy/accuracy` is what the same
    place of the last reference gives; `accuracy_moved` counts only cells where that copy is wrong. `judge` states as chance how often the most
    common colour of the palette's own data occurs.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame",)}
    palette: Tensor
    frequency: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: FrameViews = FrameViews(),
        form: Literal["classes", "regression"] = "classes",
        hide: Literal["colour", "channel"] = "colour",
        dropout: float = 1.0,
        clusters: int = 16,
        dim: int = 64,
        radius: int | None = None,
        temperature: float | None = None,
        frame_augment: FrameAugment = FrameAugment(brightness=0.2, contrast=0.2, saturation=0.0, hue=0.0),
    ) -> None:
        super().__init__()
        if not 0.0 < dropout <= 1.0:
            raise InputError(f"colorize: dropout is {dropout}; something must be hidden from some clips: 0 < dropout <= 1")
        if clusters < 2 or (radius is not None and radius < 1):
            raise InputError(
                f"colorize: clusters is {clusters} and radius is {radius}; give at least 2 and at least 1 (or no radius)"
            )
        if temperature is not None and temperature <= 0.0:
            raise InputError(f"colorize: temperature is {temperature}; it divides, so give a number above 0")
        self.views = views.resolve(encoders["video"].spec)
        self.form, self.hide, self.dropout, self.radius = form, hide, dropout, radius
        self.scale = 1.0 / (math.sqrt(dim) if temperature is None else temperature)
        self.head = nn.Linear(encoders["video"].dim, dim)
        self.frame_augment = frame_augment
        self.register_buffer("palette", _wheel(clusters))  # (K, 2) a and b, the most common first; `fit` finds it
        self.register_buffer("frequency", torch.full((clusters,), 1.0 / clusters))  # (K,)

    def fit(self, batches: Iterator[Batch]) -> None:
        """Find the palette: k-means of (a, b) over cells of the first batches.

        Raises:
            InputError: the clips hold fewer colours than `clusters`.
        """
        cells: list[Tensor] = []
        for batch in batches:
            side = min(PALETTE_SIDE, *batch["video"].shape[-2:])
            colour = _cells(rgb_to_lab(batch["video"]), (side, side)).permute(0, 1, 3, 4, 2).reshape(-1, 2).cpu()
            cells.append(colour[torch.randperm(len(colour))[: PALETTE_CELLS // PALETTE_BATCHES]])
            if len(cells) == PALETTE_BATCHES:
                break
        colours = torch.cat(cells).numpy()
        clusters = len(self.palette)
        distinct = len(np.unique(colours.round(1), axis=0))
        if distinct < clusters:
            raise InputError(
                f"colorize: the first {len(cells)} batches hold {distinct} colours, the palette needs {clusters}; "
                f"train on coloured clips, or lower clusters"
            )
        cv2.setRNGSeed(int(torch.randint(2**31 - 1, ())))
        stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 0.01)
        _, members, centres = cv2.kmeans(colours, clusters, np.empty(0), stop, 1, cv2.KMEANS_PP_CENTERS)
        count = np.bincount(members.ravel(), minlength=clusters)
        order = np.argsort(-count, kind="stable")
        self.palette.copy_(torch.from_numpy(centres[order]))
        self.frequency.copy_(torch.from_numpy(count[order] / count.sum()))

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Mean over the target's cells. Needs `video` (n, T, 3, H, W)."""
        seen = self._point(batch, bank)
        right, even, copied = (hit.float() for hit in (seen.right, seen.right_even, seen.copied))
        moved = ~seen.copied
        metrics = {
            "accuracy": right.mean(),
            "accuracy/chance": even.mean(),
            "accuracy_moved": masked_mean(right, moved),
            "accuracy_moved/chance": masked_mean(even, moved),
            "copy/accuracy": copied.mean(),
            "loss/uninformed": seen.losses_even.mean(),
            "spread/video": spread(seen.embedded.flatten(0, 2)),
        }
        return Loss(seen.losses.mean(), metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Share of the target's cells that get their colour; by pointing everywhere alike ("majority"); by copying the same place ("copy")."""
        seen = self._point(batch, bank)
        right, even, copied = (hit.float().mean((1, 2)) for hit in (seen.right, seen.right_even, seen.copied))
        chance = float(self.frequency.max())
        return {
            "accuracy": Judged(right, chance),
            "majority": Judged(even),
            "copy": Judged(copied),
            "better_than_copy": Judged(right - copied, 0.0),
        }

    def picture(self, frames: Tensor) -> Tensor:
        """What the encoder is given outside of training, (N, T, 3, H, W) uint8 -> float in 0..1: as in training, with nothing hidden that was ever seen."""
        lab = rgb_to_lab(frames)
        return lightness_picture(lab) if self._grey else lab_picture(lab)

    @property
    def _grey(self) -> bool:
        return self.hide == "colour" and self.dropout == 1.0

    def _point(self, batch: Batch, bank: EncoderBank) -> _Pointed:
        video = batch["video"]
        if video.shape[1] < 2:
            raise ValueError(f"colorize needs at least 2 frames, one of them to colour, got {video.shape[1]}")
        lab = rgb_to_lab(self.frame_augment(video) if self.training else video)
        hidden = self._hidden(len(lab)).to(lab.device)
        grid = bank.encode("video", self._shown(lab, hidden)).grid
        embedded = self.head(grid).permute(0, 1, 4, 2, 3)  # (n, T, D, h, w)
        colour = _cells(lab, (grid.shape[2], grid.shape[3]))  # (n, T, 2, h, w)
        classes = self._nearest(colour)  # (n, T, h, w)
        kind = F.one_hot(classes, len(self.palette)).permute(0, 1, 4, 2, 3).float()
        values = kind if self.form == "classes" else colour / AB_WHOLE
        found = point(embedded[:, -1], embedded[:, :-1], values[:, :-1], scale=self.scale, radius=self.radius)
        even = _alike(values[:, :-1], self.radius)
        with torch.autocast(found.device.type, enabled=False):
            losses, losses_even = (self._losses(y, values[:, -1], classes[:, -1], hidden) for y in (found, even))
        target = classes[:, -1]
        return _Pointed(
            losses=losses,
            losses_even=losses_even,
            right=self._classes_of(found.detach()) == target,
            right_even=self._classes_of(even) == target,
            copied=classes[:, -2] == target,
            embedded=embedded[:, -1].detach().permute(0, 2, 3, 1),
        )

    def _losses(self, found: Tensor, true: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
        """Of each cell, (n, h, w)."""
        if self.form == "classes":
            return -(found.gather(1, target[:, None]).squeeze(1) + EPS).log()
        # What was seen need not be pointed for; a clip from which nothing was hidden counts in full.
        counts = (hidden | ~hidden.any(dim=1, keepdim=True)).to(found.dtype)[:, :, None, None]
        each = F.smooth_l1_loss(found * HUBER_SCALE, true.to(found.dtype) * HUBER_SCALE, reduction="none")
        return (each * counts).sum(dim=1) / counts.sum(dim=1)

    def _hidden(self, clips: int) -> Tensor:
        """Which of a and b each clip does not show, (n, 2) bool, on the host."""
        if self.hide == "colour":
            hidden = torch.ones(clips, 2, dtype=torch.bool)
        else:
            which = torch.randint(2, (clips,)) if self.training else torch.arange(clips) % 2
            hidden = F.one_hot(which, 2).bool()
        return hidden & (torch.rand(clips, 1) < self.dropout) if self.training else hidden

    def _shown(self, lab: Tensor, hidden: Tensor) -> Tensor:
        if self._grey:
            return lightness_picture(lab)
        colour = lab[:, :, 1:] * ~hidden[:, None, :, None, None]
        return lab_picture(torch.cat([lab[:, :, :1], colour], dim=2))

    def _nearest(self, colour: Tensor) -> Tensor:
        """(..., 2, h, w) -> number of the nearest colour of the palette (..., h, w)."""
        apart = (colour[..., None, :, :, :] - self.palette[:, :, None, None]).square().sum(dim=-3)  # (..., K, h, w)
        return apart.argmin(dim=-3)

    def _classes_of(self, found: Tensor) -> Tensor:
        return found.argmax(dim=1) if self.form == "classes" else self._nearest(found.float() * AB_WHOLE)


class _Pointed(NamedTuple):
    """What pointing gave, for each cell of the target (n, h, w)."""

    losses: Tensor
    losses_even: Tensor  # of pointing everywhere alike
    right: Tensor  # bool
    right_even: Tensor
    copied: Tensor  # bool: the same place of the last reference has the right colour
    embedded: Tensor  # (n, h, w, D)


def _wheel(clusters: int) -> Tensor:
    """Colours (K, 2) spread evenly over the disc of a and b: a palette for who has not called `fit`."""
    place = torch.arange(clusters) + 0.5
    distance, angle = 80.0 * (place / clusters).sqrt(), place * (math.pi * (3 - math.sqrt(5)))
    return torch.stack([distance * angle.cos(), distance * angle.sin()], dim=1)


def _cells(lab: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean a and b of each cell: (n, T, 3, H, W) -> (n, T, 2, h, w).

    Cells part the picture evenly here, whatever pixels the encoder's cells centre on: a shift by part of a cell is the same in all frames.
    """
    return F.adaptive_avg_pool2d(lab[:, :, 1:].flatten(0, 1), grid).unflatten(0, lab.shape[:2])


def _alike(values: Tensor, radius: int | None) -> Tensor:
    """What pointing to all allowed cells alike gives: (n, R, V, h, w) -> (n, V, h, w)."""
    mean = values.mean(dim=1)
    if radius is None:
        return mean.mean(dim=(2, 3), keepdim=True).expand_as(mean)
    window, height, width = 2 * radius + 1, *mean.shape[2:]
    inside = F.avg_pool2d(mean.new_ones(1, 1, height, width), window, 1, radius)
    return F.avg_pool2d(mean, window, 1, radius) / inside
