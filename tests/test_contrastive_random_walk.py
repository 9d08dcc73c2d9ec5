from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.frame_resnet import FrameResNet
from mmssl.nn.augment import FrameAugment
from mmssl.objectives.base import Tracks, objective_class
from mmssl.objectives.contrastive_random_walk import cut_patches, jittered, palindromes
from mmssl.types import InputError
from tests.moving_cells import CELLS, faint
from tests.tiny_av import build, measure, tiny_for, train

PLAIN = {"frame_augment": FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0)}


def make(**arguments):
    encoders = tiny_for(objective_class("contrastive_random_walk"))
    return build("contrastive_random_walk", encoders, **PLAIN, **arguments), encoders


# The loss ----------------------------------------------------------------------------------------------------------------


def naive_loss(objective, encoders, video) -> torch.Tensor:
    """The chance of each walk, path by path."""
    grid = encoders["video"](video).grid.flatten(2, 3)
    losses = []
    for clip in objective.head.layers(grid):
        nodes = [F.normalize(frame, dim=1) for frame in clip]
        frames, count = len(nodes), len(nodes[0])

        def step(start, end, nodes=nodes):
            return (nodes[start] @ nodes[end].T / objective.temperature).softmax(dim=1)

        for length in range(1, frames):
            ways = [step(t, t + 1) for t in range(length)] + [step(t + 1, t) for t in reversed(range(length))]
            chances = [torch.eye(count, dtype=torch.float64)[i] for i in range(count)]
            for start in range(count):
                here = chances[start]
                for way in ways:
                    here = torch.stack([sum(here[i] * way[i, j] for i in range(count)) for j in range(count)])
                losses.append((length, -torch.log(here[start] + 1e-20)))
    frames = video.shape[1]
    by_length = [torch.stack([loss for length, loss in losses if length == k]).mean() for k in range(1, frames)]
    return torch.stack(by_length).mean()


def test_loss_and_gradients_match_the_paths():
    objective, encoders = make(form="grid", temperature=0.3)
    objective = objective.double().eval()
    encoders["video"].double()
    video = faint(2, 1)["video"].double()[:, :, :, :8, :8] / 255
    loss = objective({"video": video}, EncoderBank(encoders)).value
    wanted = naive_loss(objective, encoders, video)
    torch.testing.assert_close(loss, wanted)
    parameters = [*objective.parameters(), *encoders["video"].parameters()]
    for got, want in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(got, want)


def test_palindromes_go_out_and_come_back_in_order():
    forth, back = [torch.rand(2, 3, 3) for _ in range(2)], [torch.rand(2, 3, 3) for _ in range(2)]
    short, long = palindromes(forth, back)
    torch.testing.assert_close(short, forth[0] @ back[0])
    torch.testing.assert_close(long, forth[0] @ forth[1] @ back[1] @ back[0])


def test_equal_nodes_score_as_uninformed():
    objective, encoders = make(form="grid")
    torch.nn.init.zeros_(objective.head.layers[0].weight)
    torch.nn.init.ones_(objective.head.layers[0].bias)
    loss = objective.eval()(faint(3, 0), EncoderBank(encoders))
    assert loss.value.item() == pytest.approx(math.log(CELLS), rel=1e-4)
    assert loss.metrics["loss/uninformed"].item() == pytest.approx(math.log(CELLS))
    assert loss.metrics["accuracy"].item() == pytest.approx(1 / CELLS, abs=1e-4)
    assert loss.metrics["spread/video"] < 1e-3


# Shortcut defences -------------------------------------------------------------------------------------------------------


def test_edges_are_dropped_anew_for_each_step_and_way():
    objective, _ = make(form="grid", edge_dropout=0.3)
    nodes = F.normalize(torch.ones(4, 3, 16, 8), dim=-1)
    torch.manual_seed(0)
    kept = nodes.clone()
    forth, back = objective.train()._transitions(nodes)
    assert torch.equal(nodes, kept)
    dropped = [way == 0 for way in (*forth, *back)]
    for one in dropped:
        assert one.float().mean().item() == pytest.approx(0.3, abs=0.05)
    # In place, the way back would lack the very edges that the way out lacks.
    both = (dropped[0].transpose(1, 2) & dropped[2]).float().mean()
    assert both.item() == pytest.approx(0.09, abs=0.03)
    for way in (*forth, *back):
        torch.testing.assert_close(way.sum(2), torch.ones(4, 16))
    assert all((way > 0).all() for way in objective.eval()._transitions(nodes)[0])


def test_a_node_whose_every_edge_is_dropped_is_no_nan():
    objective, _ = make(form="grid", edge_dropout=0.999)
    forth, back = objective.train()._transitions(F.normalize(torch.randn(2, 3, 4, 8), dim=-1))
    assert all(torch.isfinite(way).all() for way in (*forth, *back))


def test_patches_overlap_by_half_and_lie_row_by_row():
    video = torch.arange(2 * 3 * 16 * 16).view(1, 2, 3, 16, 16)
    pieces = cut_patches(video, 4)
    assert pieces.shape == (1, 2, 49, 3, 4, 4)
    for row, column in ((0, 0), (2, 5), (6, 6)):
        assert torch.equal(pieces[:, :, row * 7 + column], video[:, :, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4])


def test_each_patch_is_jittered_by_itself():
    ramp = torch.linspace(0, 1, 32).expand(3, 32, 32)
    pieces = ramp.expand(2, 2, 9, 3, 32, 32)
    torch.manual_seed(0)
    moved = jittered(pieces, (0.7, 0.9))
    assert moved.shape == pieces.shape
    slope = moved[..., 0, 16, 20] - moved[..., 0, 16, 10]  # a box of area s shows sqrt(s) of the ramp
    assert (slope > 0.999 * 0.7**0.5 * 10 / 31).all() and (slope < 1.001 * 0.9**0.5 * 10 / 31).all()
    assert len(slope.flatten().unique()) == 36
    torch.testing.assert_close(jittered(pieces, (1.0, 1.0)), pieces, atol=1e-5, rtol=1e-5)
    assert torch.equal(cut_patches(pieces[:, :, 0], 32)[:, :, 0], pieces[:, :, 0])


def test_a_patch_encoded_alone_cannot_tell_its_place():
    """Equal patches have equal embeddings wherever they lie; in the grid of a zero-padded encoder they have not."""
    torch.manual_seed(0)
    flat = torch.full((1, 2, 3, 64, 64), 120, dtype=torch.uint8)
    spread_of = {}
    for form, padding in (("patches", "zeros"), ("grid", "zeros"), ("grid", "reflect")):
        encoders = {"video": FrameResNet(size="tiny", pixels=64, padding=padding, output_stride=4).eval()}
        objective = build("contrastive_random_walk", encoders, form=form).eval()
        with torch.no_grad():
            nodes = objective._nodes(flat, EncoderBank(encoders))[0, 0]
        spread_of[form, padding] = (nodes - nodes[len(nodes) // 2]).norm(dim=1).max().item()
    assert spread_of["patches", "zeros"] < 1e-4
    assert spread_of["grid", "reflect"] < 1e-4
    assert spread_of["grid", "zeros"] > 0.05


# Learning ----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def followed(objective, encoders, batch) -> float:
    """Share of things that the most probable step finds again."""
    objective.eval()
    nodes = objective._nodes(batch["video"], EncoderBank(encoders))
    step = objective._transitions(nodes)[0][0].argmax(dim=2)  # (n, P): cell of frame 0 -> cell of frame 1
    return (step.gather(1, batch["place"][:, 0]) == batch["place"][:, 1]).float().mean().item()


@pytest.mark.parametrize("linked", [True, False])
def test_things_are_followed_without_any_label(linked):
    def make_batch(rows, seed):
        return faint(rows, seed, linked=linked)

    objective, encoders = make(form="grid")
    before = followed(objective, encoders, make_batch(64, 900_000))
    train(objective, encoders, make_batch, steps=150, lr=1e-2)
    after = followed(objective, encoders, make_batch(64, 900_000))
    if linked:
        assert before < 0.5
        assert after > 0.9
        assert measure(objective, encoders, make_batch)["accuracy"] > 0.8
    else:
        assert after == pytest.approx(1 / CELLS, abs=0.04)


def test_patches_are_encoded_in_one_pass_and_judged_by_row():
    objective, encoders = make()
    objective.train()(faint(2, 1), EncoderBank(encoders)).value.backward()
    assert encoders["video"].calls == 1
    judged = objective.eval().judge(faint(4, 5), EncoderBank(encoders))
    assert judged["accuracy"].values.shape == (4, 49)
    assert judged["accuracy"].chance == pytest.approx(1 / 49)
    assert 0.0 <= judged["stay"].values.min() <= judged["stay"].values.max() <= 1.0


def test_training_runs_under_autocast():
    objective, encoders = make()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective.train()(faint(2, 1), EncoderBank(encoders))
    assert loss.value.dtype == torch.float32
    loss.value.backward()
    assert torch.isfinite(encoders["video"].conv.weight.grad).all()


# Options -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"patch": 3}, "patch is 3"),
        ({"patch": 12}, "patch is 12"),
        ({"jitter": (0.0, 0.5)}, "jitter is"),
        ({"edge_dropout": 1.0}, "edge_dropout is 1"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        make(**arguments)


def test_it_says_what_trackers_show_the_encoder():
    objective, _ = make()
    assert isinstance(objective, Tracks)
    frames = torch.randint(0, 256, (1, 2, 3, 16, 16), dtype=torch.uint8)
    assert objective.picture(frames).shape == frames.shape
