from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from mmssl.cuts.frames import FrameViews
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.nn.lab import lab_picture, lightness_picture, rgb_to_lab
from mmssl.nn.pointer import point
from mmssl.objectives.base import Objective, Tracks, objective_class
from mmssl.types import InputError
from tests.moving_cells import COLOURS, moving
from tests.tiny_av import build, measure, tiny_for, train

PLAIN = {"frame_augment": FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0)}


def make(**arguments):
    encoders = tiny_for(objective_class("colorize"))
    return build("colorize", encoders, **{"clusters": len(COLOURS), **PLAIN, **arguments}), encoders


def fitted(linked: bool = True, **arguments):
    objective, encoders = make(**arguments)
    torch.manual_seed(3)
    objective.fit(moving(8, 50 + k, linked=linked) for k in range(3))
    return objective, encoders


# Lab ---------------------------------------------------------------------------------------------------------------------


def test_lab_is_the_standards_and_nearly_opencvs():
    pure = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5]]).view(6, 3, 1, 1)
    wanted = torch.tensor(
        [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100, 0, 0], [0, 0, 0], [53.39, 0, 0]]
    )
    torch.testing.assert_close(rgb_to_lab(pure)[..., 0, 0], wanted, atol=0.03, rtol=0)
    pictures = torch.randint(0, 256, (5, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for picture, lab in zip(pictures, rgb_to_lab(pictures), strict=True):
        theirs = cv2.cvtColor(picture.permute(1, 2, 0).numpy().astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        np.testing.assert_allclose(lab.permute(1, 2, 0).numpy(), theirs, atol=0.4)  # OpenCV looks cube roots up in a table
    torch.testing.assert_close(rgb_to_lab(pictures), rgb_to_lab(pictures.float() / 255))


def test_pictures_in_lab_hold_what_they_say():
    lab = rgb_to_lab(torch.randint(0, 256, (2, 4, 3, 8, 8), dtype=torch.uint8))
    grey = lightness_picture(lab)
    assert grey.shape == lab.shape
    assert torch.equal(grey[:, :, 0], grey[:, :, 2])
    whole = lab_picture(lab)
    assert whole.min() >= 0 and whole.max() <= 1
    torch.testing.assert_close(whole[:, :, 1], (lab[:, :, 1] / 254 + 0.5).clamp(0, 1))


# Pointing ----------------------------------------------------------------------------------------------------------------


def naive_point(query, keys, values, scale, radius):
    """Cell by cell."""
    n, refs, _, height, width = keys.shape
    found = torch.zeros(n, values.shape[2], height, width, dtype=values.dtype)
    for row in range(n):
        for y in range(height):
            for x in range(width):
                scores, there = [], []
                for r in range(refs):
                    for v in range(height):
                        for u in range(width):
                            if radius is None or (abs(v - y) <= radius and abs(u - x) <= radius):
                                scores.append(scale * sum(query[row, :, y, x] * keys[row, r, :, v, u]))
                                there.append(values[row, r, :, v, u])
                weights = torch.stack(scores).exp()
                found[row, :, y, x] = sum(w * v for w, v in zip(weights, there, strict=True)) / weights.sum()
    return found


@pytest.mark.parametrize("radius", [None, 1, 2, 9])
def test_pointing_matches_the_loop(radius):
    torch.manual_seed(0)
    query = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 2, 2, 4, 5, dtype=torch.float64)
    found, wanted = point(query, keys, values, scale=0.7, radius=radius), naive_point(query, keys, values, 0.7, radius)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(wanted)
    got = torch.autograd.grad((found * weight).sum(), (query, keys))
    for one, other in zip(got, torch.autograd.grad((wanted * weight).sum(), (query, keys)), strict=True):
        torch.testing.assert_close(one, other)


# The loss ----------------------------------------------------------------------------------------------------------------


def naive_loss(objective: Objective, encoders, batch) -> torch.Tensor:
    """Cell by cell, from the definitions."""
    video = batch["video"]
    lab = rgb_to_lab(video).movedim(2, -1)  # (n, T, H, W, 3), tested by itself
    n, frames = video.shape[:2]
    grey = (lab[..., :1] / 100).expand(-1, -1, -1, -1, 3).permute(0, 1, 4, 2, 3)
    if objective.hide == "channel":  # in eval mode a of even rows, b of odd ones
        shown = lab.clone()
        for row in range(n):
            shown[row, ..., 1 + row % 2] = 0
        grey = torch.stack([shown[..., 0] / 100, shown[..., 1] / 254 + 0.5, shown[..., 2] / 254 + 0.5], dim=2).clamp(0, 1)
    grid = encoders["video"](grey).grid
    embedded = objective.head(grid)
    height, width = grid.shape[2:4]
    step = video.shape[-1] // width
    losses = []
    for row in range(n):
        for y in range(height):
            for x in range(width):
                scores, colours = [], []
                for t in range(frames - 1):
                    for v in range(height):
                        for u in range(width):
                            scores.append(embedded[row, -1, y, x] @ embedded[row, t, v, u] * objective.scale)
                            colours.append(lab[row, t, v * step : (v + 1) * step, u * step : (u + 1) * step, 1:].mean((0, 1)))
                weights = torch.stack(scores).softmax(0)
                true = lab[row, -1, y * step : (y + 1) * step, x * step : (x + 1) * step, 1:].mean((0, 1))
                if objective.form == "classes":
                    nearest = [int((objective.palette - c).norm(dim=1).argmin()) for c in colours]
                    want = int((objective.palette - true).norm(dim=1).argmin())
                    losses.append(-torch.log(sum(w for w, c in zip(weights, nearest, strict=True) if c == want) + 1e-8))
                else:
                    guess = sum(w * c for w, c in zip(weights, colours, strict=True))
                    channels = [0, 1] if objective.hide == "colour" else [row % 2]
                    off = [20 * abs(guess[c] - true[c]) / 127 for c in channels]
                    losses.append(sum(d * d / 2 if d < 1 else d - 0.5 for d in off) / len(off))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("form", ["classes", "regression"])
@pytest.mark.parametrize("hide", ["colour", "channel"])
def test_loss_and_gradients_match_the_loop(form, hide):
    objective, encoders = fitted(form=form, hide=hide, temperature=0.3)
    objective.eval()
    batch = moving(2, 1)
    loss = objective(batch, EncoderBank(encoders)).value
    wanted = naive_loss(objective, encoders, batch)
    torch.testing.assert_close(loss, wanted)
    parameters = [*objective.parameters(), *encoders["video"].parameters()]
    for got, want in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5)


def test_pointing_nowhere_scores_as_uninformed():
    objective, encoders = fitted()
    torch.nn.init.zeros_(objective.head.weight)
    for radius in (None, 1):
        objective.radius = radius
        loss = objective.eval()(moving(4, 2), EncoderBank(encoders))
        torch.testing.assert_close(loss.value, loss.metrics["loss/uninformed"])
        assert loss.metrics["accuracy"].item() == pytest.approx(loss.metrics["accuracy/chance"].item(), abs=0.02)
    objective.radius = None
    # In words: the cross-entropy of the target's colours under those of its references.
    batch = moving(1, 7)
    grid = objective._nearest(_pooled(batch["video"]))[0]
    share = torch.bincount(grid[:-1].flatten(), minlength=4) / grid[:-1].numel()
    wanted = -(share[grid[-1].flatten()] + 1e-8).log().mean()
    torch.testing.assert_close(objective(batch, EncoderBank(encoders)).metrics["loss/uninformed"], wanted)


def _pooled(video):
    return torch.nn.functional.avg_pool2d(rgb_to_lab(video).flatten(0, 1)[:, 1:], 4).unflatten(0, video.shape[:2])


# The palette -------------------------------------------------------------------------------------------------------------


def test_the_palette_is_found_is_the_same_again_and_is_saved():
    objective, _ = fitted()
    found = objective.palette[torch.cdist(COLOURS, objective.palette).argmin(dim=1)]
    torch.testing.assert_close(found, COLOURS, atol=6.0, rtol=0)
    assert objective.frequency.sum().item() == pytest.approx(1.0)
    assert (objective.frequency.diff() <= 0).all(), "the most common colour first"
    again, _ = fitted()
    assert torch.equal(again.palette, objective.palette)
    fresh, _ = make()
    assert not torch.equal(fresh.palette, objective.palette)
    fresh.load_state_dict(objective.state_dict())
    assert torch.equal(fresh.palette, objective.palette)


def test_clips_without_colour_are_named():
    objective, _ = make()
    grey = {"video": torch.randint(0, 256, (4, 3, 1, 16, 16), dtype=torch.uint8).expand(-1, -1, 3, -1, -1)}
    with pytest.raises(InputError, match=r"hold 1 colours, the palette needs 4"):
        objective.fit(iter([grey]))


# What the encoder sees ---------------------------------------------------------------------------------------------------


class Recorded(torch.nn.Module):
    """What the encoder was given."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner, self.seen = inner, None

    def forward(self, x, valid=None):
        self.seen = x.detach()
        return self.inner(x)


def shown(objective, encoders, batch):
    recorded = Recorded(encoders["video"])
    objective(batch, EncoderBank({"video": recorded}))
    return recorded.seen


def test_grey_input_holds_no_colour_whatsoever():
    objective, encoders = make()
    batch = moving(3, 0)
    seen = shown(objective.train(), encoders, batch)
    assert torch.equal(seen[:, :, 0], seen[:, :, 1]) and torch.equal(seen[:, :, 0], seen[:, :, 2])
    torch.testing.assert_close(objective.picture(batch["video"]), seen)


@pytest.mark.parametrize("training", [True, False])
def test_one_channel_is_hidden_from_all_frames_of_a_clip(training):
    objective, encoders = make(hide="channel")
    seen = shown(objective.train(training), encoders, moving(64, 0))
    none = (seen[:, :, 1:] == 0.5).flatten(3).all(3)  # (n, T, 2)
    assert (none == none[:, :1]).all(), "the same channel in every frame"
    assert (none[:, 0].sum(1) == 1).all(), "exactly one"
    assert 0.3 < none[:, 0, 0].float().mean() < 0.7


def test_dropout_shows_some_clips_whole_in_training_only():
    objective, encoders = make(dropout=0.6)
    batch = moving(200, 0)
    whole = (shown(objective.train(), encoders, batch)[:, :, 1:] != 0.5).flatten(1).any(1)
    assert 0.25 < whole.float().mean() < 0.55
    assert not (shown(objective.eval(), encoders, batch)[:, :, 1:] != 0.5).any()
    assert (objective.picture(batch["video"])[:, :, 1:] != 0.5).any(), "trackers may see what training showed"


def test_a_clip_shown_whole_still_counts_in_regression():
    objective, encoders = fitted(form="regression", hide="channel", dropout=1e-9)
    loss = objective.train()(moving(4, 0), EncoderBank(encoders))
    assert loss.value > 0.01


# Learning ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"form": "regression"}, {"radius": 3}, {"form": "regression", "hide": "channel"}])
def test_what_moves_is_followed_to_its_colour(arguments):
    objective, encoders = fitted(**arguments)
    before = measure(objective, encoders, moving)
    train(objective, encoders, moving, steps=120, lr=1e-2)
    after = measure(objective, encoders, moving)
    assert before["accuracy"] < 0.55
    assert after["accuracy"] > 0.8
    assert after["accuracy_moved"] > 0.75
    assert after["copy/accuracy"] < 0.35, "staying on the place is no help here"


def test_with_the_link_cut_nothing_is_learnt():
    def cut(rows, seed):
        return moving(rows, seed, linked=False)

    objective, encoders = fitted(linked=False)
    train(objective, encoders, cut, steps=120, lr=1e-2)
    metrics = measure(objective, encoders, cut)
    assert metrics["accuracy"] == pytest.approx(0.25, abs=0.04)
    assert metrics["accuracy/chance"] == pytest.approx(0.25, abs=0.05)


def test_where_nothing_moves_the_copy_is_perfect_and_nothing_counts_as_moved():
    objective, encoders = fitted()
    metrics = objective.eval()(moving(4, 0, still=True), EncoderBank(encoders)).metrics
    assert metrics["copy/accuracy"] > 0.99
    judged = objective.judge(moving(4, 0, still=True), EncoderBank(encoders))
    assert judged["copy"].values.min() > 0.99
    assert judged["accuracy"].chance == pytest.approx(objective.frequency.max().item())


# Options -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dropout": 0.0}, "dropout is 0"),
        ({"clusters": 1}, "clusters is 1"),
        ({"radius": 0}, "radius is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        make(**arguments)


def test_a_single_frame_is_refused():
    objective, encoders = make()
    with pytest.raises(ValueError, match="at least 2 frames"):
        objective({"video": torch.zeros(2, 1, 3, 16, 16, dtype=torch.uint8)}, EncoderBank(encoders))


def test_the_scale_is_the_root_of_the_width_or_the_temperature():
    assert make(dim=64)[0].scale == pytest.approx(1 / math.sqrt(64))
    assert make(temperature=0.5)[0].scale == 2.0
    assert make(views=FrameViews(frames=5))[0].views.frames == 5


def test_it_says_what_trackers_show_the_encoder():
    objective, _ = make()
    assert isinstance(objective, Tracks)
    frames = torch.randint(0, 256, (1, 2, 3, 16, 16), dtype=torch.uint8)
    assert objective.picture(frames).shape == frames.shape
