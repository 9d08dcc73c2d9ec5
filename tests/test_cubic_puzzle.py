from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.objectives.cubic_puzzle import PuzzleViews
from mmssl.types import InputError, InputSpec
from tests.tiny_av import build, tiny_encoders, train
from tests.tiny_films import STILL, blob, double, drawn, judged, naive_order, naive_vectors, same_loss_and_gradients, source

VIEWS = PuzzleViews(frames=2, gap=(0.2, 0.5))
PLACED = replace(VIEWS, crop=(1.0, 1.0))


def learner(**given):
    encoders = tiny_encoders()
    return build("cubic_puzzle", encoders, **{**STILL, "views": PLACED, "cells": 4, **given}), encoders


def furnished(rng: np.random.Generator):
    """Each quarter of the picture has a pattern of its own, and a spot crosses it, from the left to the right."""
    y = rng.uniform(0.35, 0.65)

    def film(t, u, v):
        across = np.where(v < 0.5, np.sin(120 * u), np.sin(40 * u))  # fine above, coarse below
        down = np.where(v < 0.5, np.sin(120 * v), np.sin(40 * v))
        texture = np.where(u < 0.5, across, down)  # upright stripes to the left, level ones to the right
        return 0.5 + 0.2 * texture + 0.3 * blob(0.2 + 0.2 * t, np.full_like(t, y), u, v)

    return film


def alike(rng: np.random.Generator):
    """The same stripes all over, at rest, with a phase that says nothing."""
    phase = rng.uniform(0, 6)
    return lambda t, u, v: np.ones_like(t)[:, None, None] * (0.5 + 0.2 * np.sin(60 * (u + v) + phase))


@pytest.mark.parametrize("puzzles", ["both", "space", "time"])
def test_loss_and_gradients_match_arranging_the_pieces(puzzles):
    encoders = tiny_encoders(double=True)
    views = replace(VIEWS, puzzles=puzzles)
    objective = build("cubic_puzzle", encoders, hidden=4, cells=2, moments=2, views=views, **STILL).double().eval()
    batch = double(drawn(objective, 1, 1, furnished, noise=0.1))
    losses = []
    for kind in objective.heads:
        for row in range(1):
            if kind == "space":
                pieces = [batch[f"space_{k}"][row] for k in range(4)]
            else:
                pieces = list(batch["time"][row].chunk(4))
            pieces = [piece[:, 1:2].expand(-1, 3, -1, -1) for piece in pieces]
            if kind == "space":
                pieces = [
                    (0.5 + 0.25 * (p - p.mean()) / (((p - p.mean()) ** 2).mean() + 1e-6).sqrt()).clamp(0, 1) for p in pieces
                ]
            vectors = naive_vectors(objective, encoders["video"], pieces)
            for label, order in enumerate(permutations(range(4))):
                losses.append(naive_order(objective.heads[kind], [vectors[k] for k in order], label))
    assert set(objective.heads) == ({"space", "time"} if puzzles == "both" else {puzzles})
    same_loss_and_gradients(objective, encoders, batch, torch.stack(losses).mean())


def test_both_puzzles_are_solved_where_place_and_time_show():
    objective, encoders = learner()
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, furnished), steps=150, lr=3e-3)
    batch = drawn(objective, 128, 90_001, furnished)
    assert judged(objective, encoders, batch, "accuracy_space") > 0.8
    assert judged(objective, encoders, batch, "accuracy_time") > 0.6
    assert judged(objective, encoders, batch) > 0.7


def test_neither_is_where_all_places_and_times_are_alike():
    objective, encoders = learner(views=VIEWS)
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, alike), steps=150, lr=3e-3)
    batch = drawn(objective, 128, 90_001, alike)
    for question in ("accuracy", "accuracy_space", "accuracy_time"):
        assert 0.02 <= judged(objective, encoders, batch, question) <= 0.07


def vignetted(rng: np.random.Generator):
    """Brightness alone, which falls towards the corner in the lower right."""
    return lambda t, u, v: np.ones_like(t)[:, None, None] * (0.9 - 0.5 * u * v - 0.2 * u)


@pytest.mark.parametrize(("standard", "low", "high"), [(True, 0.0, 0.75), (False, 0.9, 1.0)])
def test_brightness_alone_solves_it_only_without_the_defence(standard, low, high):
    """Fading inside a piece is left (a slope says something about the corner); its level is gone."""
    objective, encoders = learner(views=replace(PLACED, puzzles="space"), standard=standard, cells=1, moments=1)
    train(objective, encoders, lambda rows, seed: drawn(objective, rows, seed, vignetted, noise=0.1), steps=100, lr=3e-3)
    assert low <= judged(objective, encoders, drawn(objective, 64, 90_001, vignetted, noise=0.1)) <= high


def test_pieces_keep_apart_stay_in_their_quarters_and_move_about():
    views = PuzzleViews(frames=2, piece=0.7, apart=0.1).resolve(InputSpec(size=16))
    lefts, tops = [], []
    for seed in range(300):
        plan = views.plan(source(), np.random.default_rng(seed))
        boxes = [plan.requests[f"space_{k}"].box for k in range(4)]
        assert len({plan.requests[f"space_{k}"].times for k in range(4)}) == 1
        outer = plan.requests["time"].box
        half = outer.width / 2
        for left, right in ((0, 1), (2, 3)):
            assert boxes[right].left - (boxes[left].left + boxes[left].width) >= 0.1 * half - 1e-9
        for upper, lower in ((0, 2), (1, 3)):
            assert boxes[lower].top - (boxes[upper].top + boxes[upper].height) >= 0.1 * outer.height / 2 - 1e-9
        for k, box in enumerate(boxes):
            assert box.width == pytest.approx(0.7 * half)
            assert box.width * 320 == pytest.approx(box.height * 240)  # square
            corner = outer.left + (k % 2) * half, outer.top + (k // 2) * outer.height / 2
            assert corner[0] - 1e-9 <= box.left and box.left + box.width <= corner[0] + half + 1e-9
            assert corner[1] - 1e-9 <= box.top and box.top + box.height <= corner[1] + outer.height / 2 + 1e-9
            lefts.append((box.left - corner[0]) / half)
            tops.append((box.top - corner[1]) / (outer.height / 2))
    for jitter in (np.array(lefts), np.array(tops)):
        assert jitter.min() < 0.06 and jitter.max() > 0.24
    # No two pieces of a picture are displaced alike: the rest of a line cannot be told from where it leaves its piece.
    rows = np.array(lefts).reshape(-1, 4)
    assert abs(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]) < 0.2


def test_clips_of_the_puzzle_in_time_share_a_box_and_keep_their_gaps():
    views = VIEWS.resolve(InputSpec(size=16))
    for seed in range(50):
        times = np.array(views.plan(source(), np.random.default_rng(seed)).requests["time"].times).reshape(4, 2)
        gaps = times[1:, 0] - times[:-1, 1] - 0.08
        assert (gaps >= 0.2 - 1e-9).all() and (gaps <= 0.5 + 1e-9).all()


def test_pieces_are_shown_in_one_channel():
    objective, encoders = learner()
    seen = []
    encoders["video"].register_forward_hook(lambda module, given, result: seen.append(given[0]))
    batch = drawn(objective, 2, 1, furnished, noise=0.2)
    objective.train()(batch, EncoderBank(encoders))
    assert [part.shape[0] for part in seen] == [8, 8]
    assert all(torch.equal(part[:, :, 0], part[:, :, 2]) for part in seen)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PuzzleViews(piece=0.8, apart=0.3), "piece 0.8 and views.apart 0.3"),
        (lambda: PuzzleViews(gap=(0.3, 0.1)), "views.gap"),
        (lambda: PuzzleViews(motion=-1.0), "views.motion is -1.0"),
        (lambda: learner(frame_augment=FrameAugment()), "frame_augment.flip is 0.5"),
        (lambda: learner(hidden=0), "hidden 0"),
    ],
)
def test_bad_values_are_named(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize(
    ("puzzles", "film", "reason"),
    [
        ("both", source(1.2), "shorter than 1.24 s"),
        ("space", source(0.2), None),
        ("space", source(0.1), "shorter than 0.16 s"),
        ("space", replace(source(), width=0, height=0), "size unknown, so no pieces can be cut"),
        ("time", replace(source(), video=None), "no picture"),
        ("time", source(fps=5.0), "fewer than 12.5 frames a second, so pictures would repeat"),
    ],
)
def test_rejection_names_what_is_missing(puzzles, film, reason):
    assert replace(VIEWS, puzzles=puzzles).resolve(InputSpec(size=16)).reject(film) == reason


def test_constant_features_score_chance():
    encoders = tiny_encoders(constant=True)
    objective = build("cubic_puzzle", encoders, views=VIEWS, **STILL)
    assert judged(objective, encoders, drawn(objective, 4, 1, furnished)) == pytest.approx(1 / 24, abs=1e-6)
