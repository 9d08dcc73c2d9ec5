from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.objectives.playback_rate import SpeedViews
from mmssl.types import InputError, InputSpec
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import (
    FPS,
    STILL,
    blob,
    double,
    drawn,
    frozen,
    judged,
    naive_vectors,
    same_loss_and_gradients,
    sliding,
    source,
)

SPEC = InputSpec(size=16, fps=12.5)


def learner(**given):
    encoders = tiny_encoders()
    return build("playback_rate", encoders, **{**STILL, "cells": 4, **given}), encoders


def any_speed(rng: np.random.Generator):
    """Motion whose true speed is drawn over more than a factor of two (log-uniform): the speed seen says little about the rate played."""
    speed, y, x = np.exp(rng.uniform(np.log(0.02), np.log(0.2))), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.4)
    return lambda t, u, v: blob(x + speed * t, np.full_like(t, y), u, v)


@pytest.mark.parametrize("speeds", [(1, 2), (1, 2, 4)])
def test_loss_and_gradients_match_the_loop(speeds):
    encoders = tiny_encoders(double=True)
    views = SpeedViews(speeds=speeds, frames=4)
    objective = build("playback_rate", encoders, hidden=6, cells=2, moments=2, views=views, **STILL).double().eval()
    batch = double(drawn(objective, 3, 1, sliding))
    losses = []
    for row in batch["video"]:
        for place, vector in enumerate(naive_vectors(objective, encoders["video"], list(row.chunk(len(speeds))))):
            shares = torch.softmax(objective.speed.weight @ vector + objective.speed.bias, 0)
            losses.append(-shares[place].log())
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


@pytest.mark.parametrize(("film", "low", "high"), [(sliding, 0.9, 1.0), (frozen, 0.42, 0.58)])
def test_speed_is_learnt_from_motion_alone(film, low, high):
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=100, lr=3e-3)
    batch = drawn(objective, 256, 90_001, film)
    assert low <= judged(objective, encoders, batch) <= high
    assert low <= judged(objective, encoders, batch, "accuracy_pair") <= high


def test_where_true_speeds_differ_most_of_the_answer_is_gone():
    """Nothing but the motion is read: with motion of any speed a perfect reader of it would be right in 65 % (ln 2 / ln 10 of the range)."""
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, any_speed), steps=100, lr=3e-3)
    assert 0.55 < judged(objective, encoders, drawn(objective, 256, 90_001, any_speed)) < 0.72


@pytest.mark.parametrize("fps", [12.5, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0])
def test_no_frame_repeats_and_every_speed_steps_evenly(fps):
    """The leak of a plain grid of times: steps of 2, 3, 2, 2 frames at one speed and of 5, 5, 5 at another."""
    views = SpeedViews(speeds=(1, 2, 3), frames=8).resolve(SPEC)
    film = source(10.0, fps=fps)
    for seed in range(50):
        times = np.array(views.plan(film, np.random.default_rng(seed)).requests["video"].times)
        frames = np.floor((times - times[0]) * fps + np.random.default_rng(seed).uniform(0.05, 0.95)).reshape(3, 8)
        steps = np.diff(frames, axis=1)
        assert (steps >= 1).all()
        assert (steps == steps[:, :1]).all()
        assert (steps[:, 0] == steps[0, 0] * np.array([1, 2, 3])).all()
        assert steps[0, 0] / fps == pytest.approx(1 / 12.5, rel=0.5)


def test_all_speeds_lie_around_the_same_moments():
    views = SpeedViews(speeds=(1, 4), frames=8).resolve(SPEC)
    for seed in range(100):
        slow, fast = np.array(views.plan(source(4.0), np.random.default_rng(seed)).requests["video"].times).reshape(2, 8)
        assert slow[4] == pytest.approx(fast[4])  # the middle of both windows
        assert fast.min() >= 0.0 and fast.max() < 4.0


def test_no_moment_prefers_a_phase_of_the_codec():
    views = SpeedViews(frames=4).resolve(SPEC)
    times = np.array([views.plan(source(9.0), np.random.default_rng(k)).requests["video"].times for k in range(4000)])
    for slot in range(8):
        counts, _ = np.histogram(times[:, slot] % 0.4, bins=10, range=(0, 0.4))
        assert np.abs(counts - 400).max() < 5 * 400**0.5


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        (source(fps=10.0), "fewer than 12.5 frames a second, so pictures would repeat"),
        (source(1.2), "shorter than 1.3 s"),
        (source(1.3), None),
        (source(2.0, fps=19.0), "fewer than 25 frames a second, so pictures would repeat"),
    ],
)
def test_rejection_names_what_is_missing(film, reason):
    speeds = (2, 3) if film.fps == 19.0 else (1, 2)
    assert SpeedViews(frames=8, speeds=speeds).resolve(SPEC).reject(film) == reason


def test_the_grid_of_a_source_is_what_is_asked_for():
    views = SpeedViews(frames=2).resolve(SPEC)
    times = views.plan(source(5.0, fps=FPS), np.random.default_rng(0)).requests["video"].times
    assert np.diff(times)[[0, 2]].tolist() == pytest.approx([2 / 25, 4 / 25])


@pytest.mark.parametrize("speeds", [(1,), (2, 1), (0, 1), (1, 1)])
def test_bad_speeds_are_named(speeds):
    with pytest.raises(InputError, match=r"views\.speeds is"):
        SpeedViews(speeds=speeds)
