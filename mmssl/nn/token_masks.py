"""Which tokens are hidden, and behind what: masks for masked language models, drawn on the device in every step.

N texts, L tokens, K places at most that are hidden in a text, V vocabulary. No shape depends on the data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmssl.vocabulary import Vocabulary

ROOM = 8  # places more than the share needs, so that the last word need not be cut off


class Hidden(NamedTuple):
    """Texts with tokens hidden, and what was there."""

    ids: Tensor  # (N, L) what the encoder sees
    places: Tensor  # (N, K) positions
    targets: Tensor  # (N, K) the tokens that stood there
    used: Tensor  # (N, K) bool; False: the place is none


class TokenMask(nn.Module):
    """Hide a share of the tokens: of those chosen, 80 % behind the mask, 10 % behind a random token, 10 % stay as they are.

    Devlin et al. 2019, section 3.1 and appendix A.1. The share is met exactly on average, in each text of `m` ordinary tokens up to a
    token (whole words: up to a word); at least one token is chosen. Special tokens and padding are never chosen and never drawn.

    In evaluation mode all of the chosen are masked: those that stay as they are, and look out of place or do not, would tell themselves, and
    a model that knows frequencies alone would be right in a tenth more of the places.

    Args:
        share: of ordinary tokens.
        whole_words: choose words, not tokens: a word is a token and those that go on with it.
        masked, random: shares of the chosen, in training; the rest stays as it is.
    """

    special: Tensor
    continues: Tensor
    ordinary: Tensor

    def __init__(
        self, vocabulary: Vocabulary, *, share: float = 0.15, whole_words: bool = False, masked: float = 0.8, random: float = 0.1
    ) -> None:
        super().__init__()
        self.share, self.whole_words, self.masked, self.random, self.mask = share, whole_words, masked, random, vocabulary.mask
        special = torch.zeros(vocabulary.size, dtype=torch.bool)
        special[list(vocabulary.special)] = True
        self.register_buffer("special", special)
        self.register_buffer("continues", torch.tensor(vocabulary.continues) if whole_words else torch.zeros_like(special))
        self.register_buffer("ordinary", (~special).nonzero()[:, 0])

    def forward(self, x: Tensor) -> Hidden:
        """Hide tokens of (N, L)."""
        ordinary = ~self.special[x]
        length = x.shape[1]
        most = min(length, math.ceil(self.share * length) + (ROOM if self.whole_words else 1))
        order, chosen = self._choose(x, ordinary)
        places, used = order[:, :most], chosen[:, :most]
        targets = x.gather(1, places)
        lot = torch.rand(places.shape, device=x.device)
        drawn = self.ordinary[torch.randint(len(self.ordinary), places.shape, device=x.device)]
        mixed = torch.where(lot < self.masked, self.mask, torch.where(lot < self.masked + self.random, drawn, targets))
        seen = mixed if self.training else torch.full_like(mixed, self.mask)
        return Hidden(x.scatter(1, places, torch.where(used, seen, targets)), places, targets, used)

    def _choose(self, x: Tensor, ordinary: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in order of their words' lots, (N, L), and which of them are chosen: words from the first on, until the share is met."""
        begins = ~self.continues[x] if self.whole_words else torch.ones_like(ordinary)
        word = (begins.long().cumsum(dim=1) - 1).clamp(min=0)
        lots, crossing = torch.rand(2, *x.shape, device=x.device)
        lot = torch.where(ordinary, lots.gather(1, word), 2.0)
        order = lot.argsort(dim=1, stable=True)  # of one word, tokens stay together
        size = torch.zeros_like(x).scatter_add(1, word, ordinary.long())
        sorted_word = word.gather(1, order)
        rank = torch.arange(x.shape[1], device=x.device).expand_as(x)
        new = sorted_word != sorted_word.roll(1, 1)
        before = torch.where(new | (rank == 0), rank, 0).cummax(dim=1).values  # tokens in the words before this one
        wanted = (self.share * ordinary.sum(dim=1, keepdim=True)).clamp(min=1.0)
        # The word in which the share is met is chosen with the probability that makes the mean right.
        part = (wanted - before) / size.gather(1, sorted_word).clamp(min=1)
        chosen = (before == 0) | (crossing.gather(1, sorted_word) < part)
        return order, chosen & ordinary.gather(1, order)
