"""Clips and their captions: which caption goes with this clip, where each clip has several candidates that may all be beside the point.

"mil_nce": Miech, Alayrac, Smaira, Laptev, Sivic, Zisserman, "End-to-End Learning of Visual Representations from Uncurated Instructional
Videos", CVPR 2020, arXiv:1912.06430, equation 1. Speech and picture agree roughly in time only, so not the nearest caption is the
positive but the bag of the P nearest, and it is enough that one of them fits. With f a clip's embedding, g a caption's, P_i the pairs of
clip i with its own bag, N_i those of clip i with other bags and of other clips with bag i:

    loss = -mean over i of log( sum over P_i of e^(f.g) / (sum over P_i of e^(f.g) + sum over N_i of e^(f.g)) )

The denominator holds each positive once, as the formula has it; the authors' released code adds them twice (once with the row, once with
the column of its matrix of scores). The paper takes plain products f.g; here the default is cosines over a temperature.

"nce": InfoNCE both ways with the nearest caption alone; van den Oord, Li, Vinyals, 2018, arXiv:1807.03748.
"sigmoid": each pair by itself, -log sigmoid(z (s cos + b)), z = 1 for pairs and -1 for others; Zhai, Mustafa, Kolesnikov, Beyer, "Sigmoid
Loss for Language Image Pre-Training" (SigLIP), ICCV 2023, arXiv:2303.15343, equation 1, with s = 10 and b = -10 to begin with.

n rows of this rank, B rows of all ranks, P candidates, L tokens, D joint features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.captions import CAPTION_AUGMENT, CaptionViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import Projection, at_least_float32
from mmssl.nn.health import hits, masked_mean, spread
from mmssl.nn.nce import info_nce
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Features, InputError, Loss, Modality

CANDIDATES = 4  # the paper's choice, table 1c


def mil_nce(to_text_nBP: Tensor, to_video_nBP: Tensor, mine: Tensor, rivals: Tensor, held_BP: Tensor) -> Tensor:
    """The loss above for each row (n,).

    Args:
        to_text_nBP: scores of this rank's clips with all captions.
        to_video_nBP: scores of all clips with this rank's captions.
        mine: (n,) int64, the global numbers of this rank's rows.
        rivals: (n, B) bool, which rows are negatives of each; a row's own entry is False.
        held_BP: bool, which candidates are there.
    """
    own_held = held_BP[mine]
    own = to_text_nBP.gather(1, mine[:, None, None].expand(-1, 1, to_text_nBP.shape[2]))[:, 0]
    own = own.masked_fill(~own_held, -torch.inf)
    others = to_text_nBP.masked_fill(~(rivals[:, :, None] & held_BP), -torch.inf)
    clips = to_video_nBP.masked_fill(~(rivals[:, :, None] & own_held[:, None]), -torch.inf)
    everything = torch.cat([own, others.flatten(1), clips.flatten(1)], dim=1)
    return everything.logsumexp(dim=1) - own.logsumexp(dim=1)


def sigmoid_loss(logits_nB: Tensor, mine: Tensor, rivals: Tensor) -> Tensor:
    """The sum over pairs of each row (n,), as SigLIP has it; pairs that are neither positive nor rivals do not count."""
    right = F.softplus(-logits_nB.gather(1, mine[:, None])[:, 0])
    return right + torch.where(rivals, F.softplus(logits_nB), 0.0).sum(dim=1)


class Pairs(NamedTuple):
    """Scores of one batch, and what counts in them."""

    to_text: Tensor  # (n, B, P) this rank's clips, everyone's captions
    to_video: Tensor  # (n, B, P) this rank's captions, everyone's clips
    mine: Tensor  # (n,)
    rivals: Tensor  # (n, B)
    held: Tensor  # (B, P)


class MultipleInstanceNCE(Objective):
    """Find a clip's caption among other clips' captions, and a caption's clip.

    Args:
        encoders: `video` and `text`.
        views: the cuts; None in them is filled in from the encoders. `views.candidates`: 4, with the other forms 1.
        form: "mil_nce", "nce" or "sigmoid", see above.
        dim: of the joint space.
        hidden: width of a hidden layer in the projections; 0: linear.
        pool: a caption's features: the encoder's own ("pooled"), or the maximum over its tokens ("max", the paper's). Padding takes no part.
        temperature: of "mil_nce" and "nce"; None: products of vectors of any length, as in the MIL-NCE paper.
        apart: rows of the same film are negatives of one another where their clips lie at least so many seconds apart; None: never.
        frame_augment: applied in training. Mirroring would make captions that say left or right wrong.

    `accuracy` is over the nearest captions alone, whatever the form, averaged over both directions.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "text": ("text",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: CaptionViews = CaptionViews(),
        form: Literal["mil_nce", "nce", "sigmoid"] = "mil_nce",
        dim: int = 256,
        hidden: int = 0,
        pool: Literal["pooled", "max"] = "pooled",
        temperature: float | None = 0.07,
        apart: float | None = None,
        frame_augment: FrameAugment = CAPTION_AUGMENT,
    ) -> None:
        super().__init__()
        if temperature is not None and not 0.01 <= temperature <= 10.0:
            raise InputError(f"mil_nce: temperature is {temperature}; give 0.01 to 10, or null for plain products")
        if apart is not None and apart <= 0.0:
            raise InputError(
                f"mil_nce: apart is {apart} s; a clip is no negative of itself, give seconds above 0, or leave it out"
            )
        if form != "mil_nce" and (views.candidates or 1) > 1:
            raise InputError(
                f"mil_nce: form {form} takes the nearest caption alone, but views.candidates is {views.candidates}; leave that out"
            )
        count = CANDIDATES if form == "mil_nce" else 1
        self.views = views.resolve(encoders["video"].spec, encoders["text"].spec, candidates=count)
        self.form, self.pool, self.temperature, self.apart = form, pool, temperature, apart
        self.video_head = Projection(encoders["video"].dim, dim, hidden)
        self.text_head = Projection(encoders["text"].dim, dim, hidden)
        # Shape (1,): FSDP2 refuses scalars.
        self.log_scale = nn.Parameter(torch.tensor([math.log(10.0)])) if form == "sigmoid" else None
        self.bias = nn.Parameter(torch.tensor([-10.0])) if form == "sigmoid" else None
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `video` (n, T, 3, H, W), `text` (n, P, L), `captions`, `time` and `source` (n,)."""
        video_nD, text_nPD = self._encode(batch, bank)
        pairs = self._pairs(video_nD, text_nPD, batch)
        losses = self._losses(pairs)
        metrics = self._metrics(pairs, video_nD.detach(), text_nPD.detach())
        return Loss(losses.mean(), metrics)

    @torch.no_grad()
    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Retrieval among the clips of the batch, with the nearest caption: R@1 each way, and `accuracy`, the mean of both."""
        pairs = self._pairs(*self._encode(batch, bank), batch)
        chance = float((1.0 / (1.0 + pairs.rivals.sum(dim=1))).mean())
        to_video, to_text = (hits(scores[..., 0], pairs.mine, pairs.rivals) for scores in (pairs.to_video, pairs.to_text))
        found = {"accuracy": (to_video + to_text) / 2, "recall_1_text_to_video": to_video, "recall_1_video_to_text": to_text}
        return {name: Judged(values, chance if chance < 1.0 else None) for name, values in found.items()}

    def joint(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Tensor]:
        """Unit-length embeddings (n, D) of "video" and of each clip's nearest caption, "text"."""
        video_nD, text_nPD = self._encode(batch, bank)
        return {"video": F.normalize(video_nD, dim=-1), "text": F.normalize(text_nPD[:, 0], dim=-1)}

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length embeddings (N, D) of clips ("video") or texts ("text")."""
        return F.normalize(self._project(role, features), dim=-1)

    def _encode(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor]:
        """Embeddings (n, D) and (n, P, D): of unit length, or as they come where the temperature is None."""
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        texts = bank.encode("text", batch["text"].flatten(0, 1))
        video_nD, text_ND = self._project("video", video), self._project("text", texts)
        if self.form == "sigmoid" or self.temperature is not None:
            video_nD, text_ND = F.normalize(video_nD, dim=-1), F.normalize(text_ND, dim=-1)
        return video_nD, text_ND.unflatten(0, batch["text"].shape[:2])

    def _project(self, role: str, features: Features) -> Tensor:
        if role == "video":
            return at_least_float32(self.video_head.layers(features.pooled))
        pooled = features.pooled
        if self.pool == "max":
            grid = features.grid
            valid = torch.ones_like(grid[..., 0], dtype=torch.bool) if features.valid is None else features.valid
            pooled = grid.masked_fill(~valid[..., None], -torch.inf).amax(dim=1)
            pooled = torch.where(valid.any(dim=1, keepdim=True), pooled, 0.0)  # a text of padding alone has no maximum
        return at_least_float32(self.text_head.layers(pooled))

    def _pairs(self, video_nD: Tensor, text_nPD: Tensor, batch: Batch) -> Pairs:
        held_nP = torch.arange(text_nPD.shape[1], device=text_nPD.device) < batch["captions"][:, None]
        video_BD, text_BPD, held_BP = gather_rows(video_nD), gather_rows(text_nPD), gather_rows(held_nP)
        rivals = batch["source"][:, None] != gather_rows(batch["source"])
        if self.apart is not None:
            rivals = rivals | ((batch["time"][:, None] - gather_rows(batch["time"])).abs() >= self.apart)
        with torch.autocast(video_nD.device.type, enabled=False):
            to_text = torch.einsum("nd,bpd->nbp", video_nD, text_BPD)
            to_video = torch.einsum("bd,npd->nbp", video_BD, text_nPD)
        return Pairs(to_text, to_video, own_rows(len(video_nD), video_nD.device), rivals, held_BP)

    def _losses(self, pairs: Pairs) -> Tensor:
        if self.log_scale is not None and self.bias is not None:
            logits = self.log_scale.exp() * pairs.to_text[..., 0] + self.bias
            return sigmoid_loss(logits, pairs.mine, pairs.rivals)
        divisor = 1.0 if self.temperature is None else self.temperature
        to_text, to_video = pairs.to_text / divisor, pairs.to_video / divisor
        if self.form == "nce":
            both = info_nce(to_text[..., 0], pairs.mine, pairs.rivals) + info_nce(to_video[..., 0], pairs.mine, pairs.rivals)
            return both / 2
        return mil_nce(to_text, to_video, pairs.mine, pairs.rivals, pairs.held)

    def _metrics(self, pairs: Pairs, video_nD: Tensor, text_nPD: Tensor) -> dict[str, Tensor]:
        to_text, to_video = pairs.to_text[..., 0].detach(), pairs.to_video[..., 0].detach()
        candidates = 1.0 + pairs.rivals.sum(dim=1)
        right = hits(to_text, pairs.mine, pairs.rivals) + hits(to_video, pairs.mine, pairs.rivals)
        video_nD, text_nD = F.normalize(video_nD, dim=-1), F.normalize(text_nPD[:, 0], dim=-1)
        cosines = video_nD @ gather_rows(text_nD).T
        return {
            "accuracy": right.mean() / 2,
            "accuracy/chance": (1.0 / candidates).mean(),
            "loss/uninformed": self._uninformed(pairs).mean(),
            "cosine/positive": cosines.gather(1, pairs.mine[:, None]).mean(),
            "cosine/negative": masked_mean(cosines, pairs.rivals),
            "spread/video": spread(video_nD),
            "spread/text": spread(text_nD),
            "captions": pairs.held[pairs.mine].sum(dim=1).to(cosines.dtype).mean(),
        }

    def _uninformed(self, pairs: Pairs) -> Tensor:
        """What a row (n,) costs one who knows nothing but how many pairs there are."""
        rivals = pairs.rivals.sum(dim=1).to(pairs.to_text.dtype)
        if self.form == "sigmoid":  # it gives each pair the chance that it is the right one
            return (1 + rivals).log() + rivals * ((1 + rivals) / rivals.clamp(min=1.0)).log()
        if self.form == "nce":
            return (1 + rivals).log()
        own, size = pairs.held[pairs.mine].sum(dim=1), pairs.held.sum(dim=1)
        negatives = (pairs.rivals * size).sum(dim=1) + rivals * own
        return ((own + negatives) / own).log()
