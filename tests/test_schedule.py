"""Schedules are pure functions of the step."""

from __future__ import annotations

import math

import pytest

from mmssl.training.schedule import ema_decay, learning_rate


def test_warm_up_is_linear_and_never_zero() -> None:
    rates = [learning_rate(step, peak=2.0, warmup=4, total=10) for step in range(5)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_then_half_a_cosine_down_to_the_final_share() -> None:
    def rate(step: int) -> float:
        return learning_rate(step, peak=1.0, warmup=10, total=110, final=0.1)

    assert rate(10) == 1.0
    assert rate(60) == pytest.approx(0.55)
    assert rate(110) == pytest.approx(0.1)
    assert rate(35) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert all(rate(step + 1) < rate(step) for step in range(10, 109))


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (5, 5), (9, 3)])
def test_odd_lengths_stay_within_bounds(warmup: int, total: int) -> None:
    assert all(0.0 <= learning_rate(step, peak=1.0, warmup=warmup, total=total) <= 1.0 for step in range(total + 2))


def test_averages_forget_the_initial_weights_also_in_a_short_run() -> None:
    left = math.prod(ema_decay(step, decay=0.9999) for step in range(300))
    assert left < 1e-9  # share of the initial weights after 300 steps; with a constant decay it would be 0.97
    assert ema_decay(10**6, decay=0.99) == 0.99
    assert ema_decay(0, decay=0.99) == pytest.approx(0.1)
