from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmssl.nn.health import hits, masked_mean, sign_hits, spread


def test_ties_are_broken_by_lot_and_never_count_as_hits():
    everyone = torch.ones(3, 3, dtype=torch.bool)
    place = torch.arange(3)
    assert hits(torch.zeros(3, 3), place, everyone).tolist() == pytest.approx([1 / 3] * 3)
    assert hits(torch.eye(3), place, everyone).tolist() == [1.0] * 3
    assert hits(-torch.eye(3), place, everyone).tolist() == [0.0] * 3
    two = torch.tensor([[0.9, 0.9, 0.1]])
    assert hits(two, torch.tensor([0]), everyone[:1]).tolist() == [0.5]
    assert hits(two, torch.tensor([0]), torch.tensor([[True, False, True]])).tolist() == [1.0]


def test_equal_vectors_tie_in_spite_of_rounding():
    """The products of equal vectors differ in the last bits, depending on where in a matrix product they are."""
    vector = F.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(0)), dim=1)
    rows = vector.expand(67, 128) + 1e-8 * torch.randn(67, 128, generator=torch.Generator().manual_seed(1))
    accuracy = hits(rows @ rows.T, torch.arange(67), torch.ones(67, 67, dtype=torch.bool))
    assert accuracy.tolist() == pytest.approx([1 / 67] * 67)


def test_sign_hits():
    assert sign_hits(torch.tensor([2.0, -2.0, 0.0, 1e-7])).tolist() == [1.0, 0.0, 0.5, 0.5]


def test_spread_is_one_on_the_sphere_and_zero_in_collapse():
    x = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert spread(x).item() == pytest.approx(1.0, abs=0.02)
    assert spread(5.0 + 0 * x).item() == pytest.approx(0.0, abs=1e-4)
    assert spread(x[:1]).item() == 0.0


def test_masked_mean():
    assert masked_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([True, True, False])).item() == 1.5
    assert masked_mean(torch.tensor([1.0]), torch.tensor([False]), empty=0.5).item() == 0.5
