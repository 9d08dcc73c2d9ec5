from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from mmssl.nn.paths import best_path, path_score, path_shares


def all_paths(texts: int, steps: int):
    """Every way to give each of `steps` one text or none, texts in order, each at least once, each in one run."""
    for path in product(range(-1, texts), repeat=steps):
        named = [k for k in path if k >= 0]
        runs = [k for place, k in enumerate(path) if k >= 0 and (place == 0 or path[place - 1] != k)]
        if named and runs == list(range(texts)):
            yield path


def total(fits, path) -> float:
    return sum(float(fits[k, s]) for s, k in enumerate(path) if k >= 0)


@pytest.mark.parametrize("softness", [1.0, 0.3])
def test_score_and_best_path_match_counting_all_paths(softness):
    g = torch.Generator().manual_seed(0)
    fits = torch.randn(6, 3, 5, generator=g, dtype=torch.float64)
    count = torch.tensor([1, 2, 3, 3, 2, 1])
    scores, best = path_score(fits, count, softness=softness), best_path(fits, count)
    for n in range(6):
        paths = list(all_paths(int(count[n]), 5))
        sums = [total(fits[n], path) for path in paths]
        expected = softness * math.log(sum(math.exp(value / softness) for value in sums))
        assert scores[n].item() == pytest.approx(expected)
        assert tuple(best[n].tolist()) == paths[sums.index(max(sums))]


def test_the_gradient_is_the_share_of_paths_and_towards_softness_0_the_best_path():
    g = torch.Generator().manual_seed(1)
    fits = torch.randn(2, 2, 4, generator=g, dtype=torch.float64, requires_grad=True)
    count = torch.tensor([2, 1])
    assert torch.autograd.gradcheck(lambda x: path_score(x, count), fits)
    path_score(fits, count, softness=1e-3).sum().backward()
    given = best_path(fits, count)[:, None] == torch.arange(2)[:, None]
    torch.testing.assert_close(fits.grad, given.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("softness", [1.0, 0.3])
def test_shares_match_counting_all_paths(softness):
    g = torch.Generator().manual_seed(2)
    fits = torch.randn(3, 3, 5, generator=g, dtype=torch.float64)
    count = torch.tensor([3, 1, 2])
    with torch.inference_mode():
        shares = path_shares(fits, count, softness=softness)
    for n in range(3):
        paths = list(all_paths(int(count[n]), 5))
        weights = [math.exp(total(fits[n], path) / softness) for path in paths]
        for k, s in product(range(3), range(5)):
            expected = sum(w for w, path in zip(weights, paths, strict=True) if path[s] == k) / sum(weights)
            assert shares[n, k, s].item() == pytest.approx(expected)


def test_steps_that_fit_nothing_are_left_out_and_every_text_has_one():
    fits = torch.full((1, 2, 6), -3.0)
    fits[0, 0, 1:3] = 2.0
    fits[0, 1, 4] = 2.0
    assert best_path(fits, torch.tensor([2])).tolist() == [[-1, 0, 0, -1, 1, -1]]
    assert sorted(k for k in best_path(torch.full((1, 3, 4), -9.0), torch.tensor([3]))[0].tolist() if k >= 0) == [0, 1, 2]


def test_more_texts_than_steps_are_refused():
    with pytest.raises(ValueError, match="3 texts cannot be laid along 2 steps"):
        path_score(torch.zeros(1, 3, 2), torch.tensor([3]))
