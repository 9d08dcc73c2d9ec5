"""Language models that count, as baselines for ones that learn: a unigram, and n-grams with Kneser-Ney smoothing.

Kneser and Ney, "Improved backing-off for m-gram language modeling", ICASSP 1995, interpolated as in Chen and Goodman, "An empirical study of
smoothing techniques for language modeling", 1999, section 2.7, with one discount for each order: D = n1 / (n1 + 2 n2), where n1 and n2 are
the numbers of n-grams that occur once and twice.

Texts are sequences of token ids under the same tokenizer as the model that is compared with. Figures are nats a token.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

Gram = tuple[int, ...]
START = -1  # stands before a text as often as an n-gram needs it


class KneserNey:
    """An interpolated Kneser-Ney model of `order` tokens; `order` 1 is the unigram with one added to each count.

    Args:
        texts: token ids to count.
        size: of the vocabulary: what was never seen has its share of the lowest order.
        order: n of the n-grams.
    """

    def __init__(self, texts: Iterable[Sequence[int]], *, size: int, order: int = 5) -> None:
        if order < 1 or size < 1:
            raise ValueError(f"order {order} and size {size} must be at least 1")
        self.order, self.size = order, size
        counts: list[Counter[Gram]] = [Counter() for _ in range(order)]  # [n - 1]: n-grams
        for text in texts:
            padded = [START] * (order - 1) + list(text)
            for end in range(order, len(padded) + 1):
                for n in range(1, order + 1):
                    counts[n - 1][tuple(padded[end - n : end])] += 1
        # Below the highest order an n-gram counts once for each token that was seen before it.
        for n in range(1, order):
            counts[n - 1] = Counter(gram[1:] for gram in counts[n])
        self._counts = counts
        self._totals: list[dict[Gram, int]] = []
        self._kinds: list[dict[Gram, int]] = []
        self._discounts: list[float] = []
        for table in counts:
            totals, kinds = defaultdict(int), defaultdict(int)
            for gram, count in table.items():
                totals[gram[:-1]] += count
                kinds[gram[:-1]] += 1
            self._totals.append(totals)
            self._kinds.append(kinds)
            self._discounts.append(_discount(table))

    def probability(self, token: int, before: Sequence[int]) -> float:
        """P(token | the tokens before it)."""
        context = tuple(([START] * (self.order - 1) + list(before))[len(before) :]) if self.order > 1 else ()
        if self.order == 1:
            return (self._counts[0][(token,)] + 1) / (self._totals[0].get((), 0) + self.size)
        lower = 1.0 / self.size
        for n in range(1, self.order + 1):
            history = context[len(context) - n + 1 :] if n > 1 else ()
            total = self._totals[n - 1].get(history, 0)
            if total:
                discount = self._discounts[n - 1]
                seen = max(self._counts[n - 1][(*history, token)] - discount, 0.0) / total
                lower = seen + discount * self._kinds[n - 1][history] / total * lower
        return lower

    def nll(self, text: Sequence[int]) -> list[float]:
        """-log P of each token of a text, given those before it."""
        return [-math.log(self.probability(token, text[max(0, k - self.order + 1) : k])) for k, token in enumerate(text)]


def _discount(table: Counter[Gram]) -> float:
    frequency = Counter(table.values())
    once, twice = frequency[1], frequency[2]
    return once / (once + 2 * twice) if once and once + 2 * twice else 0.5
