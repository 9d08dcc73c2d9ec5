"""AVE-Net and AVOL-Net: does this sound belong to this picture?

Arandjelovic and Zisserman, "Objects that Sound", ECCV 2018, arXiv:1712.06651. AVE-Net (section 3): unit-length embeddings, their
Euclidean distance, a tiny calibration to a logit. AVOL-Net (section 4): the sound against every cell of the picture, calibration, sigmoid,
maximum over space; localization comes from the maximum alone. Here AVOL compares by cosine (unit-length embeddings, where the
paper takes plain scalar products), so that its maps mean the same as other objectives'.

n rows of this rank, B rows of all ranks, D joint features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mmssl.cuts.pairs import PairViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment, WaveAugment
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import Calibration, Projection
from mmssl.nn.health import masked_mean, sign_hits, spread
from mmssl.nn.losses import balanced_bce, unit_distance
from mmssl.nn.nce import cell_scores, check_sharpness
from mmssl.objectives.base import Batch, Objective
from mmssl.types import Features, InputError, Loss, Modality

# Where learning starts: the scale is positive and the threshold lies between unrelated unit vectors (distance 1.41; the best of some
# hundred cells has a cosine of 0.3 by luck) and equal ones, so both kinds of pairs have a gradient from the first step.
START = {"avenet": {"scale": 4.0, "threshold": -1.2}, "avol": {"scale": 8.0, "threshold": 0.3}}


class AVENet(Objective):
    """Balanced binary correspondence over the pairs of a batch.

    Args:
        encoders: `video` and `audio`.
        views: the cuts; None in them is filled in from the encoders.
        form: "avenet" (pooled embeddings, distance) or "avol" (maximum over the cells of all frames).
        sharpness: with "avol": None takes the best cell alone, as the paper; a number takes a soft maximum, see `mmssl.nn.nce.cell_scores`.
        dim: of the joint space.
        hidden: width of the hidden ReLU layer of the projections, 0: linear; None: 128 with "avenet" as in the paper, 0 with "avol", whose
            hard maximum was seen to get stuck far more often behind a hidden layer.
        negatives: how many other rows each picture is paired with, the next ones in the global batch; None: all.
            Positives and negatives weigh one half each, whatever their number.
        hard: share of the negatives' weight that goes to another window of the same source, `views.apart` seconds away.
        frame_augment, wave_augment: applied in training.

    Rows of the same source are never negatives (but for `hard`, whose point it is). A row that finds no other source is left out
    and shows in the metric `rows/without_negative`. `accuracy` is the mean of the accuracies on positives and negatives: chance is 0.5.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "audio": ("audio",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: PairViews = PairViews(),
        form: Literal["avenet", "avol"] = "avenet",
        sharpness: float | None = None,
        dim: int = 128,
        hidden: int | None = None,
        negatives: int | None = None,
        hard: float = 0.0,
        frame_augment: FrameAugment = FrameAugment(),
        wave_augment: WaveAugment = WaveAugment(),
    ) -> None:
        super().__init__()
        if negatives is not None and negatives < 1:
            raise InputError(f"avenet: negatives is {negatives}; give at least 1, or leave it out for all")
        if not 0.0 <= hard < 1.0 or (hard > 0.0) != (views.apart > 0.0):
            raise InputError(
                f"avenet: hard is {hard} and views.apart is {views.apart} s; negatives from the same source need both "
                "(0 < hard < 1 and apart > 0), without them both are 0"
            )
        self.views = views.resolve(encoders["video"].spec, encoders["audio"].spec)
        check_sharpness("avenet", sharpness)
        if sharpness is not None and form != "avol":
            raise InputError(
                f"avenet: sharpness is {sharpness}, but form {form} compares no cells; leave it out, or set form to avol"
            )
        self.form, self.sharpness, self.negatives, self.hard = form, sharpness, negatives, hard
        hidden = (128 if form == "avenet" else 0) if hidden is None else hidden
        self.video_head = Projection(encoders["video"].dim, dim, hidden)
        self.audio_head = Projection(encoders["audio"].dim, dim, hidden)
        self.calibration = Calibration(**START[form])
        self.frame_augment, self.wave_augment = frame_augment, wave_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Balanced binary cross-entropy.

        Needs `video` (n, T, 3, H, W), `audio` (n, samples), `source` (n,); with `hard` also `audio_apart` (n, samples).
        """
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        wave_augment = self.wave_augment if self.training else None
        sound_nD = self.embed("audio", bank.encode("audio", batch["audio"], wave_augment))
        sounds = sound_BD = gather_rows(sound_nD)
        if self.hard:
            apart = self.embed("audio", bank.encode("audio", batch["audio_apart"], wave_augment))
            sounds = torch.cat([sound_BD, gather_rows(apart)])

        total = len(sound_BD)
        mine = own_rows(len(sound_nD), sound_BD.device)
        source_B = gather_rows(batch["source"])
        others, alone = self._pairs(source_B)
        scores = self._scores(video, sounds)  # (n, B), with hard (n, 2 B)
        logits = self.calibration(scores)
        positive = logits.gather(1, mine[:, None]).squeeze(1)
        hard = logits.gather(1, mine[:, None] + total).squeeze(1) if self.hard else None
        losses = balanced_bce(positive, logits[:, :total], others[mine], hard, self.hard)
        # All ranks divide by the same number, so that their mean is the mean over the global batch's usable rows.
        used = ~alone[mine]
        value = torch.where(used, losses, 0.0).sum() * (total / len(used)) / (~alone).sum().clamp(min=1)

        metrics = self._metrics(scores[:, :total].detach(), logits[:, :total].detach(), mine, others[mine])
        metrics["rows/without_negative"] = alone[mine].sum().to(scores.dtype)
        metrics |= {"spread/video": spread(self.embed("video", video)), "spread/audio": spread(sound_nD)}
        if hard is not None:
            metrics["accuracy_hard"] = ((sign_hits(positive.detach()) + sign_hits(-hard.detach())) / 2).mean()
            metrics["accuracy_hard/chance"] = torch.full_like(value.detach(), 0.5)
        return Loss(value, metrics)

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length embeddings (N, D) of `pooled`."""
        return (self.video_head if role == "video" else self.audio_head)(features.pooled)

    def embed_cells(self, features: Features) -> Tensor | None:
        """Unit-length embeddings (N, T, H, W, D) of the cells, one of which decides; None with form "avenet"."""
        return self.video_head(features.grid) if self.form == "avol" else None

    def similarity_map(self, video: Features, audio: Features) -> Tensor:
        """Cosine of each cell with the paired sound, (N, T, H, W)."""
        return torch.einsum("nthwd,nd->nthw", self.video_head(video.grid), self.embed("audio", audio))

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        """Logits (N, M): above zero where the model says that the two belong together."""
        return self.calibration(self._scores(video, self.embed("audio", audio)))

    def _scores(self, video: Features, sounds_MD: Tensor) -> Tensor:
        """Negative distances ("avenet") or best cosines ("avol"), (n, M): higher is closer."""
        if self.form == "avol":
            n, t, h, w, dim = video.grid.shape
            return cell_scores(video.grid.reshape(n, 1, t * h * w, dim), sounds_MD, self.video_head, sharpness=self.sharpness)
        return -unit_distance(self.embed("video", video), sounds_MD)

    def _pairs(self, source_B: Tensor) -> tuple[Tensor, Tensor]:
        """Which columns are each row's negatives (B, B), and which rows (B,) have none."""
        different = source_B[:, None] != source_B
        if self.negatives is not None:
            place = torch.arange(len(source_B), device=source_B.device)
            ahead = (place - place[:, None]) % len(source_B)
            # The nearest rows ahead that show another source.
            rank = torch.where(different, ahead, len(source_B)).argsort(dim=1).argsort(dim=1)
            different = different & (rank < self.negatives)
        return different, ~different.any(dim=1)

    def _metrics(self, scores: Tensor, logits: Tensor, mine: Tensor, others: Tensor) -> dict[str, Tensor]:
        cosines = scores if self.form == "avol" else 1.0 - scores.square() / 2.0
        own = torch.zeros_like(others).scatter(1, mine[:, None], True)
        right_positive = masked_mean(sign_hits(logits), own)
        right_negative = masked_mean(sign_hits(-logits), others, empty=0.5)
        return {
            "accuracy": (right_positive + right_negative) / 2,
            "accuracy/chance": torch.full_like(right_positive, 0.5),
            "loss/uninformed": torch.full_like(right_positive, 0.6931472),  # ln 2
            "cosine/positive": masked_mean(cosines, own),
            "cosine/negative": masked_mean(cosines, others),
        }
