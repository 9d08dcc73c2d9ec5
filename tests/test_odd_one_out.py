from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.objectives.odd_one_out import SequencesViews
from mmssl.types import InputError, InputSpec
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import STILL, double, drawn, frozen, judged, naive_vectors, same_loss_and_gradients, sliding, source

FEW = SequencesViews(sequences=4, frames=5, fps=4.0)


def learner(**given):
    encoders = tiny_encoders()
    return build("odd_one_out", encoders, **{**STILL, "views": FEW, "cells": 4, **given}), encoders


def test_loss_and_gradients_match_placing_the_sequences():
    encoders = tiny_encoders(double=True)
    objective = build("odd_one_out", encoders, hidden=5, cells=2, moments=5, views=FEW, **STILL).double().eval()
    batch = double(drawn(objective, 2, 1, sliding, noise=0.1))
    losses = []
    for row in batch["video"]:
        *others, odd = row.chunk(4)
        for place in range(4):
            vectors = naive_vectors(objective, encoders["video"], [*others[:place], odd, *others[place:]])
            first, _, last = objective.head
            fused = torch.relu(first.weight @ torch.cat(vectors) + first.bias)
            losses.append(-torch.softmax(last.weight @ fused + last.bias, 0)[place].log())
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


@pytest.mark.parametrize(("film", "low", "high"), [(sliding, 0.85, 1.0), (frozen, 0.2, 0.3)])
def test_the_shuffled_sequence_is_found_where_something_moves(film, low, high):
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, film), steps=150, lr=6e-3)
    assert low <= judged(objective, encoders, drawn(objective, 256, 90_001, film)) <= high


def test_windows_are_drawn_alike_and_the_odd_one_is_only_shuffled():
    views = FEW.resolve(InputSpec(size=16))
    times = np.array([views.plan(source(8.0), np.random.default_rng(k)).requests["video"].times for k in range(3000)])
    times = times.reshape(3000, 4, 5)
    for row in times[:300]:
        for sequence in row[:3]:
            np.testing.assert_allclose(np.diff(sequence), 0.25)
        odd = row[3]
        np.testing.assert_allclose(np.diff(np.sort(odd)), 0.25)
        steps = np.round(np.diff(odd) / 0.25)
        assert not (steps == 1).all() and not (steps == -1).all()
    assert (times >= 0).all() and (times < 8).all()
    starts = times.min(axis=2)
    for sequence in range(4):
        counts, _ = np.histogram(starts[:, sequence], bins=10, range=(0, 8 - 5 / 4))
        assert np.abs(counts - 300).max() < 5 * 300**0.5
    # The mean place of each picture of the shuffled sequence is in the middle, or nearly: no slot favours early or late pictures.
    place = np.argsort(np.argsort(times[:, 3], axis=1), axis=1)
    assert np.abs(place.mean(axis=0) - 2.0).max() < 0.15


def test_three_pictures_are_the_fewest():
    orders = set()
    views = SequencesViews(sequences=2, frames=3).resolve(InputSpec(size=16))
    for k in range(100):
        odd = np.array(views.plan(source(), np.random.default_rng(k)).requests["video"].times[3:])
        orders.add(tuple(np.argsort(odd)))
    assert orders == {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)}
    with pytest.raises(InputError, match=r"views\.frames is 2; at least 3"):
        SequencesViews(frames=2)
    with pytest.raises(InputError, match=r"views\.sequences is 1"):
        SequencesViews(sequences=1)
    with pytest.raises(InputError, match="hidden 0"):
        learner(hidden=0)


def test_constant_features_score_chance():
    encoders = tiny_encoders(constant=True)
    objective = build("odd_one_out", encoders, views=FEW, **STILL)
    assert judged(objective, encoders, drawn(objective, 8, 1, sliding)) == pytest.approx(1 / 4, abs=1e-6)


def test_short_sources_are_rejected():
    assert FEW.resolve(InputSpec(size=16)).reject(source(1.2)) == "shorter than 1.25 s"
