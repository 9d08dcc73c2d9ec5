from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.cuts.clips import ClipViews
from mmssl.objectives.video_rotation import REGION
from mmssl.types import InputError
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import STILL, blob, double, drawn, judged, naive_vectors, same_loss_and_gradients, sliding, source


def falling(rng: np.random.Generator):
    x, speed = rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.2)
    return lambda t, u, v: blob(np.full_like(t, x), 0.25 + speed * t, u, v)


def any_way(rng: np.random.Generator):
    """A spot that moves from the middle in a direction drawn from all: turned by a quarter, the world looks the same."""
    angle = rng.uniform(0, 2 * np.pi)
    return lambda t, u, v: blob(0.5 + 0.1 * t * np.cos(angle) * 0.75, 0.5 + 0.1 * t * np.sin(angle), u, v)


def logo_at_the_rim(rng: np.random.Generator):
    """Black bars and a logo: upright, and bright, but in the outer tenth of the picture."""
    return lambda t, u, v: np.ones_like(t)[:, None, None] * (0.4 * ((v > 0.095) & (v < 0.905)) + 0.6 * ((u > 0.905) & (v < 0.1)))


CENTRED = ClipViews(crop=(1.0, 1.0))


def learner(**given):
    encoders = tiny_encoders()
    return build("video_rotation", encoders, **{**STILL, "cells": 4, **given}), encoders


@pytest.mark.parametrize(("cells", "moments"), [(1, None), (2, 2)])
def test_loss_and_gradients_match_turning_each_picture(cells, moments):
    encoders = tiny_encoders(double=True)
    objective = build("video_rotation", encoders, hidden=6, cells=cells, moments=moments, **STILL).double().eval()
    batch = double(drawn(objective, 3, 1, sliding, noise=0.1))
    losses = []
    for row in batch["video"]:
        turned = [
            torch.from_numpy(np.stack([[np.rot90(channel, turns) for channel in picture] for picture in row.numpy()]))
            for turns in range(4)
        ]
        for turns, vector in enumerate(naive_vectors(objective, encoders["video"], turned)):
            losses.append(-torch.softmax(objective.turn.weight @ vector + objective.turn.bias, 0)[turns].log())
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


@pytest.mark.parametrize(("film", "low", "high"), [(falling, 0.9, 1.0), (any_way, 0.18, 0.32), (logo_at_the_rim, 0.2, 0.3)])
def test_up_is_learnt_where_things_fall_and_not_where_all_directions_are_alike(film, low, high):
    objective, encoders = learner(views=CENTRED)
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=100, lr=3e-3)
    assert low <= judged(objective, encoders, drawn(objective, 256, 90_001, film)) <= high


def test_marks_at_the_rim_give_it_away_where_all_of_the_picture_is_looked_at():
    """What the default region defends against is real."""
    objective, encoders = learner(views=ClipViews(region=(0.0, 0.0, 1.0, 1.0), crop=(1.0, 1.0)))
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, logo_at_the_rim), steps=60, lr=3e-3)
    assert judged(objective, encoders, drawn(objective, 64, 90_001, logo_at_the_rim)) > 0.45  # bars alone: two of four


def test_crops_stay_inside_the_inner_picture():
    objective, _ = learner()
    assert objective.views.region == REGION
    for seed in range(50):
        box = objective.views.plan(source(), np.random.default_rng(seed)).requests["video"].box
        assert box.left >= 0.1 - 1e-9 and box.top >= 0.1 - 1e-9
        assert box.left + box.width <= 0.9 + 1e-9 and box.top + box.height <= 0.9 + 1e-9


def test_one_picture_will_do_and_bad_values_are_named():
    objective, encoders = learner(views=ClipViews(frames=1))
    assert judged(objective, encoders, drawn(objective, 4, 1, falling)) >= 0.0
    with pytest.raises(InputError, match="cells 0"):
        learner(cells=0)


def test_constant_features_score_chance():
    encoders = tiny_encoders(constant=True)
    objective = build("video_rotation", encoders, **STILL)
    assert judged(objective, encoders, drawn(objective, 8, 1, falling)) == pytest.approx(1 / 4, abs=1e-6)
