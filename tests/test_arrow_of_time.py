from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.cuts.clips import ClipViews
from mmssl.types import InputError
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import STILL, blob, double, drawn, frozen, judged, naive_vectors, same_loss_and_gradients, sliding


def falling(rng: np.random.Generator):
    """A spot that only ever goes down."""
    x, speed = rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.25)
    return lambda t, u, v: blob(np.full_like(t, x), 0.15 + speed * t, u, v)


def learner(**given):
    encoders = tiny_encoders()
    return build("arrow_of_time", encoders, **{**STILL, "cells": 4, **given}), encoders


@pytest.mark.parametrize(("cells", "moments"), [(1, None), (2, 2), (1, 1)])
def test_loss_and_gradients_match_the_loop(cells, moments):
    encoders = tiny_encoders(double=True)
    objective = build("arrow_of_time", encoders, hidden=6, cells=cells, moments=moments, **STILL).double().eval()
    batch = double(drawn(objective, 3, 1, sliding))
    losses = []
    for row in batch["video"]:
        there, back = naive_vectors(objective, encoders["video"], [row, torch.stack(list(reversed(list(row))))])
        line = objective.direction
        forwards, backwards = (torch.sigmoid((line.weight @ v + line.bias).squeeze()) for v in (there, back))
        losses.append(-(forwards.log() + (1 - backwards).log()) / 2)
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


@pytest.mark.parametrize(("film", "low", "high"), [(falling, 0.9, 1.0), (sliding, 0.42, 0.58), (frozen, 0.42, 0.58)])
def test_one_way_motion_is_learnt_symmetric_and_frozen_ones_are_not(film, low, high):
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=100, lr=3e-3)
    batch = drawn(objective, 256, 90_001, film)
    assert low <= judged(objective, encoders, batch) <= high
    assert low <= judged(objective, encoders, batch, "accuracy_pair") <= high


def test_a_network_that_sees_no_order_scores_exactly_chance():
    """Both directions hold the same pictures: without order (one moment) every logit is the same for both."""
    objective, encoders = learner(moments=1)
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, falling), steps=5)
    batch = drawn(objective, 16, 90_001, falling)
    assert judged(objective, encoders, batch) == pytest.approx(0.5, abs=1e-6)
    assert judged(objective, encoders, batch, "accuracy_pair") == pytest.approx(0.5, abs=1e-6)


def test_training_blurs_by_default():
    assert build("arrow_of_time", tiny_encoders()).frame_augment.blur == 0.5


def test_a_single_picture_has_no_direction():
    with pytest.raises(InputError, match=r"views.frames is 1; at least 2"):
        learner(views=ClipViews(frames=1))
    with pytest.raises(InputError, match="moments 0"):
        learner(moments=0)
