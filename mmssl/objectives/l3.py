"""L3-Net: fuse picture and sound, and say whether they belong together.

Arandjelovic and Zisserman, "Look, Listen and Learn", ICCV 2017, arXiv:1705.08168, section 3: concatenate, fc128, ReLU, fc2.

n rows of this rank, B rows of all ranks, E hidden features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.pairs import PairViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment, WaveAugment
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import masked_mean, sign_hits, spread
from mmssl.objectives.base import Batch, Objective
from mmssl.types import Features, Loss, Modality


class LookListenLearn(Objective):
    """Binary correspondence of fused features.

    Args:
        encoders: `video` and `audio`.
        views: the cuts; None in them is filled in from the encoders.
        hidden: width of the fusion layer.
        frame_augment, wave_augment: applied in training.

    Every picture is seen twice, with its own sound and with that of the next row of another source in the global batch: as many
    negatives as positives, and both from the same cuts. A row that finds no other source is left out and shows in the metric
    `rows/without_negative`. There is no joint space: no `embed`, no maps.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "audio": ("audio",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: PairViews = PairViews(),
        hidden: int = 128,
        frame_augment: FrameAugment = FrameAugment(),
        wave_augment: WaveAugment = WaveAugment(),
    ) -> None:
        super().__init__()
        self.views = views.resolve(encoders["video"].spec, encoders["audio"].spec)
        # The two halves of one linear layer on the concatenation: all N x M pairs then cost N + M products.
        self.from_video = nn.Linear(encoders["video"].dim, hidden)
        self.from_audio = nn.Linear(encoders["audio"].dim, hidden, bias=False)
        self.classify = nn.Linear(hidden, 2)
        for half in (self.from_video, self.from_audio):
            nn.init.kaiming_normal_(half.weight, nonlinearity="relu")
        self.frame_augment, self.wave_augment = frame_augment, wave_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Softmax cross-entropy over the two classes. Needs `video` (n, T, 3, H, W), `audio` (n, samples), `source` (n,)."""
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        audio = bank.encode("audio", batch["audio"], self.wave_augment if self.training else None)
        picture_nE, sound_nE = self.from_video(video.pooled), self.from_audio(audio.pooled)
        source_B = gather_rows(batch["source"])
        mine = own_rows(len(picture_nE), source_B.device)
        partner, alone = next_of_another_source(source_B)
        sound_BE = gather_rows(sound_nE)
        # F.embedding, not indexing: its backward pass adds up in a fixed order on every device.
        other_nE = F.embedding(partner[mine], sound_BE)
        classes = self._classes(torch.stack([picture_nE + sound_nE, picture_nE + other_nE]))  # (2, n, 2)
        log_shares = classes.log_softmax(dim=-1)
        losses = -(log_shares[0, :, 1] + log_shares[1, :, 0]) / 2
        used = ~alone[mine]
        # All ranks divide by the same number, so that their mean is the mean over the global batch's usable rows.
        value = torch.where(used, losses, 0.0).sum() * (len(source_B) / len(used)) / (~alone).sum().clamp(min=1)

        margin = (classes[..., 1] - classes[..., 0]).detach()
        right = (sign_hits(margin[0]) + sign_hits(-margin[1])) / 2
        half = torch.full_like(value.detach(), 0.5)
        metrics = {
            "accuracy": masked_mean(right, used, empty=0.5),
            "accuracy/chance": half,
            "loss/uninformed": torch.full_like(half, 0.6931472),  # ln 2
            "rows/without_negative": (~used).sum().to(half.dtype),
            "spread/video": spread(video.pooled),
            "spread/audio": spread(audio.pooled),
        }
        return Loss(value, metrics)

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        """Logits (N, M): above zero where the model says that the two belong together."""
        pairs = self.from_video(video.pooled)[:, None] + self.from_audio(audio.pooled)
        classes = self._classes(pairs)
        return classes[..., 1] - classes[..., 0]

    def _classes(self, fused: Tensor) -> Tensor:
        return at_least_float32(self.classify(F.relu(fused)))


def next_of_another_source(source_B: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the next one, cyclically, of another source (B,), and which rows (B,) have none."""
    place = torch.arange(len(source_B), device=source_B.device)
    ahead = (place - place[:, None]) % len(source_B)
    different = source_B[:, None] != source_B
    return torch.where(different, ahead, len(source_B)).argmin(dim=1), ~different.any(dim=1)
