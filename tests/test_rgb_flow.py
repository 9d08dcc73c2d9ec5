from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.nn.cross_pixel import agreement, cross_pixel, draw_cells
from mmssl.objectives.rgb_flow import FlowViews
from mmssl.types import MOTION_HOP, Features, Flow, Frames, InputError, InputSpec, Span
from tests.test_objectives import source
from tests.tiny_av import CELL, KINDS, PLAIN, SIZE, TinyFlow, TinyFrames, build, measure, train

SIDE = SIZE // CELL
STILL = {"frame_augment": FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0)}
assert PLAIN["frame_augment"] == STILL["frame_augment"]


def towers(double: bool = False, constant: bool = False):
    torch.manual_seed(0)
    encoders = {"video": TinyFrames(constant=constant), "flow": TinyFlow()}
    return {role: encoder.double() for role, encoder in encoders.items()} if double else encoders


def moving_kinds(rows: int, seed: int, *, linked: bool = True, frames: int = 2):
    """Each clip is of a kind that gives it a texture and a direction of motion; with the link cut they are drawn apart."""
    fixed = torch.Generator().manual_seed(77)
    patterns = torch.randint(2, (KINDS, 3, CELL, CELL), generator=fixed).float()
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(KINDS, (rows,), generator=g)
    moves = kind if linked else torch.randint(KINDS, (rows,), generator=g)
    video = patterns[kind].repeat(1, 1, SIDE, SIDE)[:, None].expand(-1, frames, -1, -1, -1)
    angle = moves * (2 * math.pi / KINDS)
    vector = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    flow = vector[:, None, :, None, None] + 0.3 * torch.randn(rows, frames, 2, SIZE, SIZE, generator=g)
    noise = 0.1 * torch.randn(video.shape, generator=g)
    return {
        "video": ((0.8 * video + 0.1 + noise).clamp(0, 1) * 255).to(torch.uint8),
        "flow": flow.half(),
        "source": torch.arange(rows) + 1000 * seed,
    }


def moving_parts(rows: int, seed: int, *, linked: bool = True, frames: int = 2):
    """Each cell of a picture is bright or dark; the bright ones move one way, the dark ones the other. Cut: motion knows nothing of brightness."""
    g = torch.Generator().manual_seed(seed)
    bright = torch.rand(rows, SIDE, SIDE, generator=g) < 0.5
    follows = bright if linked else torch.rand(rows, SIDE, SIDE, generator=g) < 0.5

    def grow(x):
        return x.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2).float()

    heading = torch.rand(rows, generator=g) * 2 * math.pi  # a new one in each clip: what holds is only who moves with whom
    vector = 2 * torch.stack([heading.cos(), heading.sin()], dim=1)
    flow = (2 * grow(follows) - 1)[:, None, None] * vector[:, None, :, None, None]
    video = (0.3 + 0.4 * grow(bright))[:, None, None] + 0.05 * torch.randn(rows, frames, 3, SIZE, SIZE, generator=g)
    return {
        "video": (video.clamp(0, 1) * 255).to(torch.uint8),
        "flow": flow.expand(-1, frames, -1, -1, -1).half(),
        "source": torch.arange(rows) + 1000 * seed,
    }


def double(batch):
    return {"video": batch["video"].double() / 255, "flow": batch["flow"].double(), "source": batch["source"]}


# --- the losses ------------------------------------------------------------------------------------------------------------


def test_the_instance_loss_and_its_gradients_match_the_loop():
    encoders = towers(double=True)
    objective = build("rgb_flow", encoders, dim=6, **STILL).double().eval()
    batch = double(moving_kinds(5, 1)) | {"source": torch.tensor([1, 2, 2, 3, 4])}
    value = objective(batch, EncoderBank(encoders)).value
    picture = F.normalize(objective.video_head.layers(encoders["video"](batch["video"]).pooled), dim=1)
    motion = F.normalize(objective.flow_head.layers(encoders["flow"](batch["flow"]).pooled), dim=1)
    losses = []
    for i in range(5):
        others = [j for j in range(5) if batch["source"][j] != batch["source"][i]]
        for a, b in ((picture, motion), (motion, picture)):
            own = (a[i] @ b[i] / 0.07).exp()
            losses.append(-torch.log(own / (own + sum((a[i] @ b[j] / 0.07).exp() for j in others))))
    wanted = torch.stack(losses).mean()
    torch.testing.assert_close(value, wanted)
    parameters = [p for module in (objective, *encoders.values()) for p in module.parameters()]
    for got, want in zip(torch.autograd.grad(value, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(got, want)


def test_the_pixel_loss_and_its_gradients_match_the_loop():
    encoders = towers(double=True)
    objective = build("rgb_flow", encoders, form="pixel", dim=6, cells=99, sigma=2.0, **STILL).double().eval()
    sigma = 2.0 * SIZE / 64
    batch = double(moving_parts(3, 1))
    batch["flow"] = batch["flow"] * torch.rand(3, 2, 2, SIZE, SIZE, dtype=torch.float64)
    batch["flow"][1, 0] = 3.0  # one moment of one clip moves as one: no loss there
    loss = objective(batch, EncoderBank(encoders))
    totals = []
    for role, head in (("video", objective.video_head), ("flow", objective.flow_head)):
        found = []
        for clip, moments in enumerate(encoders[role](batch[role]).grid):
            for moment, cells in enumerate(moments):
                if clip == 1 and moment == 0:
                    continue
                e = F.normalize(head.layers(cells.flatten(0, 1)), dim=1)
                blocks = batch["flow"][clip, moment].unfold(1, CELL, CELL).unfold(2, CELL, CELL).mean((-1, -2))
                f = blocks.flatten(1).T
                for p in range(len(e)):
                    others = [q for q in range(len(e)) if q != p]
                    wanted = torch.stack([(-((f[p] - f[q]) ** 2).sum() / (2 * sigma**2)).exp() for q in others])
                    given = torch.stack([(e[p] @ e[q] / 0.07).exp() for q in others])
                    found.append(-(wanted / wanted.sum() * (given / given.sum()).log()).sum())
        totals.append(torch.stack(found).mean())
    torch.testing.assert_close(loss.value, sum(totals))
    torch.testing.assert_close(loss.metrics["loss/pictures"], totals[0].detach())
    torch.testing.assert_close(loss.metrics["loss/flow"], totals[1].detach())
    assert loss.metrics["share/moving"] == pytest.approx(5 / 6)
    assert loss.metrics["loss/floor"] < totals[0] < 3 * loss.metrics["loss/uninformed"]
    parameters = [p for module in (objective, *encoders.values()) for p in module.parameters()]
    for got, want in zip(torch.autograd.grad(loss.value, parameters), torch.autograd.grad(sum(totals), parameters), strict=True):
        torch.testing.assert_close(got, want)


def test_agreement_matches_the_loop_over_triples():
    torch.manual_seed(3)
    embedded, flows = F.normalize(torch.randn(4, 2, 6, 5), dim=-1), torch.randn(4, 2, 6, 2)
    flows[3] = 1.0
    for row, value in enumerate(agreement(embedded, flows, sigma=0.8)):
        right = total = 0
        for e, f in zip(embedded[row], flows[row], strict=True):

            def alike(p, q, f=f):
                return math.exp(-float(((f[p] - f[q]) ** 2).sum()) / (2 * 0.8**2))

            for p in range(6):
                for q in range(6):
                    for r in range(6):
                        if p not in (q, r) and alike(p, q) - alike(p, r) > 0.2:
                            total += 1
                            right += bool(e[p] @ e[q] > e[p] @ e[r])
        assert value.item() == pytest.approx(right / total if total else 0.5)
    assert agreement(torch.ones(2, 1, 5, 3), torch.randn(2, 1, 5, 2), sigma=0.5).tolist() == [0.5, 0.5]


def test_perfect_embeddings_reach_the_floor():
    """Two groups: cosines of 1 within and -1 across, at a temperature at which that is all the difference."""
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    flows = (10.0 * F.one_hot(group, 2).float())[None, None]
    embedded = (2.0 * group - 1.0)[None, None, :, None]
    found = cross_pixel(embedded, flows, sigma=0.5, temperature=0.05)
    assert found.loss.item() == pytest.approx(found.floor.item(), abs=1e-4)
    assert found.floor.item() == pytest.approx(math.log(2), abs=1e-4)


def test_cells_get_the_flow_of_their_own_place_and_time():
    grid = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).view(2, 3, 2, 4, 1)
    flow = torch.zeros(2, 6, 2, 4, 8)
    for t in range(6):
        for y in range(4):
            for x in range(8):
                flow[:, t, 0, y, x], flow[:, t, 1, y, x] = t, 10 * (y // 2) + x // 2
    cells, vectors = draw_cells(grid, flow, 99)
    assert cells.shape == (2, 3, 8, 1) and vectors.shape == (2, 3, 8, 2)
    for clip in range(2):
        for time in range(3):
            numbers = cells[clip, time, :, 0].long() - 24 * clip - 8 * time
            assert sorted(numbers.tolist()) == list(range(8))
            assert vectors[clip, time, :, 0].tolist() == [2 * time + 1] * 8  # the later of the two nearest fields
            assert vectors[clip, time, :, 1].tolist() == [10 * (n // 4) + n % 4 for n in numbers.tolist()]
    assert draw_cells(grid, flow, 3)[0].shape == (2, 3, 3, 1)


# --- learning, and the control -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [True, False])
def test_the_flow_of_a_clip_is_found_where_it_can_be_known(linked):
    def make(rows, seed):
        return moving_kinds(rows, seed, linked=linked)

    encoders = towers()
    objective = build("rgb_flow", encoders, views=FlowViews(frames=2, flows=2), **STILL)
    train(objective, encoders, make, steps=60, lr=1e-2)
    judged = objective.eval().judge(make(128, 999), EncoderBank(encoders))
    metrics = measure(objective, encoders, make)
    accuracy = judged["accuracy"].values.mean().item()
    assert judged["accuracy"].chance == 0.5
    assert judged["recall@1"].chance == pytest.approx(1 / 128)
    if linked:  # one of eight kinds: all that can be known is the kind
        assert accuracy > 0.85
        assert metrics["accuracy"] > 5 * metrics["accuracy/chance"]
    else:
        assert 0.4 < accuracy < 0.6
        assert metrics["accuracy"] < 2.5 * metrics["accuracy/chance"]


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.9, 1.0), (False, 0.42, 0.58)])
def test_cells_that_move_alike_are_embedded_alike_where_the_picture_tells(linked, low, high):
    def make(rows, seed):
        return moving_parts(rows, seed, linked=linked)

    encoders = towers()
    objective = build("rgb_flow", encoders, form="pixel", views=FlowViews(frames=2, flows=2), **STILL)
    train(objective, encoders, make, steps=60, lr=1e-2)
    metrics = measure(objective, encoders, make)
    assert low <= metrics["accuracy"] <= high
    judged = objective.judge(make(64, 999), EncoderBank(encoders))
    assert low <= judged["accuracy"].values.mean().item() <= high
    assert judged["accuracy"].chance == pytest.approx(0.5, abs=0.08)  # what a stranger's picture tells: nothing here
    assert metrics["accuracy/chance"] == 0.5
    gain = judged["gain"].values.mean().item()
    assert judged["gain"].chance == 0.0
    assert gain > 0.35 if linked else abs(gain) < 0.1
    alone = {**make(4, 5), "source": torch.zeros(4, dtype=torch.int64)}
    assert list(objective.judge(alone, EncoderBank(encoders))) == ["accuracy"]


def test_what_any_picture_tells_is_no_gain():
    """Halves that move apart in every film: their place tells, and a stranger's picture has the same places."""

    class Places(torch.nn.Module):
        def forward(self, x, valid=None):
            rows = torch.linspace(0, 1, 4).view(1, 1, 4, 1).expand(*x.shape[:2], 4, 4)
            grid = torch.stack([(rows < 0.5).float(), (rows >= 0.5).float()], dim=-1)
            return Features(grid.mean(dim=(1, 2, 3)), grid)

    encoders = towers()
    objective = build("rgb_flow", encoders, form="pixel", views=FlowViews(frames=2, flows=2), **STILL).eval()
    objective.video_head = torch.nn.Identity()
    batch = moving_parts(16, 3)
    batch["flow"] = torch.zeros_like(batch["flow"])
    batch["flow"][..., : batch["flow"].shape[-2] // 2, :] = 4.0
    judged = objective.judge(batch, EncoderBank({**encoders, "video": Places()}))
    assert judged["accuracy"].values.mean().item() == pytest.approx(1.0)
    assert judged["gain"].values.mean().item() == pytest.approx(0.0)


@pytest.mark.parametrize("form", ["instance", "pixel"])
def test_constant_pictures_score_chance(form):
    encoders = towers(constant=True)
    objective = build("rgb_flow", encoders, form=form, **STILL).eval()
    make = moving_kinds if form == "instance" else moving_parts
    batch = make(9, 0)
    if form == "instance":
        batch["flow"] *= 0
    assert objective.judge(batch, EncoderBank(encoders))["accuracy"].values.mean() == pytest.approx(0.5, abs=1e-6)
    metrics = objective(batch, EncoderBank(encoders)).metrics
    assert metrics["accuracy"].item() == pytest.approx(metrics["accuracy/chance"].item(), abs=1e-6)


def test_frozen_clips_give_the_pixel_form_nothing_to_learn_and_no_nan():
    encoders = towers()
    objective = build("rgb_flow", encoders, form="pixel", **STILL)
    batch = moving_parts(4, 0)
    batch["flow"] *= 0
    loss = objective(batch, EncoderBank(encoders))
    loss.value.backward()
    assert loss.value == 0.0 and loss.metrics["share/moving"] == 0.0
    assert loss.metrics["accuracy"] == 0.5
    assert all(p.grad is not None and not p.grad.any() for p in objective.parameters())


def test_rows_of_one_source_are_no_rivals():
    encoders = towers()
    objective = build("rgb_flow", encoders, **STILL).eval()
    batch = moving_kinds(6, 0) | {"source": torch.tensor([1, 2, 2, 2, 3, 4])}

    def changed(picture: int, flow: int) -> float:
        """The mixed second difference: zero where the pair is not in the loss."""

        def loss(a: bool, b: bool) -> float:
            video, field = batch["video"].clone(), batch["flow"].clone()
            if a:
                video[picture] = 255 - video[picture]
            if b:
                field[flow] = -field[flow]
            with torch.no_grad():
                return float(objective.double()(double({**batch, "video": video, "flow": field}), EncoderBank(doubled)).value)

        doubled = {role: encoder.double() for role, encoder in encoders.items()}
        return abs(loss(True, True) - loss(True, False) - loss(False, True) + loss(False, False))

    assert changed(1, 2) < 1e-12 and changed(3, 1) < 1e-12
    assert changed(1, 4) > 1e-9 and changed(0, 3) > 1e-9
    same = {**moving_kinds(4, 0), "source": torch.full((4,), 5)}
    objective, encoders = objective.float(), {role: encoder.float() for role, encoder in encoders.items()}
    assert objective.judge(same, EncoderBank(encoders))["accuracy"].values.tolist() == [0.5] * 4


# --- views -----------------------------------------------------------------------------------------------------------------


def views(**arguments) -> FlowViews:
    return FlowViews(**arguments).resolve(InputSpec(size=32, frames=1), InputSpec(size=16, frames=4, fps=10.0))


def test_pictures_and_flow_share_window_and_crop():
    plan = views(frames=4).plan(source(), np.random.default_rng(0))
    frames, flow = plan.requests["video"], plan.requests["flow"]
    assert isinstance(frames, Frames) and isinstance(flow, Flow)
    assert frames.times == pytest.approx(flow.times)
    assert np.diff(flow.times) == pytest.approx(0.1) and flow.step == pytest.approx(0.1)
    assert frames.box == flow.box and (frames.size, flow.size) == (32, 16)
    one = views().plan(source(), np.random.default_rng(0)).requests
    assert one["video"].times[0] == pytest.approx(np.mean(one["flow"].times))  # one picture: the middle of the window


def test_every_picture_that_is_needed_lies_in_the_film():
    for step in (0.05, 0.1, 0.4):
        cut = views(step=step)
        for length in (1.0, 1.7):
            film = source(seconds=2.0)
            film = type(film)("x", film.path, 25.0, 64, 48, Span(0.3, 0.3 + length), None, (), (), (9.0,) * 8)
            if cut.reject(film) is not None:
                continue
            for seed in range(40):
                flow = cut.plan(film, np.random.default_rng(seed)).requests["flow"]
                assert min(flow.times) >= 0.3 and max(flow.times) + step <= 0.3 + length + 1e-9


def test_windows_are_drawn_where_something_moves():
    film = source(seconds=12.0)
    motion = tuple(8.0 if 4.0 <= hop * MOTION_HOP < 7.0 else 0.0 for hop in range(48))
    film = type(film)("x", film.path, 25.0, 320, 240, film.video, None, (), (), motion)
    cut = views(min_motion=7.9)
    assert cut.reject(film) is None
    starts = [min(cut.plan(film, np.random.default_rng(seed)).requests["flow"].times) for seed in range(200)]
    assert min(starts) > 3.7 and max(starts) < 7.0
    assert max(starts) - min(starts) > 1.5  # all over the lively stretch
    assert cut.reject(type(film)("x", film.path, 25.0, 320, 240, film.video, None, (), (), (0.1,) * 48)) == "still"
    unknown = type(film)("x", film.path, 25.0, 320, 240, film.video)
    starts = [min(cut.plan(unknown, np.random.default_rng(seed)).requests["flow"].times) for seed in range(200)]
    assert max(starts) - min(starts) > 9.0


def test_what_cannot_be_cut_is_rejected_with_a_reason():
    film = source()
    assert views().needs_motion
    assert views().reject(type(film)("x", film.path)) == "no picture"
    assert views().reject(source(seconds=0.3)) == "shorter than 0.45 s"
    slow = type(film)("x", film.path, 5.0, 320, 240, film.video, None, (), (), film.motion)
    assert views().reject(slow) == "fewer than 10 pictures a second"
    assert views(step=0.2).reject(slow) is None
    unsized = type(film)("x", film.path, 25.0, 0, 0, film.video, None, (), (), film.motion)
    assert views(region=(0.0, 0.1, 1.0, 0.8)).reject(unsized) == "size unknown, so views.region cannot be cut"
    exact = type(film)("x", film.path, 25.0, 320, 240, Span(0.0, 0.45))
    assert views().reject(exact) is None and views().plan(exact, np.random.default_rng(0)).requests["flow"].times[0] < 0.11


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"sigma": -1.0}, "sigma -1.0"),
        ({"cells": 2}, "cells at least 3"),
        ({"frame_augment": FrameAugment(flip=0.5)}, "set flip to 0"),
        ({"form": "pixel", "frame_augment": FrameAugment(flip=0.0, crop=0.5)}, "crop to 1"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        build("rgb_flow", towers(), **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"crop": (0.9, 0.5)}, "views.crop"), ({"region": (0.5, 0, 0.6, 1)}, "region"), ({"flows": 0}, "views.flows is 0")],
)
def test_bad_views_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        FlowViews(**arguments)
    with pytest.raises(InputError, match="still has a None"):
        FlowViews().plan(source(), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"views\.flow_size must say"):
        FlowViews().resolve(InputSpec(size=32), InputSpec())
