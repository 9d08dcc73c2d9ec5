"""An attentive probe: one learnt query attends to all tokens of a frozen encoder, a linear classifier reads what it gathers.

Bardes et al. 2024, "Revisiting Feature Prediction for Learning Visual Representations from Video" (V-JEPA), arXiv:2404.08471, appendix D: a
cross-attention block with one query and an MLP with a residual connection. Tokens of all views of a clip are one sequence. Features that
only a map over the picture holds, and the mean loses, can be read this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmssl.downstream.probe.embed import Bank
from mmssl.downstream.probe.fitting import Recipe, batches, fit, parameter_groups
from mmssl.rng import Purpose, seed_for

HEAD = 32  # features of a head of attention, about
AT_ONCE = 64  # test clips scored at a time


class AttentiveHead(nn.Module):
    """Tokens (N, L, D) -> logits (N, classes)."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        heads = max(heads for heads in range(1, max(1, dim // HEAD) + 1) if dim % heads == 0)
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.before = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.between = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.classifier = nn.Linear(dim, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        keys = self.before(tokens.float())
        query = self.query.expand(len(tokens), -1, -1)
        gathered = query + self.attention(query, keys, keys, need_weights=False)[0]
        gathered = gathered + self.mlp(self.between(gathered))
        return self.classifier(gathered[:, 0])


def train_head(
    bank: Bank,
    places: NDArray[np.int64],
    targets: NDArray[np.int64],
    classes: int,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> AttentiveHead:
    """A head trained on the clips at `places` of the bank.

    Args:
        bank: tokens of all clips.
        places: positions in the bank.
        targets: of these clips: class numbers (n,), or (n, C) of 0 and 1.
        classes: how many there are.
        recipe: how to train.
        seed: of the initial weights and the order of clips.
        device: where to train.
        on_step: called after each step.
    """
    torch.manual_seed(seed_for(seed, Purpose.INIT, "attentive"))
    head = AttentiveHead(bank.rows(places[:1]).shape[-1], classes).to(device)

    def data() -> Iterator[tuple[Tensor, Tensor]]:
        for _, rows in batches(range(len(places)), recipe, seed):
            yield torch.from_numpy(bank.rows(places[rows])), torch.from_numpy(targets[rows])

    groups = parameter_groups({"head": list(head.parameters())}, 1.0)
    fit(head, groups, data(), recipe, steps=recipe.steps(len(places)), seed=seed, device=device, on_step=on_step)
    return head.eval()


@torch.inference_mode()
def head_scores(head: AttentiveHead, bank: Bank, places: NDArray[np.int64], device: torch.device) -> NDArray[np.float64]:
    """Logits of the clips at `places`, (n, C)."""
    parts = [
        head(torch.from_numpy(bank.rows(places[start : start + AT_ONCE])).to(device)).double().cpu().numpy()
        for start in range(0, len(places), AT_ONCE)
    ]
    return np.concatenate(parts)


def with_rate(recipe: Recipe, lr: float) -> Recipe:
    """The recipe at another learning rate."""
    return replace(recipe, lr=lr)
