"""Captions along a film: does this caption belong to this moment, and which of the steps of a window does each caption belong to?

Captions of the same film, but of another time, as hard negatives, and texts that are laid along the steps of a window: after Han, Xie,
Zisserman, "Temporal Alignment Networks for Long-term Video", CVPR 2022, arXiv:2204.02968. The path over time is soft dynamic time
warping (Cuturi and Blondel, ICML 2017, arXiv:1703.01541) in which steps may be left out, see `mmssl.nn.paths`.

A window has S steps, each encoded by itself, with embeddings z_s, and K captions with embeddings c_k. A step fits a caption by
l = a (z_s . c_k - b), with a and b learnt; the moment of a caption is the mean m_k of the steps in its time.

    belongs: for captions k, l of one window that are apart in time: l(m_k, c_k) and l(m_l, c_l) should be above 0, l(m_k, c_l) and
             l(m_l, c_k) below; also l of captions with moments of other films. Binary cross-entropy, half of it on the true ones.
    when:    -log softmax of the path score of the captions along their window, among that of the captions in reverse order and those
             along windows of other films. Only their order enters, not their times.

Nothing but what is seen and said can tell. In a pair both captions are right once and wrong once, and so are both moments, so neither
the length of a caption nor the place of a moment says anything by itself; windows begin anywhere; and since steps are encoded one by one,
none of them shows where in the window it is.

n rows of this rank, B rows of all ranks, S steps, T frames of a step, K captions, L tokens, D joint features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.cuts.captions import CAPTION_AUGMENT, WindowViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import Calibration, Projection
from mmssl.nn.health import masked_mean, sign_hits, spread
from mmssl.nn.nce import info_nce
from mmssl.nn.paths import best_path, path_score, path_shares
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Features, InputError, Loss, Modality


@dataclass(frozen=True)
class StepByStep:
    """Augment windows, one draw for each, then part them into their steps: (n, S * T, ...) -> (n * S, T, ...)."""

    steps: int
    augment: FrameAugment | None

    def __call__(self, x: Tensor) -> Tensor:
        """Augment and part."""
        x = x if self.augment is None else self.augment(x)
        return x.unflatten(1, (self.steps, -1)).flatten(0, 1)


class Told(NamedTuple):
    """A batch of windows: what was seen, what was said, and when."""

    steps: Tensor  # (n, S, D) unit length
    captions: Tensor  # (n, K, D) unit length
    moments: Tensor  # (n, K, D) means of steps
    held: Tensor  # (n, K) bool, which captions are there
    number: Tensor  # (n,) of them
    starts: Tensor  # (n, K) seconds in the window
    ends: Tensor
    apart: Tensor  # (n, K, K) bool, pairs of captions that can be told from one another
    others: Tensor  # (n, B) bool, rows of other films
    mine: Tensor  # (n,)
    reversible: Tensor  # (n,) bool, in reverse order the captions are others


class SubtitleAlignment(Objective):
    """Tell the moment of a caption, among other moments of the same film.

    Args:
        encoders: `video` and `text`.
        views: the windows; None in them is filled in from the encoders.
        dim: of the joint space.
        hidden: width of a hidden layer in the projections; 0: linear.
        apart: seconds that lie between two captions at least for one to be wrong at the other's moment.
        hard: share of the negatives' weight on captions of the same window; the rest is on other films'.
        path: weight of the loss of the path beside that of belonging.
        softness: of the minimum over paths; towards 0 only the best path counts.
        frame_augment: applied in training, one draw for a window.

    `accuracy` is over pairs of captions of one window, both at both moments: called right or wrong, rightly? Chance is 0.5.
    `accuracy_easy`: the same with moments of other films as the wrong ones. `accuracy_order`: do the captions go better along the window in
    their order than in reverse?
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "text": ("text",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: WindowViews = WindowViews(),
        dim: int = 256,
        hidden: int = 0,
        apart: float = 0.0,
        hard: float = 0.5,
        path: float = 0.5,
        softness: float = 1.0,
        frame_augment: FrameAugment = CAPTION_AUGMENT,
    ) -> None:
        super().__init__()
        if apart < 0.0 or not 0.0 <= hard <= 1.0 or path < 0.0 or softness <= 0.0:
            raise InputError(
                f"subtitle_alignment: apart {apart}, hard {hard}, path {path}, softness {softness}; give seconds >= 0, a share of 0 to 1, a "
                "weight >= 0, and a softness above 0"
            )
        self.views = self.window = views.resolve(encoders["video"].spec, encoders["text"].spec)
        self.apart, self.hard, self.path, self.softness = apart, hard, path, softness
        self.video_head = Projection(encoders["video"].dim, dim, hidden)
        self.text_head = Projection(encoders["text"].dim, dim, hidden)
        self.fit_of = Calibration(scale=8.0, threshold=0.2)
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `video` (n, S * T, 3, H, W), `text` (n, K, L), `captions`, `start_k`, `end_k` and `source` (n,)."""
        told = self._tell(batch, bank)
        with torch.autocast(told.steps.device.type, enabled=False):
            at_moments, elsewhere, wrong = self._belongs(told)
            belongs = self._belongs_loss(told, at_moments, elsewhere, wrong)
            own, backwards, along = self._paths(told)
            logits = torch.cat([along, backwards[:, None]], dim=1)
            when = info_nce(logits, told.mine, torch.cat([told.others, told.reversible[:, None]], dim=1))
        value = belongs.mean() + self.path * when.mean()
        half = torch.full_like(value.detach(), 0.5)
        decided = self._decisions(at_moments.detach())
        easy = self._easy_decisions(told, at_moments.detach(), elsewhere.detach(), wrong)
        order = sign_hits((own - backwards).detach())
        metrics = {
            "accuracy": masked_mean(decided, told.apart, empty=0.5),
            "accuracy_easy": masked_mean(easy, told.others.any(dim=1), empty=0.5),
            "accuracy_order": masked_mean(order, told.reversible, empty=0.5),
        }
        metrics |= {f"{name}/chance": half for name in metrics}
        metrics |= {
            "loss/belongs": belongs.detach().mean(),
            "loss/path": when.detach().mean(),
            "spread/video": spread(told.steps.flatten(0, 1)),
            "spread/text": spread(told.captions.flatten(0, 1)),
        }
        return Loss(value, metrics)

    @torch.no_grad()
    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Belonging, order, and how far off the paths lay each caption, in seconds, means over each row.

        `error_seconds` is the distance from the mean time that the paths give a caption, each by its probability, to the middle of its own
        time (what of it is in the window), `error_seconds_best_path` that of the best path alone, `error_seconds_middle` that of always guessing the window's middle, `error_seconds_even` that of laying the captions evenly
        along the window in their order; it is what an untaught path should be read against. A row without two captions apart counts as 0.5 in `accuracy`.
        """
        told = self._tell(batch, bank)
        at_moments, elsewhere, wrong = self._belongs(told)
        pairs = told.apart.sum(dim=(1, 2))
        decided = torch.where(told.apart, self._decisions(at_moments), 0.0).sum(dim=(1, 2)) / pairs.clamp(min=1)
        easy = self._easy_decisions(told, at_moments, elsewhere, wrong)
        own, backwards, _ = self._paths(told)
        truth = (told.starts + told.ends) / 2
        middle = torch.full_like(truth, self.window.seconds / 2)
        place = torch.arange(truth.shape[1], device=truth.device)
        even = (place + 0.5) / told.number[:, None] * self.window.seconds
        errors = [_mean_over((guess - truth).abs(), told.held) for guess in (*self._when(told), middle, even)]
        return {
            "accuracy": Judged(torch.where(pairs > 0, decided, 0.5), 0.5),
            "accuracy_easy": Judged(torch.where(told.others.any(dim=1), easy, 0.5), 0.5),
            "accuracy_order": Judged(torch.where(told.reversible, sign_hits(own - backwards), 0.5), 0.5),
            "error_seconds": Judged(errors[0], float(errors[3].mean())),
            "error_seconds_best_path": Judged(errors[1], float(errors[3].mean())),
            "error_seconds_middle": Judged(errors[2]),
            "error_seconds_even": Judged(errors[3]),
        }

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length embeddings (N, D) of steps ("video") or captions ("text")."""
        return (self.video_head if role == "video" else self.text_head)(features.pooled)

    def _tell(self, batch: Batch, bank: EncoderBank) -> Told:
        part = StepByStep(self.window.steps, self.frame_augment if self.training else None)
        steps = self.embed("video", bank.encode("video", batch["video"], part)).unflatten(0, (-1, self.window.steps))
        text = batch["text"]
        captions = self.embed("text", bank.encode("text", text.flatten(0, 1))).unflatten(0, text.shape[:2])
        starts, ends = (torch.stack([batch[f"{end}_{k}"] for k in range(text.shape[1])], dim=1) for end in ("start", "end"))
        starts, ends = starts.to(steps.dtype), ends.to(steps.dtype)
        held = torch.arange(text.shape[1], device=text.device) < batch["captions"][:, None]
        with torch.autocast(steps.device.type, enabled=False):
            moments = time_weights(starts, ends, self.window.steps, self.window.hop) @ steps
        gap = torch.maximum(starts[:, None] - ends[:, :, None], starts[:, :, None] - ends[:, None])
        differs = (text[:, :, None] != text[:, None]).any(dim=-1)
        apart = (gap >= self.apart) & differs & held[:, :, None] & held[:, None]
        back = _reversed(held, batch["captions"])
        turned = text.gather(1, back[..., None].expand_as(text))
        others = batch["source"][:, None] != gather_rows(batch["source"])
        mine = own_rows(len(steps), steps.device)
        reversible = ((turned != text).any(dim=-1) & held).any(dim=1)
        return Told(steps, captions, moments, held, batch["captions"], starts, ends, apart, others, mine, reversible)

    def _belongs(self, told: Told) -> tuple[Tensor, Tensor, Tensor]:
        """How well moments fit captions of their window (n, K, K); captions fit all moments (n, K, B, K); which of these are other films'."""
        with torch.autocast(told.steps.device.type, enabled=False):
            at_moments = self.fit_of(told.moments @ told.captions.transpose(1, 2))
            elsewhere = self.fit_of(torch.einsum("nkd,bld->nkbl", told.captions, gather_rows(told.moments)))
        wrong = told.held[:, :, None, None] & told.others[:, None, :, None] & gather_rows(told.held)
        return at_moments, elsewhere, wrong

    def _belongs_loss(self, told: Told, at_moments: Tensor, elsewhere: Tensor, wrong: Tensor) -> Tensor:
        """(n,). Pairs weigh alike, and in each both captions and both moments are right once and wrong once."""
        right = F.softplus(-at_moments.diagonal(dim1=1, dim2=2))  # (n, K)
        pairs = told.apart.sum(dim=(1, 2))
        some = pairs > 0
        in_pairs = told.apart.sum(dim=2)  # in how many pairs each caption is
        weights = torch.where(some[:, None], in_pairs, told.held.to(in_pairs.dtype))
        right = (right * weights).sum(dim=1) / weights.sum(dim=1)
        hard = torch.where(told.apart, F.softplus(at_moments), 0.0).sum(dim=(1, 2)) / pairs.clamp(min=1)
        easy = torch.where(wrong, F.softplus(elsewhere), 0.0).sum(dim=(1, 2, 3)) / wrong.sum(dim=(1, 2, 3)).clamp(min=1)
        strangers = told.others.any(dim=1)
        share = torch.where(some & strangers, self.hard, some.to(right.dtype))
        loss = (right + share * hard + (1.0 - share) * easy) / 2
        return torch.where(some | strangers, loss, 0.0)  # without anything wrong all would be called right

    def _decisions(self, at_moments: Tensor) -> Tensor:
        """For each moment k and caption l (n, K, K): of "c_k belongs to m_k" and "c_l does not", how many are rightly decided, 0 to 1."""
        right = sign_hits(at_moments.diagonal(dim1=1, dim2=2))
        return (right[:, :, None] + sign_hits(-at_moments)) / 2

    def _easy_decisions(self, told: Told, at_moments: Tensor, elsewhere: Tensor, wrong: Tensor) -> Tensor:
        right = _mean_over(sign_hits(at_moments.diagonal(dim1=1, dim2=2)), told.held)
        left = torch.where(wrong, sign_hits(-elsewhere), 0.0).sum(dim=(1, 2, 3)) / wrong.sum(dim=(1, 2, 3)).clamp(min=1)
        return (right + left) / 2

    def _paths(self, told: Told) -> tuple[Tensor, Tensor, Tensor]:
        """Path scores: of the captions along their window (n,), in reverse order (n,), and along all windows (n, B)."""
        with torch.autocast(told.steps.device.type, enabled=False):
            fits = self.fit_of(torch.einsum("nkd,bsd->nbks", told.captions, gather_rows(told.steps)))
            n, b, k, s = fits.shape
            every = told.number[:, None].expand(n, b)
            along = path_score(fits.flatten(0, 1), every.flatten(), softness=self.softness).unflatten(0, (n, b))
            own = fits.gather(1, told.mine[:, None, None, None].expand(n, 1, k, s))[:, 0]
            turned = own.gather(1, _reversed(told.held, told.number)[..., None].expand_as(own))
            backwards = path_score(turned, told.number, softness=self.softness)
            return along.gather(1, told.mine[:, None])[:, 0], backwards, along

    def _when(self, told: Told) -> tuple[Tensor, Tensor]:
        """When each caption is said, seconds in the window (n, K): over all paths, by how probable they are; and by the best path alone."""
        fits = self.fit_of(told.captions @ told.steps.transpose(1, 2))
        path = best_path(fits, told.number)  # (n, S)
        given = path[:, None] == torch.arange(fits.shape[1], device=path.device)[:, None]  # (n, K, S)
        times = (torch.arange(fits.shape[2], device=path.device) + 0.5) * self.window.hop
        return _mean_at(times, path_shares(fits, told.number, softness=self.softness)), _mean_at(times, given.to(times.dtype))


def time_weights(starts: Tensor, ends: Tensor, steps: int, hop: float) -> Tensor:
    """The share of each step in a caption's time: (n, K) seconds -> (n, K, S), rows add up to 1."""
    edges = torch.arange(steps, device=starts.device, dtype=starts.dtype) * hop
    covered = torch.minimum(ends[..., None], edges + hop) - torch.maximum(starts[..., None], edges)
    covered = covered.clamp(min=0.0) + 1e-6  # a caption without any length is everywhere
    return covered / covered.sum(dim=-1, keepdim=True)


def _reversed(held: Tensor, count: Tensor) -> Tensor:
    """Where each caption stands in reverse order (n, K); those that are not there stay."""
    place = torch.arange(held.shape[1], device=held.device).expand_as(held)
    return torch.where(held, count[:, None] - 1 - place, place)


def _mean_over(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, 0.0).sum(dim=1) / where.sum(dim=1).clamp(min=1)


def _mean_at(times: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of times (S,) for each caption, weights (n, K, S); 0 where they are all 0."""
    return (weights * times).sum(dim=2) / weights.sum(dim=2).clamp(min=1e-6)
