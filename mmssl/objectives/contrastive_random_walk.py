"""The contrastive random walk: to walk from patch to patch through time and back, and to end where one began.

Jabri, Owens and Efros, "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020, arXiv:2006.14613. A frame is a set of P overlapping
patches, the nodes; their embeddings q give the chance of stepping from node i of frame t to node j of frame t + 1, `A_ij = softmax_j(<q_i, q_j> / tau)`
(section 2). A walk forwards over k frames and back again, `A_0^1 ... A_(k-1)^k A_k^(k-1) ... A_1^0`, is a palindrome: it should end in the node where
it began, whatever it visited in between (section 3, equation 3). The loss is the cross-entropy of log(walk + 1e-20) against the identity, the mean over
k = 1 .. T - 1 (equation 6). Edge dropout (section 3.1) forbids some steps, so that walks learn to pass through groups of nodes that belong together.

With `form: patches` (the paper's) each patch is encoded alone, as a small picture of its own: it cannot tell its place. With `form: grid` the nodes are the
cells of one pass over the whole frame, much cheaper; there an encoder with zero padding can read each cell's place off the border, and walk
home by address without looking: use `padding: reflect` in the encoder, and watch `share/stay`, which is 1 where every step stays on its place.

n clips, T frames, P nodes a frame, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.cuts.frames import FrameViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.heads import Projection, at_least_float32
from mmssl.nn.health import hits, spread
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

EPS = 1e-20  # of the paper's code: the log of a walk that has become impossible
DROPPED = -1e9  # the logit of a forbidden step; finite: where all are forbidden, all are equal


class ContrastiveRandomWalk(Objective):
    """Cycle-consistent walks over the patches of a few frames.

    Args:
        encoders: `video`, of single frames.
        views: the cuts; the paper takes 4 frames at 8 a second.
        form: "patches" (each encoded alone) or "grid" (the cells of the whole frame's grid).
        patch: side of a patch in pixels, which overlap by half; None: a quarter of the picture's side, which gives 7 x 7 nodes.
        jitter: side of the random box of each patch that training sees of it, as shares of its area (low, high); (1, 1) is off.
        dim: D, of the linear head.
        temperature: tau.
        edge_dropout: share of steps that are forbidden, drawn for each step of each walk in training.
        frame_augment: applied in training, to all frames of a clip alike.

    `accuracy`: share of nodes whose longest palindrome most probably ends at home; chance 1 / P. It is high where cells are merely distinct:
    only tracking masks (`mmssl.downstream.propagate`) shows that the walk follows things.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: FrameViews = FrameViews(frames=4, fps=(8.0, 8.0)),
        form: Literal["patches", "grid"] = "patches",
        patch: int | None = None,
        jitter: tuple[float, float] = (0.7, 0.9),
        dim: int = 128,
        temperature: float = 0.05,
        edge_dropout: float = 0.1,
        frame_augment: FrameAugment = FrameAugment(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
    ) -> None:
        super().__init__()
        self.views = views.resolve(encoders["video"].spec)
        side = self.views.size or 0
        self.patch = patch or max(2, side // 4)
        if self.patch % 2 or not 2 <= self.patch <= side // 2:
            raise InputError(
                f"contrastive_random_walk: patch is {self.patch} of a picture of {side} pixels; give an even number of at most half of it"
            )
        if not 0.0 < jitter[0] <= jitter[1] <= 1.0:
            raise InputError(f"contrastive_random_walk: jitter is {jitter}; give (low, high) with 0 < low <= high <= 1")
        if not 0.0 <= edge_dropout < 1.0 or temperature <= 0.0:
            raise InputError(
                f"contrastive_random_walk: edge_dropout is {edge_dropout} and temperature is {temperature}; "
                "give 0 <= edge_dropout < 1 and a temperature above 0"
            )
        self.form, self.jitter, self.temperature, self.edge_dropout = form, jitter, temperature, edge_dropout
        self.head = Projection(encoders["video"].dim, dim)
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Mean over nodes and lengths of walk. Needs `video` (n, T, 3, H, W)."""
        nodes = self._nodes(batch["video"], bank)
        with torch.autocast(nodes.device.type, enabled=False):
            forth, back = self._transitions(nodes)
            walks = palindromes(forth, back)
            value = torch.stack([_home_loss(walk) for walk in walks]).mean()
        count = nodes.shape[2]
        home = torch.arange(count, device=nodes.device)
        metrics = {
            "accuracy": _arrivals(walks[-1].detach()).mean(),
            "accuracy/chance": torch.full_like(value.detach(), 1.0 / count),
            "loss/uninformed": torch.full_like(value.detach(), math.log(count)),
            "share/stay": (forth[0].detach().argmax(dim=2) == home).to(value.dtype).mean(),
            "spread/video": spread(nodes.flatten(0, 2)),
        }
        return Loss(value, metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Whether the longest walk from each node comes home, and how many first steps stay where they are ("stay")."""
        nodes = self._nodes(batch["video"], bank)
        forth, back = self._transitions(nodes)
        count = nodes.shape[2]
        stays = forth[0].argmax(dim=2) == torch.arange(count, device=nodes.device)
        return {"accuracy": Judged(_arrivals(palindromes(forth, back)[-1]), 1.0 / count), "stay": Judged(stays.float())}

    def picture(self, frames: Tensor) -> Tensor:
        """What the encoder is given outside of training: the frames (N, T, 3, H, W) as they are."""
        return frames

    def _nodes(self, video: Tensor, bank: EncoderBank) -> Tensor:
        """Unit-length embeddings (n, T, P, D)."""
        if video.shape[1] < 2:
            raise ValueError(f"a walk needs at least 2 frames, got {video.shape[1]}")
        augment = self.frame_augment if self.training else None
        if self.form == "grid":
            return self.head(bank.encode("video", video, augment).grid.flatten(2, 3))
        clips, frames = video.shape[:2]
        pieces = cut_patches(video if augment is None else augment(video), self.patch)
        if self.training and self.jitter != (1.0, 1.0):
            pieces = jittered(pieces, self.jitter)
        # To the encoder, patches are frames of their own; their cells are averaged.
        grid = bank.encode("video", pieces.flatten(1, 2)).grid
        return self.head(grid.mean(dim=(2, 3)).unflatten(1, (frames, -1)).reshape(clips, frames, -1, grid.shape[-1]))

    def _transitions(self, nodes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Chances of stepping from frame t to t + 1, and from t + 1 to t: T - 1 of (n, P, P) each."""
        nodes = at_least_float32(nodes)
        logits = torch.einsum("ntpd,ntqd->ntpq", nodes[:, :-1], nodes[:, 1:]) / self.temperature
        forth = [self._chances(step) for step in logits.unbind(1)]
        back = [self._chances(step.transpose(1, 2)) for step in logits.unbind(1)]
        return forth, back

    def _chances(self, logits: Tensor) -> Tensor:
        if self.training and self.edge_dropout:
            # A new tensor: written in place, what is forbidden on the way out would be forbidden on the way back, too.
            logits = logits.masked_fill(torch.rand_like(logits) < self.edge_dropout, DROPPED)
        return logits.softmax(dim=2)


def cut_patches(video: Tensor, side: int) -> Tensor:
    """Patches of `side` pixels that overlap by half: (n, T, 3, H, W) -> (n, T, P, 3, side, side), row by row."""
    step = side // 2
    pieces = video.unfold(3, side, step).unfold(4, side, step)  # (n, T, 3, rows, columns, side, side)
    return pieces.permute(0, 1, 3, 4, 2, 5, 6).flatten(2, 3)


def jittered(pieces: Tensor, area: tuple[float, float]) -> Tensor:
    """Each patch (n, T, P, 3, S, S) cut to a random box of its own, of `area` (low, high) of it, and resized to S x S: float in 0..1.

    So no patch shares pixels with its neighbour in quite the same places, and no border tells two frames apart.
    """
    flat = pieces.flatten(0, 2)
    flat = flat.float() / 255.0 if flat.dtype == torch.uint8 else flat.float()
    low, high = area
    scale = (low + (high - low) * torch.rand(len(flat), device=flat.device)).sqrt()
    centre = (torch.rand(len(flat), 2, device=flat.device) * 2 - 1) * (1 - scale)[:, None]
    affine = torch.zeros(len(flat), 2, 3, device=flat.device)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = centre
    with torch.autocast(flat.device.type, enabled=False):  # a grid in bfloat16 would be off by pixels
        places = F.affine_grid(affine, list(flat.shape), align_corners=False)
        moved = F.grid_sample(flat, places, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.view(*pieces.shape[:3], *moved.shape[1:])


def palindromes(forth: list[Tensor], back: list[Tensor]) -> list[Tensor]:
    """Walks out over 1, 2, ... steps and back again: chances (n, P, P) of ending in each node, a row for each start."""
    walks: list[Tensor] = []
    out = home = None
    for ahead, behind in zip(forth, back, strict=True):
        out = ahead if out is None else out @ ahead
        home = behind if home is None else behind @ home
        walks.append(out @ home)
    return walks


def _home_loss(walk: Tensor) -> Tensor:
    return -(torch.diagonal(walk, dim1=1, dim2=2) + EPS).log().mean()


def _arrivals(walk: Tensor) -> Tensor:
    """Whether each node is where its walk most probably ends (n, P); nodes that tie share the hit."""
    count = walk.shape[1]
    home = torch.arange(count, device=walk.device).repeat(len(walk))
    flat = walk.flatten(0, 1)
    return hits(flat, home, torch.ones_like(flat, dtype=torch.bool)).view(len(walk), count)
