import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.downstream.metrics.retrieval import hits, ranks, retrieval
from mmssl.rng import rng_for


def naive_rank(scores, i):
    """Mean rank of item i over all orders of equal scores, by counting."""
    better = sum(s > scores[i][i] for s in scores[i])
    equal = sum(s == scores[i][i] for s in scores[i])
    return np.mean([better + place for place in range(1, equal + 1)])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 1000))
def test_ranks_match_the_naive_count_also_with_many_ties(n, levels, seed):
    scores = rng_for(seed, "ties").integers(levels, size=(n, n)).astype(float)
    assert ranks(scores) == pytest.approx([naive_rank(scores, i) for i in range(n)])


@pytest.mark.parametrize("n", [7, 100])
def test_constant_embeddings_score_chance(n):
    found = retrieval(np.ones((n, n)))
    for k in (1, 5, 10):
        assert found.recall[k] == pytest.approx(min(1.0, k / n))
        assert found.recall[k] == pytest.approx(found.chance[k])
    assert found.median_rank == (n + 1) / 2


def test_a_perfect_model_scores_one_and_a_reversed_one_zero():
    assert retrieval(np.eye(20)).recall == {1: 1.0, 5: 1.0, 10: 1.0}
    reverse = retrieval(-np.eye(20))
    assert reverse.recall == {1: 0.0, 5: 0.0, 10: 0.0}
    assert reverse.median_rank == 20


def test_directions_differ():
    scores = np.array([[0.5, 0.9, 0.1], [0.2, 1.0, 0.3], [0.1, 0.95, 0.4]])
    assert retrieval(scores).recall[1] == pytest.approx(1 / 3)
    assert retrieval(scores.T).recall[1] == pytest.approx(3 / 3)


def test_hits_without_ties_are_whole():
    scores = rng_for(0, "no ties").normal(size=(50, 50))
    assert set(hits(scores, 5)) <= {0.0, 1.0}
    assert hits(scores, 5) == pytest.approx((ranks(scores) <= 5).astype(float))


def test_a_test_set_that_lost_items_fails_loudly():
    with pytest.raises(ValueError, match=r"100 queries.*99"):
        retrieval(np.eye(99), expected=100)
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        ranks(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="not finite"):
        ranks(np.array([[1.0, np.nan], [0.0, 1.0]]))
