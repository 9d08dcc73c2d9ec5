from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmssl.nn.losses import balanced_bce, contrastive_margin, row_mean, unit_distance


@pytest.fixture
def rows():
    g = torch.Generator().manual_seed(0)
    negatives = torch.rand(4, 5, generator=g) < 0.6
    negatives[2] = False
    positive, hard = torch.randn(2, 4, dtype=torch.float64, generator=g)
    return positive, torch.randn(4, 5, dtype=torch.float64, generator=g), negatives, hard


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 1.0])
def test_balanced_bce_matches_the_loops(rows, share):
    positive, logits, negatives, hard = rows
    got = balanced_bce(positive, logits, negatives) if share is None else balanced_bce(positive, logits, negatives, hard, share)
    for i in range(4):
        right = -math.log(1 / (1 + math.exp(-positive[i])))
        terms = [-math.log(1 - 1 / (1 + math.exp(-logits[i, j]))) for j in range(5) if negatives[i, j]]
        wrong = sum(terms) / len(terms) if terms else 0.0
        if share is not None:
            wrong = (1 - share) * wrong + share * -math.log(1 - 1 / (1 + math.exp(-hard[i])))
        assert got[i].item() == pytest.approx((right + wrong) / 2, abs=1e-9)


def test_contrastive_margin_matches_the_loops(rows):
    positive, distances, negatives, hard = rows[0].abs(), rows[1].abs(), rows[2], rows[3].abs()
    got = contrastive_margin(positive, distances, negatives, hard, 0.25, margin=0.99)
    for i in range(4):
        terms = [max(0.99 - float(distances[i, j]), 0) ** 2 for j in range(5) if negatives[i, j]]
        wrong = 0.75 * (sum(terms) / len(terms) if terms else 0.0) + 0.25 * max(0.99 - float(hard[i]), 0) ** 2
        assert got[i].item() == pytest.approx((float(positive[i]) ** 2 + wrong) / 2, abs=1e-12)


def test_unit_distance_has_a_finite_gradient_where_vectors_are_equal():
    a = F.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    d = unit_distance(a, a.detach())
    assert d.diagonal().max() < 2e-3
    torch.testing.assert_close(d, torch.cdist(a, a), atol=2e-3, rtol=1e-3)
    d.sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_row_mean_of_nothing_is_zero():
    assert row_mean(torch.ones(2, 3), torch.tensor([[True, False, True], [False] * 3])).tolist() == [1.0, 0.0]
