from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.types import InputError
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import (
    STILL,
    circling,
    double,
    drawn,
    frozen,
    judged,
    key_frames,
    naive_vectors,
    same_loss_and_gradients,
    sliding,
    source,
)


def learner(**given):
    encoders = tiny_encoders()
    return build("shuffle_learn", encoders, **{**STILL, **given}), encoders


@pytest.mark.parametrize(("joint", "cells"), [(7, 2), (7, 1), (0, 4)])
@pytest.mark.parametrize("frames", [1, 2])
def test_loss_and_gradients_match_the_loop_over_triples(joint, cells, frames):
    encoders = tiny_encoders(double=True)
    objective = build("shuffle_learn", encoders, hidden=6, joint=joint, cells=cells, **STILL).double().eval()
    video = torch.randint(0, 256, (3, 5 * frames, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = double({"video": video})
    right, wrong = [], []
    for row in batch["video"]:
        a, b, c, d, e = naive_vectors(objective, encoders["video"], list(row.chunk(5)))
        for triple, into in (
            ((b, c, d), right),
            ((d, c, b), right),
            *(((x, m, y), wrong) for m in (a, e) for x, y in ((b, d), (d, b))),
        ):
            joined = torch.cat(triple)
            if joint:
                first, _, last = objective.verify
                joined = torch.relu(first.weight @ joined + first.bias)
            else:
                last = objective.verify
            into.append(torch.sigmoid((last.weight @ joined + last.bias).squeeze()))
    loss = -(torch.stack(right).log().mean() + (1 - torch.stack(wrong)).log().mean()) / 2
    same_loss_and_gradients(objective, encoders, batch, loss)


@pytest.mark.parametrize(("film", "low", "high"), [(circling, 0.9, 1.0), (frozen, 0.45, 0.55), (key_frames, 0.45, 0.55)])
def test_order_is_learnt_from_motion_and_from_nothing_else(film, low, high):
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=150, lr=3e-3)
    assert low <= judged(objective, encoders, drawn(objective, 256, 90_001, film)) <= high


def test_without_a_joint_layer_no_picture_meets_another():
    """On a circle each picture alone looks the same in right and wrong triples; a sum over pictures then knows nothing."""
    objective, encoders = learner(joint=0)
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, circling), steps=150, lr=3e-3)
    assert 0.45 <= judged(objective, encoders, drawn(objective, 256, 90_001, circling)) <= 0.55


def test_the_place_of_the_middle_picture_in_a_long_film_says_little():
    """What the module says is left: the best guess from the middle picture's time alone, in a film of half a minute."""
    objective, _ = learner()
    times = np.array(
        [objective.views.plan(source(30.0), np.random.default_rng(k)).requests["video"].times for k in range(20_000)]
    )
    right, wrong = times[:, 2], np.concatenate([times[:10_000, 0], times[10_000:, 4]])
    assert abs(right.mean() - wrong.mean()) < 0.25
    bins = np.linspace(0, 30, 31)
    p, q = np.histogram(right, bins)[0] / len(right), np.histogram(wrong, bins)[0] / len(wrong)
    assert np.maximum(p, q).sum() / 2 < 0.55  # accuracy of knowing both distributions exactly


def test_constant_features_score_chance():
    encoders = tiny_encoders(constant=True)
    objective = build("shuffle_learn", encoders, **STILL)
    assert judged(objective, encoders, drawn(objective, 8, 1, sliding)) == pytest.approx(0.5, abs=1e-6)


def test_all_five_are_augmented_alike():
    objective, encoders = learner(frame_augment=FrameAugment(crop=0.3))
    batch = drawn(objective, 1, 1, frozen, noise=0.0)
    seen = []
    encoders["video"].register_forward_hook(lambda module, given, result: seen.append(given[0]))
    objective.train()(batch, EncoderBank(encoders))
    assert seen[0].shape == (5, 1, 3, 16, 16)
    assert all(torch.equal(seen[0][0], picture) for picture in seen[0])


def test_bad_values_are_named():
    with pytest.raises(InputError, match="joint -1"):
        learner(joint=-1)
