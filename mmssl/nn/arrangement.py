"""Questions about the order of M parts, asked of parts that are encoded once and then put into every order.

Because the very same features serve every answer, all answers are equally frequent in every row, and nothing in a part (its time in the
file, the kind of its frame in the codec, its compression, a repeated picture) can go with one answer more than with another. Formally it is the
average over all draws of the order that a published method draws one at a time.

N rows, M parts, A arrangements, K classes, D features.
"""

from __future__ import annotations

from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import hits


def all_orders(count: int) -> Tensor:
    """All permutations of `count` parts (A, M): row a says which part stands in each place. The first is the order of time."""
    return torch.tensor(list(permutations(range(count))))


def reversal_classes(orders: Tensor) -> Tensor:
    """Class (A,) of each order where an order and its reverse share one: motion looks as plausible backwards (Lee et al. 2017)."""
    known: dict[tuple[int, ...], int] = {}
    classes = []
    for row in orders.tolist():
        forwards, backwards = tuple(row), tuple(reversed(row))
        classes.append(known.setdefault(min(forwards, backwards), len(known)))
    return torch.tensor(classes)


class PairwiseOrder(nn.Module):
    """Classify the order of M parts from all pairs (Lee et al. 2017; Xu et al. 2019).

    Each pair of places gets `relu(W [first; second] + b)` with shared weights; the pairs of an arrangement side by side, in order of their
    places, are classified linearly.

    Args:
        dim: features of a part.
        classes: K.
        hidden: of a pair.
        orders: (A, M) arrangements to ask about.
    """

    earlier: Tensor
    later: Tensor

    def __init__(self, dim: int, classes: int, *, hidden: int, orders: Tensor) -> None:
        super().__init__()
        self.first = nn.Linear(dim, hidden)
        self.second = nn.Linear(dim, hidden, bias=False)
        pairs = torch.tensor(list(combinations(range(orders.shape[1]), 2)))  # (P, 2) places
        self.register_buffer("earlier", orders[:, pairs[:, 0]])  # (A, P): the part in the earlier place of each pair
        self.register_buffer("later", orders[:, pairs[:, 1]])
        self.classify = nn.Linear(len(pairs) * hidden, classes)

    def forward(self, parts_NMD: Tensor) -> Tensor:
        """Logits (N, A, K), float32 or wider."""
        pair = F.relu(self.first(parts_NMD)[:, :, None] + self.second(parts_NMD)[:, None])  # (N, M, M, hidden)
        return at_least_float32(self.classify(pair[:, self.earlier, self.later].flatten(2)))


def choice_loss(logits_NAK: Tensor, answers_A: Tensor) -> Tensor:
    """Softmax cross-entropy, mean over rows and arrangements."""
    return F.cross_entropy(logits_NAK.flatten(0, 1), answers_A.repeat(len(logits_NAK)))


def choice_hits(logits_NAK: Tensor, answers_A: Tensor) -> Tensor:
    """Whether the right answer ranks first (N, A), ties broken by lot: 1, 0, or 1 / (1 + ties)."""
    flat = logits_NAK.detach().flatten(0, 1)
    right = hits(flat, answers_A.repeat(len(logits_NAK)), torch.ones_like(flat, dtype=torch.bool))
    return right.view(logits_NAK.shape[:2])
