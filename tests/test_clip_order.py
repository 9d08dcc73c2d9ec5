from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from mmssl.cuts.clips import OrderViews
from mmssl.types import InputError
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import (
    STILL,
    blob,
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

SHORT = OrderViews(frames=2, gap=(0.2, 0.6))


def learner(**given):
    encoders = tiny_encoders()
    return build("clip_order", encoders, **{**STILL, "views": SHORT, "cells": 4, **given}), encoders


def swinging(rng: np.random.Generator):
    """A spot that swings about the middle of the clips' film in a way that looks the same from both ends of it."""
    y = rng.uniform(0.3, 0.7)
    return lambda t, u, v: blob(0.5 + 0.2 * np.abs(t - 1.5), np.full_like(t, y), u, v)


@pytest.mark.parametrize(("clips", "moments"), [(2, 1), (3, 2), (4, None)])
def test_loss_and_gradients_match_shuffling_the_clips(clips, moments):
    encoders = tiny_encoders(double=True)
    objective = build("clip_order", encoders, clips=clips, hidden=5, cells=2, moments=moments, views=SHORT, **STILL)
    objective = objective.double().eval()
    batch = double(drawn(objective, 2, 1, sliding, noise=0.1))
    losses = []
    for row in batch["video"]:
        for label, order in enumerate(permutations(range(clips))):
            parts = row.chunk(clips)
            vectors = naive_vectors(objective, encoders["video"], [parts[k] for k in order])
            losses.append(naive_order(objective.order, vectors, label))
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


@pytest.mark.parametrize(("film", "low", "high"), [(sliding, 0.85, 1.0), (frozen, 0.13, 0.2), (key_frames, 0.13, 0.2)])
def test_order_is_learnt_from_motion_and_from_nothing_else(film, low, high):
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=150, lr=3e-3)
    assert low <= judged(objective, encoders, drawn(objective, 256, 90_001, film)) <= high


def test_without_motion_inside_a_clip_the_direction_stays_unknown():
    """Single pictures of a thing that goes either way: an order and its reverse look the same, so half is the most that can be had."""
    objective, encoders = learner(views=OrderViews(frames=1, gap=(0.2, 0.6)))
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, sliding), steps=150, lr=3e-3)
    assert 0.4 <= judged(objective, encoders, drawn(objective, 256, 90_001, sliding)) <= 0.56


def test_constant_features_score_chance():
    encoders = tiny_encoders(constant=True)
    objective = build("clip_order", encoders, views=SHORT, **STILL)
    assert judged(objective, encoders, drawn(objective, 8, 1, swinging)) == pytest.approx(1 / 6, abs=1e-6)


@pytest.mark.parametrize("given", [{"clips": 5}, {"clips": 1}, {"moments": 0}, {"hidden": 0}])
def test_bad_values_are_named(given):
    name, value = next(iter(given.items()))
    with pytest.raises(InputError, match=f"{name} {value}"):
        learner(**given)
