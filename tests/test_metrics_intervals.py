import numpy as np
import pytest

from mmssl.downstream.metrics.intervals import bootstrap, proportion, wilson
from mmssl.rng import rng_for


def test_wilson_matches_a_published_value():
    # Newcombe, Statistics in Medicine 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert found.value == pytest.approx(81 / 263)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 1), (0, 1)])
def test_wilson_stays_inside_and_is_not_empty_at_the_ends(k, n):
    found = wilson(k, n)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.high - found.low > 0.1


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_proportion(k, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(k, n)


def test_wilson_covers_the_truth_about_as_often_as_it_says():
    rng, p, n = rng_for(1, "coverage"), 0.1, 60
    inside = [(e := wilson(int(k), n)).low <= p <= e.high for k in rng.binomial(n, p, size=2000)]
    assert 0.93 <= np.mean(inside) <= 0.98


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval_and_repeats():
    values = rng_for(2, "values").normal(5.0, 2.0, size=400)
    found = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert found == bootstrap(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.n == 400


def test_bootstrap_draws_whole_rows():
    # Within a source all values are equal: only the number of sources may narrow the interval, not the number of values.
    sources = rng_for(3, "rows").normal(size=(50, 1))
    once, often = bootstrap(sources), bootstrap(np.repeat(sources, 20, axis=1))
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=1e-9)


def test_bootstrap_of_another_statistic():
    assert bootstrap([1.0, 2.0, 100.0], lambda rows: float(np.median(rows))).value == 2.0


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_bootstrap_refuses_nothing_and_not_a_number(values):
    with pytest.raises(ValueError, match="value"):
        bootstrap(values)


def test_a_proportion_without_a_single_failure_still_has_an_interval():
    """Resampling 19 successes gave 1.000 to 1.000."""
    found = proportion(np.ones((19, 6)))
    assert (found.value, found.high, found.n) == (1.0, 1.0, 19)
    assert found.low == pytest.approx(wilson(19, 19).low)
    assert proportion(np.zeros(5)).high == pytest.approx(wilson(0, 5).high)
    values = rng_for(4, "mixed").random((40, 3)) < 0.7
    assert proportion(values) == bootstrap(values)


@pytest.mark.parametrize("values", [[], [0.5, 1.5], [-0.1], [0.5, float("nan")]])
def test_a_proportion_refuses_what_is_none(values):
    with pytest.raises(ValueError, match=r"value|0\.\.1"):
        proportion(values)
