"""How well a text is written token by token: negative log-likelihood and hits, under the right tokens before (teacher forcing).

N texts, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.nn.heads import at_least_float32
from mmssl.nn.strangers import next_stranger
from mmssl.types import Features


class Written(NamedTuple):
    """One figure for each token that was to be written."""

    nll: Tensor  # (N, T) nats
    right: Tensor  # (N, T) 1.0 where the likeliest token was the right one
    labels: Tensor  # (N, T)
    used: Tensor  # (N, T) bool

    def mean(self, values: Tensor) -> Tensor:
        """Mean over all tokens that count."""
        return torch.where(self.used, values, 0.0).sum() / self.used.sum().clamp(min=1)

    def by_row(self, values: Tensor) -> Tensor:
        """Mean over the tokens of each text, (N,)."""
        return torch.where(self.used, values, 0.0).sum(dim=1) / self.used.sum(dim=1).clamp(min=1)


def inputs_and_labels(target: Tensor, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a text (N, T + 1): what has been written (N, T), what comes next (N, T), and which of it counts.

    Padding does not count. Nor does the last token of a text that fills all its room: it may have been cut off there, and then does not
    really end.
    """
    labels = target[:, 1:]
    used = labels != pad
    last = torch.arange(labels.shape[1], device=labels.device) == labels.shape[1] - 1
    return target[:, :-1], labels, used & ~last


def score(logits: Tensor, labels: Tensor, used: Tensor) -> Written:
    """Score logits (N, T, V) against labels (N, T)."""
    with torch.autocast(logits.device.type, enabled=False):
        nll = F.cross_entropy(at_least_float32(logits).flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return Written(nll, (logits.detach().argmax(dim=-1) == labels).to(nll.dtype), labels, used)


def commonest(labels: Tensor, used: Tensor, size: int) -> Tensor:
    """The share of the commonest label among those that count: how often guessing one token always would be right. A scalar."""
    count = torch.zeros(size, dtype=torch.float32, device=labels.device)
    count.scatter_add_(0, labels.flatten(), used.flatten().float())
    return count.max() / count.sum().clamp(min=1)


def metrics_of(written: Written, size: int) -> dict[str, Tensor]:
    """`accuracy`, its chance (`commonest`), and `loss/uninformed`, that of a uniform guess among `size` tokens: log V."""
    uniform = torch.full((), math.log(size), device=written.nll.device)
    chance = commonest(written.labels, written.used, size)
    return {"accuracy": written.mean(written.right), "accuracy/chance": chance, "loss/uninformed": uniform}


def compared(own: Written, size: int) -> dict[str, tuple[Tensor, float]]:
    """`accuracy` and `nll` of each text (N,), beside guessing the commonest token, and guessing uniformly."""
    accuracy = float(commonest(own.labels, own.used, size))
    return {"accuracy": (own.by_row(own.right), accuracy), "nll": (own.by_row(own.nll.detach()), math.log(size))}


def against_strangers(
    write: Callable[[Features], Written], read: Features, source: Tensor, size: int
) -> dict[str, tuple[Tensor, float]]:
    """How much reading the right text helps to write: `write` given `read`, and given that of the next row of another source.

    Args:
        write: from what was read (N, L, D) to what it says of the targets.
        read: features of the N texts that belong to the targets.
        source: (N,) which source each row comes from.
        size: V.

    Returns:
        of each text (N,), with what knowing nothing gives: `accuracy` and `nll`, beside the means with another source's text, which is
        what the model knows of the language alone; `gain`, the difference of the two accuracies, beside 0. Where the batch holds a
        single source there is no gain. There, and where with another text no token is right, or all are, accuracy and nll stand beside
        guessing the commonest token, and guessing uniformly.
    """
    own = write(read)
    figures = compared(own, size)
    other, found = next_stranger(source)
    if not bool(found.all()):
        return figures
    blind = write(read.rows(other))
    gain = (figures["accuracy"][0] - blind.by_row(blind.right), 0.0)
    hits = float(blind.mean(blind.right))
    if not 0.0 < hits < 1.0:  # nothing to be read against
        return figures | {"gain": gain}
    return {
        "accuracy": (figures["accuracy"][0], hits),
        "nll": (figures["nll"][0], float(blind.mean(blind.nll.detach()))),
        "gain": gain,
    }
