"""Accuracy, average precision and their intervals, against loops over plain numbers."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmssl.downstream.metrics.classification import average_precision, mean_average_precision, mean_over_splits, top_k
from mmssl.downstream.metrics.intervals import proportion, wilson


def naive_top_k(scores, label, k):
    """Over all orders of the classes that keep higher scores in front: how often the label is among the first k."""
    classes = range(len(scores))
    orders = [p for p in itertools.permutations(classes) if all(scores[a] >= scores[b] for a, b in itertools.pairwise(p))]
    return np.mean([label in order[:k] for order in orders])


def naive_average_precision(scores, truth):
    """At each threshold from above: what is gained in recall, times precision there."""
    total, before = 0.0, 0
    for threshold in sorted(set(scores), reverse=True):
        shown = [t for s, t in zip(scores, truth, strict=True) if s >= threshold]
        total += (sum(shown) - before) / sum(truth) * (sum(shown) / len(shown))
        before = sum(shown)
    return total


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_top_k_counts_ties_as_a_random_order(k):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (40, 5)).astype(float)
    labels = rng.integers(0, 5, 40)
    twin = [naive_top_k(row, label, k) for row, label in zip(scores, labels, strict=True)]
    assert top_k(scores, labels, k) == pytest.approx(twin)


def test_a_collapsed_model_gets_chance():
    assert top_k(np.ones((4, 5)), [0, 1, 2, 3], 1) == pytest.approx([0.2] * 4)


def test_average_precision_is_the_sum_over_thresholds_and_sklearns():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 9, (60, 3)).astype(float)
    truth = rng.integers(0, 2, (60, 3))
    found = average_precision(scores, truth)
    for column in range(3):
        assert found[column] == pytest.approx(naive_average_precision(scores[:, column].tolist(), truth[:, column].tolist()))
        assert found[column] == pytest.approx(average_precision_score(truth[:, column], scores[:, column]))
    truth[:, 1] = 0
    assert np.isnan(average_precision(scores, truth)[1])


def test_weights_are_repetitions():
    rng = np.random.default_rng(2)
    scores, truth, times = rng.normal(size=(20, 2)), rng.integers(0, 2, (20, 2)), rng.integers(0, 4, 20)
    repeated = average_precision(scores.repeat(times, axis=0), truth.repeat(times, axis=0))
    assert average_precision(scores, truth, times) == pytest.approx(repeated)


def test_mean_average_precision_has_an_interval_and_differences_are_paired():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, (80, 4))
    good, bad = truth + rng.normal(size=truth.shape), rng.normal(size=truth.shape)
    groups = [str(number // 2) for number in range(80)]
    found = mean_average_precision(good, truth, groups)
    assert found.low < found.value < found.high
    assert found.n == 40
    assert found.value == pytest.approx(average_precision(good, truth).mean())
    better = mean_average_precision(good, truth, groups, bad)
    assert better.value == pytest.approx(found.value - mean_average_precision(bad, truth, groups).value)
    assert better.low > 0
    same = mean_average_precision(good, truth, groups, good)
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_one_split_of_single_clips_is_a_proportion():
    outcomes = np.array([1, 0, 1, 1, 0, 1.0])
    assert mean_over_splits([outcomes], [list("abcdef")]) == proportion(outcomes)


def test_the_mean_is_over_splits_and_the_interval_over_groups():
    rng = np.random.default_rng(4)
    each = (rng.random(30) < 0.6).astype(float)
    copies, groups = each.repeat(5), [str(number) for number in range(30) for _ in range(5)]
    found = mean_over_splits([copies], [groups])
    alone = mean_over_splits([each], [[str(number) for number in range(30)]])
    assert found.n == alone.n == 30
    assert found.value == pytest.approx(alone.value)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.15)  # five copies tell no more than one
    two = mean_over_splits([[1.0, 1.0, 1.0, 0.0], [0.0]], [list("abcd"), ["e"]])
    assert two.value == pytest.approx((0.75 + 0.0) / 2)


def test_all_right_and_all_the_same_keep_an_interval():
    assert mean_over_splits([[1.0] * 9], [list("abcdefghi")]) == wilson(9, 9)
    nothing = mean_over_splits([[0.0] * 9], [list("abcdefghi")], differences=True)
    assert nothing.low == pytest.approx(-wilson(0, 9).high)
    assert nothing.high == pytest.approx(wilson(0, 9).high)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: top_k([[np.nan, 1.0]], [0], 1), "finite"),
        (lambda: top_k([[0.0, 1.0]], [2], 1), "below 2"),
        (lambda: average_precision([[0.0], [1.0]], [[1]]), "shape"),
        (lambda: mean_over_splits([[]], [[]]), "at least one"),
        (lambda: mean_average_precision([[0.0], [1.0]], [[0], [0]], ["a", "b"]), "a class that occurs"),
    ],
)
def test_what_makes_no_sense(call, why):
    with pytest.raises(ValueError, match=why):
        call()
