"""Dense predictive coding: which of these features comes next, at this place?

The clip is parted into blocks of a few pictures. Each block is encoded into a grid of features; a recurrent network gathers the blocks seen
so far, and from what it holds, the features of the blocks to come are predicted, at every place, one block after the other. A prediction
must pick its true feature out of many: of other places, of other times, of other clips. To do that, one has to know what moves and how.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, arXiv:1807.03748 (the loss, equation 4).
Han, Xie, Zisserman, "Video Representation Learning by Dense Predictive Coding", ICCV Workshops 2019, arXiv:1909.04656, section 3.

    z_b = f(block b);  c_b = g(z_b, c_{b-1});  z^_{b+1} = phi(c_b);  c_{b+1} = g(z^_{b+1}, c_b);  z^_{b+2} = phi(c_{b+1}); ...
    loss = - mean over rows n, steps s, cells k of  log  exp(z^_nsk . z_nsk) / sum over candidates (m, r, l) of exp(z^_nsk . z_mrl)

The candidates of row n are the features of all predicted steps r and all cells l of the clip itself and of every row m (of all ranks) that
shows another source. Those of the clip itself with r = s are the paper's spatial distractors, those with l = k its temporal ones. Rows of the
same source are left out: they may show the very same moment. Features have unit length and a temperature here, where the paper takes plain
scalar products (`temperature: null`).

n rows of this rank, B rows of all ranks, S steps predicted, K cells, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.forecast import BlockViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.areas import resize_grid
from mmssl.nn.augment import FrameAugment
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import hits, spread
from mmssl.nn.nce import info_nce
from mmssl.nn.recurrent import ConvGRUCell
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality

JUDGED_SIZE = 2**26  # scores held at once in `judge`


@dataclass(frozen=True, slots=True)
class InBlocks:
    """Augment clips (N, blocks * T, ...) as wholes, with one draw each, then part them -> (N * blocks, T, ...)."""

    blocks: int
    augment: Callable[[Tensor], Tensor] | None

    def __call__(self, x: Tensor) -> Tensor:
        """Augment, then part."""
        x = x if self.augment is None else self.augment(x)
        return x.unflatten(1, (self.blocks, -1)).flatten(0, 1)


class DensePredictiveCoding(Objective):
    """Predict the features of coming blocks at every place, against distractors of place, time and source.

    Args:
        encoders: `video`.
        views: the cuts; None in them is filled in from the encoder.
        steps: blocks predicted, the last ones of the clip; the others are seen.
        dim: of features and of the recurrent state.
        kernel: of the recurrent network and the predictor's first layer. 1, as in the paper: each place by itself, so that what moves from
            cell to cell must be in the encoder's receptive field; 3: from its neighbours too.
        cells: side of the grid that is predicted, averaged from the encoder's by area; None: the encoder's own.
        temperature: of cosines; None: plain scalar products, as in the paper.
        centre: take from each feature to be predicted its mean over the batch at its place. An encoder that pads with zeros writes the place
            into its features, and predicting the place alone would beat all spatial distractors; the part of it that is the same in all
            clips is gone then. `position_leak` shows what is left.
        moving: take from each feature to be predicted its mean over the predicted blocks at its place, so that only what changes is left. Not in
            the paper. Where every background is one of a kind, naming film and place solves all but the temporal distractors, and
            nothing of what moves is learnt (docs/results/tasks.md); this takes the shortcut away. Needs 2 steps at least.
        frame_augment: applied in training, one draw for all blocks of a clip.

    `accuracy` is over all candidates; chance is one over their number. `accuracy_spatial`: the true cell against the other cells of the same
    block (chance 1 / K); `accuracy_temporal`: the true block against the other predicted blocks at the same cell (1 / S);
    `accuracy_source`: against all features of other sources. `position_leak`: how often the prediction finds its cell in the same block
    of *another* source, of which it knows nothing, as (rate - 1 / K) / (1 - 1 / K): 0 is no leak, 1 is a complete one.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video")}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: BlockViews = BlockViews(),
        steps: int = 3,
        dim: int = 256,
        kernel: int = 1,
        cells: int | None = None,
        temperature: float | None = 0.1,
        centre: bool = True,
        moving: bool = False,
        frame_augment: FrameAugment = FrameAugment(),
    ) -> None:
        super().__init__()
        if not 1 <= steps < views.blocks:
            raise InputError(
                f"dense_predictive_coding: steps is {steps} of views.blocks = {views.blocks}; at least one block must be seen and one predicted"
            )
        if (cells is not None and cells < 1) or (cells == 1 and steps == 1):
            raise InputError(
                f"dense_predictive_coding: cells is {cells} and steps is {steps}; one cell of one block leaves no distractor in its clip"
            )
        if temperature is not None and temperature <= 0.0:
            raise InputError(f"dense_predictive_coding: temperature is {temperature}; give a number above 0, or null for none")
        if moving and steps < 2:
            raise InputError(
                f"dense_predictive_coding: moving compares predicted blocks with one another, but steps is {steps}; predict 2 at least"
            )
        encoder = encoders["video"]
        self.views = views.resolve(encoder.spec, encoder.modality)
        self.blocks, self.steps, self.cells, self.temperature, self.centre = views.blocks, steps, cells, temperature, centre
        self.feature = nn.Linear(encoder.dim, dim)
        self.recurrent = ConvGRUCell(dim, dim, kernel)
        self.predictor = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))
        self.moving, self.frame_augment = moving, frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """Cross-entropy of the true feature among the candidates. Needs `video` (n, blocks * frames, 3, H, W) and `source` (n,)."""
        predicted, targets_BSKD, true_nSKD = self._compare(batch, bank)
        mine, others = _rows(batch)
        scores = _scores(predicted, targets_BSKD)
        n, s, k, b = scores.shape[:4]
        keep = _expand(others, s * k)
        positive = _positive(mine, s * k)
        logits = scores.reshape(n * s * k, b * s * k) / (self.temperature or 1.0)
        value = info_nce(logits, positive, keep | _expand(_own(mine, b), s * k)).mean()
        with torch.no_grad():
            outcomes, chance = _outcomes(scores.detach(), mine, others)
            metrics = {name: rows.mean() for name, rows in outcomes.items()} | _chances(chance, s, k)
            metrics["loss/uninformed"] = -chance["accuracy"].log().mean()
            metrics["spread/video"] = spread(true_nSKD.flatten(0, -2))
        return Loss(value, metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """The accuracies of the class and `position_leak`, each a mean over steps and cells for each row.

        Candidates of other sources are the other rows of this batch.
        """
        predicted, targets_BSKD, _ = self._compare(batch, bank)
        mine, others = _rows(batch)
        b, s, k = targets_BSKD.shape[:3]
        some = max(1, JUDGED_SIZE // (b * (s * k) ** 2))
        parts = [
            _outcomes(_scores(predicted[place], targets_BSKD), mine[place], others[place])
            for place in torch.arange(len(predicted), device=mine.device).split(some)
        ]
        chance = {name: torch.cat([part[1][name] for part in parts]) for name in parts[0][1]}
        known = {name: float(value) for name, value in _chances(chance, s, k).items()}
        return {
            name: Judged(torch.cat([part[0][name] for part in parts]), known.get(f"{name}/chance", 0.0)) for name in parts[0][0]
        }

    def predict(self, seen: Tensor) -> Tensor:
        """Features of the blocks seen (n, blocks, h, w, D) -> those predicted for the next `steps` (n, S, h, w, D)."""
        state: Tensor | None = None
        for block in seen.movedim(-1, 2).unbind(1):
            state = self.recurrent(block, state)
        predicted: list[Tensor] = []
        for step in range(self.steps):
            predicted.append(self.predictor(state))
            if step + 1 < self.steps:
                state = self.recurrent(predicted[-1], state)
        return torch.stack(predicted, 1).movedim(2, -1)

    def _compare(self, batch: Batch, bank: EncoderBank) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions (n, S, K, D), what all ranks' rows truly hold (B, S, K, D), and this rank's own truth, as compared."""
        view = InBlocks(self.blocks, self.frame_augment if self.training else None)
        grid = bank.encode("video", batch["video"], view).grid.mean(dim=1)  # over the times of a block
        if self.cells is not None:
            grid = resize_grid(grid, self.cells, self.cells)
        features = self.feature(grid).unflatten(0, (-1, self.blocks))
        seen, true = features.split([self.blocks - self.steps, self.steps], dim=1)
        predicted = at_least_float32(self.predict(seen)).flatten(2, 3)
        true = gather_rows(at_least_float32(true).flatten(2, 3).contiguous())
        if self.centre:
            true = true - true.mean(dim=(0, 1), keepdim=True)
        if self.moving:
            true = true - true.mean(dim=1, keepdim=True)
        if self.temperature is not None:
            predicted, true = F.normalize(predicted, dim=-1), F.normalize(true, dim=-1)
        return predicted, true, true[own_rows(len(predicted), true.device)].detach()


def _rows(batch: Batch) -> tuple[Tensor, Tensor]:
    """This rank's rows among all (n,), and which rows (n, B) show another source than each."""
    source = batch["source"]
    return own_rows(len(source), source.device), source[:, None] != gather_rows(source)


def _own(mine: Tensor, total: int) -> Tensor:
    return mine[:, None] == torch.arange(total, device=mine.device)


def _expand(rows_nB: Tensor, each: int) -> Tensor:
    """What holds of pairs of rows, for pairs of their features: (n, B) -> (n * each, B * each)."""
    return rows_nB.repeat_interleave(each, 0).repeat_interleave(each, 1)


def _positive(mine: Tensor, each: int) -> Tensor:
    return (mine[:, None] * each + torch.arange(each, device=mine.device)).flatten()


def _scores(predicted: Tensor, targets_BSKD: Tensor) -> Tensor:
    """(n, S, K, B, S, K)."""
    with torch.autocast(predicted.device.type, enabled=False):
        scores = predicted.flatten(0, 2) @ targets_BSKD.flatten(0, 2).T
    return scores.view(*predicted.shape[:3], *targets_BSKD.shape[:3])


def _outcomes(scores: Tensor, mine: Tensor, others: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """How often predictions find the truth, and what chance gives where that differs from row to row: name -> (n,)."""
    n, s, k, b = scores.shape[:4]
    rows = torch.arange(n, device=scores.device)
    flat = scores.reshape(n * s * k, b * s * k)
    positive = _positive(mine, s * k)
    strangers = _expand(others, s * k)
    own = scores[rows, :, :, mine]  # (n, S, K, S, K)
    found = {
        "accuracy": _hit_rate(flat, positive, strangers | _expand(_own(mine, b), s * k), n),
        "accuracy_source": _hit_rate(flat, positive, strangers, n),
    }
    if k > 1:
        found["accuracy_spatial"] = _diagonal_rate(own.diagonal(dim1=1, dim2=3).movedim(-1, 1))
        ahead = (torch.arange(b, device=mine.device) - mine[:, None]) % b
        stranger = torch.where(others, ahead, b).argmin(dim=1)  # the next row ahead of another source
        rate = _diagonal_rate(scores[rows, :, :, stranger].diagonal(dim1=1, dim2=3).movedim(-1, 1))
        leak = (rate - 1 / k) / (1 - 1 / k)
        found["position_leak"] = torch.where(others.any(dim=1), leak, 0.0)
    if s > 1:
        found["accuracy_temporal"] = _diagonal_rate(own.diagonal(dim1=2, dim2=4).movedim(-1, 1))
    count = others.sum(dim=1) * (s * k)
    return found, {"accuracy": 1.0 / (count + s * k), "accuracy_source": 1.0 / (count + 1)}


def _hit_rate(flat: Tensor, positive: Tensor, keep: Tensor, rows: int) -> Tensor:
    return hits(flat, positive, keep).view(rows, -1).mean(dim=1)


def _diagonal_rate(square: Tensor) -> Tensor:
    """(n, ..., C, C) -> (n,): how often the diagonal is the greatest of its row."""
    side = square.shape[-1]
    flat = square.reshape(-1, side)
    positive = torch.arange(side, device=flat.device).repeat(len(flat) // side)
    return _hit_rate(flat, positive, torch.ones_like(flat, dtype=torch.bool), len(square))


def _chances(chance: Mapping[str, Tensor], steps: int, cells: int) -> dict[str, Tensor]:
    known = {f"{name}/chance": rows.mean() for name, rows in chance.items()}
    like = known["accuracy/chance"]
    if cells > 1:
        known["accuracy_spatial/chance"] = torch.full_like(like, 1.0 / cells)
    if steps > 1:
        known["accuracy_temporal/chance"] = torch.full_like(like, 1.0 / steps)
    return known
