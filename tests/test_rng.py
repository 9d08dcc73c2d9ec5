import numpy as np
import pytest
import torch

from mmssl.rng import Purpose, rng_for, seed_for, seed_step


def test_the_same_address_gives_the_same_draw():
    assert np.array_equal(rng_for(3, Purpose.CUT, "av_nce", 7).random(5), rng_for(3, Purpose.CUT, "av_nce", 7).random(5))


@pytest.mark.parametrize("other", [(4, 2, 7), (3, 2, 8), (3, 2), (3, 2, 7, 0), (3, 2, "7"), (3, 2, 7 + 2**32)])
def test_another_address_gives_another_draw(other):
    assert rng_for(3, 2, 7).integers(2**62) != rng_for(*other).integers(2**62)


def test_a_negative_part_is_refused_with_its_value():
    with pytest.raises(ValueError, match="-1"):
        rng_for(0, -1)


def test_seed_step_sets_torch_and_depends_on_every_part():
    draws = set()
    for address in [(0, 1, 0, 0), (0, 2, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1), (1, 1, 0, 0)]:
        seed_step(*address)
        draws.add(torch.rand(1).item())
    assert len(draws) == 5
    seed_step(0, 1, 0, 0)
    assert torch.rand(1).item() in draws


def test_seeds_fit_what_libraries_take():
    assert all(0 <= seed_for(seed, Purpose.ORDER) < 2**63 for seed in range(200))
