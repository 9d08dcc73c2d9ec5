from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from mmssl.downstream.metrics.language import KneserNey


def texts(seed: int = 0, count: int = 30) -> list[list[int]]:
    """A chain of 6 tokens: each is followed by the next one most of the time."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        text = [int(rng.integers(6))]
        while len(text) < 25:
            text.append((text[-1] + 1) % 6 if rng.random() < 0.8 else int(rng.integers(6)))
        made.append(text)
    return made


def naive(corpus, size, order, token, before) -> float:
    """The recursion from its definition, counting afresh each time."""

    def grams(n):
        return Counter(
            tuple(([-1] * (order - 1) + text)[end - n : end]) for text in corpus for end in range(order, len(text) + order)
        )

    def count(n):
        if n == order:
            return grams(n)
        return Counter(gram[1:] for gram in count(n + 1))

    def p(n, history):
        if n == 0:
            return 1 / size
        table = count(n)
        some = {gram: c for gram, c in table.items() if gram[:-1] == history}
        below = p(n - 1, history[1:])
        if not some:
            return below
        ones, twos = (sum(c == k for c in table.values()) for k in (1, 2))
        discount = ones / (ones + 2 * twos) if ones else 0.5
        total = sum(some.values())
        return max(some.get((*history, token), 0) - discount, 0) / total + discount * len(some) / total * below

    return p(order, tuple(([-1] * (order - 1) + list(before))[len(before) :]))


@pytest.mark.parametrize("order", [2, 3])
def test_probabilities_match_the_recursion(order):
    corpus = texts(count=4)
    model = KneserNey(corpus, size=8, order=order)
    for before in ([], [1], [1, 2], [5, 5], [7, 7], [1, 2, 3]):
        for token in (0, 3, 7):
            assert model.probability(token, before[-(order - 1) :]) == pytest.approx(
                naive(corpus, 8, order, token, before[-(order - 1) :])
            )


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_add_up_to_one(order):
    model = KneserNey(texts(), size=9, order=order)
    for before in ([], [2], [2, 3, 4], [8, 8, 8, 8], [0, 1, 2, 3, 0]):
        assert sum(model.probability(token, before[-4:]) for token in range(9)) == pytest.approx(1.0)


def test_more_context_tells_more_and_a_shuffled_text_does_not():
    held_out = texts(1)
    unigram, chain = (KneserNey(texts(), size=6, order=order) for order in (1, 5))

    def mean(model, some):
        return np.mean([value for text in some for value in model.nll(text)])

    assert mean(unigram, held_out) == pytest.approx(math.log(6), abs=0.02)
    assert mean(chain, held_out) < 1.15
    rng = np.random.default_rng(3)
    shuffled = [rng.permutation(text).tolist() for text in texts()]
    assert mean(KneserNey(shuffled, size=6, order=5), [rng.permutation(text).tolist() for text in held_out]) > 1.6


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="order 0"):
        KneserNey([], size=3, order=0)
