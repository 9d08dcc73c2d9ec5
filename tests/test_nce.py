from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmssl.nn import nce
from mmssl.nn.heads import Projection
from mmssl.nn.nce import cell_scores, info_nce
from mmssl.types import InputError


def test_info_nce_matches_the_double_sum():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, dtype=torch.float64, generator=g)
    positive = torch.tensor([2, 0, 5, 3])
    keep = torch.rand(4, 6, generator=g) < 0.6
    keep[1] = False  # no negatives
    keep[2, 5] = False  # the positive's own entry does not matter
    got = info_nce(logits, positive, keep)
    for i in range(4):
        own = math.exp(logits[i, positive[i]])
        rest = sum(math.exp(logits[i, j]) for j in range(6) if keep[i, j] and j != positive[i])
        assert got[i].item() == pytest.approx(-math.log(own / (own + rest)), abs=1e-12)
    assert got[1].item() == 0.0


def test_masked_columns_have_exactly_no_effect_however_high():
    """LVS multiplies what it masks by -99: a negative cosine then becomes the strongest negative."""
    logits = torch.tensor([[1.0, -0.5, 0.2], [0.1, 0.3, -0.9]], requires_grad=True)
    keep = torch.tensor([[True, False, True], [False, True, True]])
    values = []
    for fill in (-50.0, 50.0, 1e4):
        changed = logits.detach().clone()
        changed[0, 1] = changed[1, 0] = fill
        values.append(info_nce(changed.requires_grad_(), torch.tensor([0, 1]), keep))
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])
    info_nce(logits, torch.tensor([0, 1]), keep).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0.0
    assert logits.grad[1, 0] == 0.0
    assert torch.isfinite(logits.grad).all()


def brute(grid, sounds, project):
    """Maximum over cells, mean over groups, pair by pair."""
    cells = project(grid)
    rows = []
    for picture in cells:
        row = []
        for sound in sounds:
            row.append(torch.stack([torch.stack([cell @ sound for cell in group]).max() for group in picture]).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(3, 1, 9), (3, 2, 9), (5, 3, 4)])
@pytest.mark.parametrize("count", [2, 5, 12])
@pytest.mark.parametrize("hidden", [0, 7])
def test_best_cells_and_all_gradients_equal_brute_force(shape, count, hidden):
    torch.manual_seed(0)
    project = Projection(6, 5, hidden).double()
    grid = torch.randn(*shape, 6, dtype=torch.float64, requires_grad=True)
    raw = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape[0], count, dtype=torch.float64)
    found = []
    for scores in (cell_scores(grid, F.normalize(raw, dim=1), project), brute(grid, F.normalize(raw, dim=1), project)):
        gradients = torch.autograd.grad((scores * weight).sum(), [grid, raw, *project.parameters()])
        found.append((scores, gradients))
    torch.testing.assert_close(found[0][0], found[1][0])
    for got, want in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(got, want)
    with torch.no_grad():
        torch.testing.assert_close(cell_scores(grid, F.normalize(raw, dim=1), project), found[1][0])


def soft_brute(grid, sounds, project, sharpness):
    """Weights exp(sharpness * cosine) over the cells of a group, pair by pair."""
    rows = []
    for picture in project(grid):
        row = []
        for sound in sounds:
            means = []
            for group in picture:
                cosines = [cell @ sound for cell in group]
                weights = [torch.exp(sharpness * cosine) for cosine in cosines]
                means.append(sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights))
            row.append(torch.stack(means).mean())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("sharpness", [0.0, 3.0, 20.0])
def test_soft_maximum_and_all_gradients_equal_brute_force(sharpness):
    torch.manual_seed(0)
    project = Projection(6, 5, 7)
    grid = torch.randn(3, 2, 9, 6, requires_grad=True)
    raw = torch.randn(4, 5, requires_grad=True)
    weight = torch.randn(3, 4)
    found = []
    for scores in (
        cell_scores(grid, F.normalize(raw, dim=1), project, sharpness=sharpness),
        soft_brute(grid, F.normalize(raw, dim=1), project, sharpness),
    ):
        found.append((scores, torch.autograd.grad((scores * weight).sum(), [grid, raw, *project.parameters()])))
    torch.testing.assert_close(found[0][0], found[1][0])
    for got, want in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert (found[0][1][0].abs().sum(dim=-1) > 0).all(), "every cell has a gradient"


def test_soft_maximum_lies_between_mean_and_maximum_and_goes_to_the_maximum():
    torch.manual_seed(0)
    project, grid, sounds = Projection(6, 5), torch.randn(7, 1, 30, 6), F.normalize(torch.randn(9, 5), dim=1)
    hard = cell_scores(grid, sounds, project)
    mean, soft, sharp = (cell_scores(grid, sounds, project, sharpness=value) for value in (0.0, 10.0, 1000.0))
    assert (mean < soft).all()
    assert (soft < hard).all()
    torch.testing.assert_close(sharp, hard, rtol=0.0, atol=0.01)
    torch.testing.assert_close(mean, (project(grid) @ sounds.T).mean(dim=2)[:, 0])


def test_soft_maximum_in_pieces_is_the_same(monkeypatch):
    torch.manual_seed(0)
    project, grid, sounds = Projection(6, 5), torch.randn(7, 2, 30, 6), F.normalize(torch.randn(9, 5), dim=1)
    whole = cell_scores(grid, sounds, project, sharpness=20.0)
    monkeypatch.setattr(nce, "CACHED_SIZE", 1000)
    pieces = cell_scores(grid, sounds, project, sharpness=20.0)
    torch.testing.assert_close(pieces, whole)


@pytest.mark.parametrize("objective", ["av_nce", "avenet"])
def test_a_sharpness_out_of_range_is_refused(objective):
    nce.check_sharpness(objective, None)
    for wrong in (-1.0, 1001.0, math.nan):
        with pytest.raises(InputError, match=objective):
            nce.check_sharpness(objective, wrong)


def test_search_in_pieces_is_the_same(monkeypatch):
    torch.manual_seed(0)
    project, grid, sounds = Projection(6, 5), torch.randn(7, 2, 30, 6), F.normalize(torch.randn(9, 5), dim=1)
    whole = cell_scores(grid, sounds, project)
    monkeypatch.setattr(nce, "SEARCH_SIZE", 1000)
    torch.testing.assert_close(cell_scores(grid, sounds, project), whole)


def test_the_search_under_autocast_does_not_take_the_gradient_from_the_head():
    """Autocast keeps bfloat16 copies of weights; those made without gradient must not be used again with it."""
    torch.manual_seed(0)
    project, grid, sounds = Projection(6, 5, 4), torch.randn(3, 1, 30, 6), F.normalize(torch.randn(4, 5), dim=1)
    # The plain way, also in bfloat16: there the winning cells are the same.
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        cells = project(grid)
    exact = torch.autograd.grad((cells @ sounds.T).amax(dim=2).mean(dim=1).sum(), list(project.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        scores = cell_scores(grid, sounds, project)
    assert scores.dtype == torch.float32
    got = torch.autograd.grad(scores.sum(), list(project.parameters()))
    for a, b in zip(got, exact, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.01)
