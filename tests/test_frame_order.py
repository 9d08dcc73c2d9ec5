from __future__ import annotations

from itertools import permutations

import pytest
import torch

from mmssl.encoders.bank import EncoderBank
from mmssl.types import InputError
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import (
    STILL,
    double,
    drawn,
    frozen,
    judged,
    key_frames,
    naive_order,
    naive_vectors,
    same_loss_and_gradients,
    sliding,
)


def learner(**given):
    encoders = tiny_encoders()
    return build("frame_order", encoders, **{**STILL, **given}), encoders


def naive_classes() -> dict[tuple[int, ...], int]:
    """An order and its reverse share a class."""
    classes: dict[tuple[int, ...], int] = {}
    for order in permutations(range(4)):
        classes[order] = classes.get(order[::-1], len(set(classes.values())))
    return classes


@pytest.mark.parametrize("channel_split", [False, True])
def test_loss_and_gradients_match_shuffling_the_pictures(channel_split):
    """Every order is drawn, the pictures themselves are put into it, and the order is named: the paper, term by term."""
    encoders = tiny_encoders(double=True)
    objective = build("frame_order", encoders, hidden=5, cells=2, channel_split=channel_split, **STILL).double().eval()
    video = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = double({"video": video})
    losses = []
    for row in batch["video"]:
        seen = row[:, 1:2].expand(-1, 3, -1, -1) if channel_split else row
        for order, label in naive_classes().items():
            vectors = naive_vectors(objective, encoders["video"], [seen[k : k + 1] for k in order])
            losses.append(naive_order(objective.order, vectors, label))
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


@pytest.mark.parametrize(("film", "low", "high"), [(sliding, 0.6, 1.0), (frozen, 0.06, 0.12), (key_frames, 0.06, 0.12)])
def test_order_is_learnt_from_motion_and_from_nothing_else(film, low, high):
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=150, lr=3e-3)
    assert low <= judged(objective, encoders, drawn(objective, 256, 90_001, film)) <= high


def test_constant_features_score_chance():
    encoders = tiny_encoders(constant=True)
    objective = build("frame_order", encoders, **STILL)
    assert judged(objective, encoders, drawn(objective, 8, 1, sliding)) == pytest.approx(1 / 12, abs=1e-6)


def test_colour_is_dropped_in_training_and_in_evaluation():
    objective, encoders = learner()
    batch = drawn(objective, 4, 1, sliding, noise=0.2)
    seen = []
    encoders["video"].register_forward_hook(lambda module, given, result: seen.append(given[0]))
    for training in (True, False):
        objective.train(training)(batch, EncoderBank(encoders))
    for pictures in seen:
        assert torch.equal(pictures[:, :, 0], pictures[:, :, 1]) and torch.equal(pictures[:, :, 0], pictures[:, :, 2])
    assert torch.equal(seen[1][:, :, 0], batch["video"].flatten(0, 1)[:, None, 1])
    assert not torch.equal(seen[0], seen[1])


def test_bad_values_are_named():
    with pytest.raises(InputError, match="cells 0"):
        learner(cells=0)
