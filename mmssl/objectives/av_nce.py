"""Audio-visual InfoNCE: find the sound of a picture among other sounds, and the picture of a sound.

Symmetric cross-entropy over in-batch and queued negatives, as in Morgado, Vasconcelos, Misra, "Audio-Visual Instance
Discrimination" (AVID), CVPR 2021, arXiv:2004.12943, but softmax, not NCE. With pooling "max" a pair scores by the best cell of the
picture, for all pairs: Mo and Morgado, "Localizing Visual Sounds the Easy Way" (EZ-VSL), ECCV 2022, arXiv:2203.09324; Chen et al.,
"Localizing Visual Sounds the Hard Way" (LVS), CVPR 2021, arXiv:2104.02691.

n rows of this rank, B rows of all ranks, K queued rows, D joint features.
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
from mmssl.nn.heads import Projection, Temperature
from mmssl.nn.health import hits, masked_mean, spread
from mmssl.nn.nce import cell_scores, check_sharpness, info_nce
from mmssl.nn.queue import RowQueue
from mmssl.objectives.base import Batch, Objective
from mmssl.types import Features, InputError, Loss, Modality


class AudioVisualNCE(Objective):
    """Symmetric InfoNCE between pictures and sounds.

    Args:
        encoders: `video` and `audio`.
        views: the cuts; None in them is filled in from the encoders.
        dim: of the joint space.
        hidden: width of a hidden layer in the projections; 0: linear.
        pooling: a picture's score is the cosine of its mean features ("mean") or of its best cell ("max") with the sound.
        sharpness: with "max": None takes the best cell alone; a number takes a soft maximum, the mean of the cells weighted by
            softmax(sharpness * cosine), which leaves chance sooner because every cell has a gradient; 20 is a good start.
        time: with "max", over the frames: the best cell of all frames ("max"), or the mean of each frame's best ("mean").
        temperature: of the softmax; with `learn_temperature` where it begins, between 0.01 and 1.
        learn_temperature: make the temperature a parameter that is learnt.
        queue: past rows kept as further negatives, 0 for none. With pooling "max" only sounds are queued (a queued picture would be a
            whole grid), so only the picture-to-sound direction has them.
        frame_augment, wave_augment: applied in training.

    Rows of the same source are no negatives of one another, in the batch and in the queue. `accuracy` is over the batch, without the
    queue, averaged over both directions.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "audio": ("audio",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: PairViews = PairViews(),
        dim: int = 128,
        hidden: int = 0,
        pooling: Literal["mean", "max"] = "max",
        sharpness: float | None = None,
        time: Literal["mean", "max"] = "max",
        temperature: float = 0.07,
        learn_temperature: bool = False,
        queue: int = 0,
        frame_augment: FrameAugment = FrameAugment(),
        wave_augment: WaveAugment = WaveAugment(),
    ) -> None:
        super().__init__()
        if not 0.01 < temperature < 1.0:
            raise InputError(f"av_nce: temperature is {temperature}; give a value between 0.01 and 1, 0.07 is common")
        check_sharpness("av_nce", sharpness)
        if sharpness is not None and pooling != "max":
            raise InputError(
                f"av_nce: sharpness is {sharpness}, but pooling {pooling} compares no cells; leave it out, or set pooling to max"
            )
        self.views = views.resolve(encoders["video"].spec, encoders["audio"].spec)
        self.pooling, self.sharpness, self.time = pooling, sharpness, time
        self.video_head = Projection(encoders["video"].dim, dim, hidden)
        self.audio_head = Projection(encoders["audio"].dim, dim, hidden)
        self.temperature = Temperature(temperature, learn=learn_temperature)
        kinds = {"audio": dim} if pooling == "max" else {"audio": dim, "video": dim}
        self.queue = RowQueue(queue, **kinds) if queue else None
        self.frame_augment, self.wave_augment = frame_augment, wave_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The mean of both directions' InfoNCE. Needs `video` (n, T, 3, H, W), `audio` (n, samples), `source` (n,)."""
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        audio = bank.encode("audio", batch["audio"], self.wave_augment if self.training else None)
        sound_nD = self.audio_head(audio.pooled)
        picture_nD = self.video_head(video.pooled)
        queue = self.queue if self.training else None

        sound_BD = gather_rows(sound_nD)
        sounds = sound_BD if queue is None else torch.cat([sound_BD, queue.rows("audio")])
        scores = self._scores(video, picture_nD, sounds)  # (n, B + K)
        total = len(sound_BD)
        mine = own_rows(len(sound_nD), scores.device)
        source_B = gather_rows(batch["source"])
        rivals = source_B[mine][:, None] != source_B  # (n, B)
        from_sound = gather_rows(scores[:, :total])[:, mine].T  # (n, B): this rank's sounds, everyone's pictures

        to_sound, keep_sound, to_picture, keep_picture = scores, rivals, from_sound, rivals
        if queue is not None:
            usable = queue.usable(batch["source"])
            keep_sound = torch.cat([rivals, usable], dim=1)
            if self.pooling == "mean":
                with torch.autocast(scores.device.type, enabled=False):
                    to_picture = torch.cat([from_sound, sound_nD @ queue.rows("video").T], dim=1)
                keep_picture = keep_sound
        temperature = self.temperature()
        losses = info_nce(to_sound / temperature, mine, keep_sound) + info_nce(to_picture / temperature, mine, keep_picture)

        metrics = self._metrics(scores[:, :total].detach(), from_sound.detach(), mine, rivals)
        metrics |= {"spread/video": spread(picture_nD), "spread/audio": spread(sound_nD)}
        if isinstance(temperature, Tensor):
            metrics["temperature"] = temperature.detach().squeeze()
        return Loss(losses.mean() / 2, metrics, self._carry(picture_nD, sound_nD, batch["source"]))

    def after_step(self, carry: Mapping[str, Tensor], step: int) -> None:
        """Push the global batch into the queue."""
        del step
        if self.queue is not None:
            self.queue.push(carry["source"], **{kind: carry[kind] for kind in self.queue.kinds})

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length embeddings (N, D) of `pooled`."""
        return (self.video_head if role == "video" else self.audio_head)(features.pooled)

    def embed_cells(self, features: Features) -> Tensor | None:
        """Unit-length embeddings (N, T, H, W, D) of the cells, one of which decides; None where pictures are pooled."""
        return self.video_head(features.grid) if self.pooling == "max" else None

    def similarity_map(self, video: Features, audio: Features) -> Tensor:
        """Cosine of each cell with the paired sound, (N, T, H, W)."""
        return torch.einsum("nthwd,nd->nthw", self.video_head(video.grid), self.embed("audio", audio))

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        """Cosines (N, M), pooled as in training."""
        return self._scores(video, self.embed("video", video), self.embed("audio", audio))

    def _scores(self, video: Features, picture_nD: Tensor, sounds_MD: Tensor) -> Tensor:
        if self.pooling == "max":
            n, t, h, w, dim = video.grid.shape
            groups = (n, 1, t * h * w, dim) if self.time == "max" else (n, t, h * w, dim)
            return cell_scores(video.grid.reshape(groups), sounds_MD, self.video_head, sharpness=self.sharpness)
        with torch.autocast(picture_nD.device.type, enabled=False):
            return picture_nD @ sounds_MD.T

    def _metrics(self, to_sound: Tensor, to_picture: Tensor, mine: Tensor, rivals: Tensor) -> dict[str, Tensor]:
        candidates = 1.0 + rivals.sum(dim=1)
        right = hits(to_sound, mine, rivals) + hits(to_picture, mine, rivals)
        return {
            "accuracy": right.mean() / 2,
            "accuracy/chance": (1.0 / candidates).mean(),
            "loss/uninformed": candidates.log().mean(),  # ln(B): what an uninformed softmax over the batch pays
            "cosine/positive": to_sound.gather(1, mine[:, None]).mean(),
            "cosine/negative": masked_mean(to_sound, rivals),
        }

    def _carry(self, picture_nD: Tensor, sound_nD: Tensor, source: Tensor) -> dict[str, Tensor]:
        if self.queue is None:
            return {}
        rows = {"audio": sound_nD.detach(), "video": picture_nD.detach()}
        return {"source": source, **{kind: rows[kind] for kind in self.queue.kinds}}
