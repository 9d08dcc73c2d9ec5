"""Audio-visual temporal synchronisation: is this the sound of this moment?

Korbar, Tran, Torresani, "Cooperative Learning of Audio and Video Models from Self-Supervised Synchronization", NeurIPS 2018,
arXiv:1807.00230, section 3: contrastive margin loss; easy negatives (another video), hard ones (same video, another time),
super-hard ones (same video, overlapping), and a curriculum over them. That the true and the shifted example of the same video are in
one batch is from Owens and Efros, "Audio-Visual Scene Analysis with Self-Supervised Multisensory Features", ECCV 2018,
arXiv:1804.03641.

n rows of this rank, B rows of all ranks, D joint features, K time bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.cuts.pairs import SyncViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment, WaveAugment
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import Calibration, Projection, Temperature, at_least_float32
from mmssl.nn.health import masked_mean, sign_hits, spread
from mmssl.nn.losses import balanced_bce, contrastive_margin, distance
from mmssl.nn.nce import info_nce
from mmssl.objectives.base import Batch, Objective
from mmssl.types import Features, InputError, Loss, Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """How much of the negatives' weight the shifted sound of the same source has, over the steps."""

    easy_steps: int = 0  # steps with other sources' sounds only
    ramp: int = 0  # steps after them over which the share of hard negatives rises linearly
    hard: float = 0.25  # the share that it reaches
    overlapping_after: int = 0  # steps before shifted windows that overlap the true one (views.overlapping) count

    def __post_init__(self) -> None:
        if not 0.0 <= self.hard <= 1.0:
            raise InputError(f"avts: curriculum.hard is {self.hard}; it is a share of the negatives' weight, 0 to 1")
        for name in ("easy_steps", "ramp", "overlapping_after"):
            if getattr(self, name) < 0:
                raise InputError(f"avts: curriculum.{name} is {getattr(self, name)}; it counts steps, 0 or more")

    def share(self, steps: Tensor, overlap: Tensor) -> Tensor:
        """The hard share of rows (n,) after `steps` (1,) steps; `overlap` (n,) bool marks super-hard rows."""
        risen = ((steps - self.easy_steps + 1) / (self.ramp + 1)).clamp(0.0, 1.0)
        counts = ~overlap | (steps >= self.overlapping_after)
        return self.hard * risen * counts


class Synchronisation(Objective):
    """Tell a clip's own sound from other clips' and from its own at another time.

    Args:
        encoders: `video` and `audio`.
        views: the cuts; None in them is filled in from the encoders.
        dim: of the joint space.
        hidden: width of a hidden layer in the projections; 0: linear.
        bins: 1 compares one vector of the clip with one of the sound, as in the paper; K > 1 compares them in K consecutive parts of
            the window and takes the mean of the K cosines, which finds small shifts with far less data.
        centre: with K > 2, take the mean over the window away from the K vectors of each side and compare all K at once, which makes the
            score a correlation over time: only what changes counts, and more where more changes. Who is in view and who speaks is the same
            in true and shifted sounds and only drowns the timing.
        form: "margin" (the paper's contrastive loss on distances), "binary" (calibrated distance, cross-entropy) or "nce" (softmax over
            the sounds; picture to sound only, because only sounds are shifted).
        margin: of the contrastive loss.
        temperature: of "nce".
        curriculum: the share of hard negatives over the steps.
        frame_augment, wave_augment: applied in training; true and shifted sounds alike, each with its own draw.

    `accuracy` is over hard pairs: is the true sound nearer than the shifted one; chance is 0.5. `accuracy_easy` is the same against
    other sources, `accuracy_overlap` against overlapping shifts (0.5 in a batch without any).
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "audio": ("audio",)}
    steps: Tensor

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: SyncViews = SyncViews(),
        dim: int = 128,
        hidden: int = 128,
        bins: int = 1,
        centre: bool = False,
        form: Literal["margin", "binary", "nce"] = "margin",
        margin: float = 0.99,
        temperature: float = 0.07,
        curriculum: Curriculum = Curriculum(),
        frame_augment: FrameAugment = FrameAugment(),
        wave_augment: WaveAugment = WaveAugment(),
    ) -> None:
        super().__init__()
        if bins < 1 or not 0.0 < margin < 2.0 or temperature <= 0.0:
            raise InputError(
                f"avts: bins {bins}, margin {margin}, temperature {temperature}; bins must be at least 1, margin between 0 and 2 (the "
                "greatest distance of unit vectors), temperature above 0"
            )
        if centre and bins < 3:
            raise InputError(f"avts: centre needs at least 3 bins to correlate over, bins is {bins}; set bins, 8 for a second")
        if wave_augment.roll:
            raise InputError(
                f"avts: wave_augment.roll is {wave_augment.roll} samples; it would undo the timing that is to be learnt; set 0"
            )
        self.views = views.resolve(encoders["video"].spec, encoders["audio"].spec)
        self.bins, self.centre, self.form, self.margin, self.curriculum = bins, centre, form, margin, curriculum
        self.overlapping = views.overlapping
        self.video_head = Projection(encoders["video"].dim, dim, hidden)
        self.audio_head = Projection(encoders["audio"].dim, dim, hidden)
        self.calibration = Calibration(scale=4.0, threshold=-1.2) if form == "binary" else None
        self.temperature = Temperature(temperature)
        self.frame_augment, self.wave_augment = frame_augment, wave_augment
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))  # taken so far: the curriculum's clock

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss of the form chosen.

        Needs `video` (n, T, 3, H, W), `audio` and `audio_shifted` (n, samples), `overlap` (n,) 0 or 1, `source` (n,).
        """
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        # One pass for both, so that batch statistics cannot tell them apart.
        waves = torch.cat([batch["audio"], batch["audio_shifted"]])
        sounds = self.embed("audio", bank.encode("audio", waves, self.wave_augment if self.training else None))
        picture_nD = self.embed("video", video)
        true_nD, shifted_nD = sounds.chunk(2)
        true_BD = gather_rows(true_nD)
        source_B = gather_rows(batch["source"])
        mine = own_rows(len(picture_nD), source_B.device)
        others = batch["source"][:, None] != source_B
        overlap = batch["overlap"] > 0
        share = self.curriculum.share(self.steps, overlap)
        active = share > 0
        alone = ~others.any(dim=1)
        share = torch.where(alone & active, 1.0, share)  # without other sources the shifted sound is the only negative
        used = ~alone | active

        with torch.autocast(picture_nD.device.type, enabled=False):
            cosines = picture_nD @ true_BD.T  # (n, B)
            hard = (picture_nD * shifted_nD).sum(dim=1)
        losses = self._losses(cosines, hard, mine, others, share)
        everyone = gather_rows(used)
        value = torch.where(used, losses, 0.0).sum() * (len(everyone) / len(used)) / everyone.sum().clamp(min=1)
        metrics = self._metrics(cosines.detach(), hard.detach(), mine, others, overlap)
        metrics |= {
            "share/hard": share.mean(),
            "rows/without_negative": (~used).sum().to(cosines.dtype),
            "spread/video": spread(picture_nD),
            "spread/audio": spread(true_nD),
        }
        return Loss(value, metrics)

    def after_step(self, carry: Mapping[str, Tensor], step: int) -> None:
        """Move the curriculum's clock."""
        del carry, step  # counted here, so that it does not matter whether the trainer counts from 0 or 1
        self.steps += 1

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length embeddings (N, K * D): those of the K parts of the window, one after the other."""
        head = self.video_head if role == "video" else self.audio_head
        if self.bins == 1:
            return head(features.pooled)
        parts = over_time(features.grid, self.bins)
        if self.centre:
            return F.normalize(_changes(head, parts).flatten(1), dim=1)
        return (head(parts) / self.bins**0.5).flatten(1)

    def similarity_map(self, video: Features, audio: Features) -> Tensor:
        """Cosine of each cell with the paired sound, (N, T, H, W); with K > 1 with the sound at the cell's own time.

        With `centre` it is the cosine of both changes from the mean over the window.
        """
        if self.centre:
            cells = F.normalize(_changes(self.video_head, video.grid), dim=-1)
            sounds = F.normalize(_changes(self.audio_head, over_time(audio.grid, video.grid.shape[1])), dim=-1)
            return torch.einsum("nthwd,ntd->nthw", cells, sounds)
        cells = self.video_head(video.grid)
        if self.bins == 1:
            return torch.einsum("nthwd,nd->nthw", cells, self.embed("audio", audio))
        return torch.einsum("nthwd,ntd->nthw", cells, self.audio_head(over_time(audio.grid, video.grid.shape[1])))

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        """Cosines (N, M): higher where the sound fits the moment."""
        return self.embed("video", video) @ self.embed("audio", audio).T

    def _losses(self, cosines: Tensor, hard: Tensor, mine: Tensor, others: Tensor, share: Tensor) -> Tensor:
        if self.form == "nce":
            # Weights of negatives: each row's sum to the number of its easy ones, `share` of that on the shifted sound.
            count = others.sum(dim=1).clamp(min=1)
            weights = torch.cat([(1.0 - share)[:, None].expand_as(cosines), (share * count)[:, None]], dim=1)
            weights = weights.scatter(1, mine[:, None], 1.0)
            logits = torch.cat([cosines, hard[:, None]], dim=1) / self.temperature() + weights.log()
            return info_nce(logits, mine, torch.cat([others, torch.ones_like(others[:, :1])], dim=1))
        distances, far = distance(cosines), distance(hard)
        own = distances.gather(1, mine[:, None]).squeeze(1)
        if self.calibration is None:
            return contrastive_margin(own, distances, others, far, share, margin=self.margin)
        return balanced_bce(self.calibration(-own), self.calibration(-distances), others, self.calibration(-far), share)

    def _metrics(self, cosines: Tensor, hard: Tensor, mine: Tensor, others: Tensor, overlap: Tensor) -> dict[str, Tensor]:
        own = cosines.gather(1, mine[:, None])
        right_hard = sign_hits(own.squeeze(1) - hard)
        half = torch.full_like(hard[0], 0.5)
        metrics = {
            "accuracy": masked_mean(right_hard, ~overlap, empty=0.5),
            "accuracy_easy": masked_mean(sign_hits(own - cosines), others, empty=0.5),
            "cosine/positive": own.mean(),
            "cosine/negative": masked_mean(cosines, others),
            "cosine/shifted": hard.mean(),
        }
        if self.overlapping > 0:
            metrics["accuracy_overlap"] = masked_mean(right_hard, overlap, empty=0.5)
        return metrics | {f"{name}/chance": half for name in metrics if name.startswith("accuracy")}


def _changes(head: Projection, parts: Tensor) -> Tensor:
    """Projections (N, K, ..., D), not of unit length, less their mean over the K times."""
    projected = at_least_float32(head.layers(parts))
    return projected - projected.mean(dim=1, keepdim=True)


def over_time(grid: Tensor, bins: int) -> Tensor:
    """Grid (N, T, ..., E) -> means over all but time, of `bins` equal parts of the time: (N, bins, E).

    A part that begins or ends inside a time step takes its share of it. (A product with a fixed matrix: unlike adaptive pooling its
    backward pass is deterministic on every device.)
    """
    steps = grid.flatten(2, -2).mean(dim=2)  # (N, T, E)
    count = steps.shape[1]
    edges = torch.arange(bins + 1, device=grid.device) * (count / bins)
    place = torch.arange(count, device=grid.device)
    covered = torch.minimum(edges[1:, None], place + 1) - torch.maximum(edges[:-1, None], place)
    weights = covered.clamp(min=0.0) * (bins / count)
    return weights.to(steps.dtype) @ steps
