from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmssl.cuts.pairs import PairViews
from mmssl.encoders.bank import EncoderBank
from mmssl.types import InputError
from tests.tiny_av import PLAIN, build, measure, scenes, tiny_encoders, train


def as_double(batch):
    return {
        key: value.double() / 255 if key == "video" else value.double() if key.startswith("audio") else value
        for key, value in batch.items()
    }


def naive_loss(objective, encoders, batch) -> torch.Tensor:
    video = encoders["video"](batch["video"])
    sounds = F.normalize(objective.audio_head.layers(encoders["audio"](batch["audio"]).pooled), dim=1)
    pictures = F.normalize(objective.video_head.layers(video.pooled), dim=1)
    cells = F.normalize(objective.video_head.layers(video.grid), dim=-1).flatten(1, 3)
    n, source = len(sounds), batch["source"]
    scale, threshold = objective.calibration.log_scale.exp(), objective.calibration.threshold

    def chance_of_pair(i: int, sound: torch.Tensor) -> torch.Tensor:
        if objective.form == "avol":
            return torch.sigmoid(scale * (torch.stack([cell @ sound for cell in cells[i]]).max() - threshold))
        return torch.sigmoid(scale * (-torch.sqrt((pictures[i] - sound).square().sum() + 1e-6) - threshold))

    losses = []
    for i in range(n):
        ahead = [(i + s) % n for s in range(1, n) if source[(i + s) % n] != source[i]]
        if not ahead:
            continue
        chosen = ahead[: objective.negatives]
        wrong = torch.stack([-torch.log(1 - chance_of_pair(i, sounds[j])) for j in chosen]).mean()
        if objective.hard:
            apart = F.normalize(objective.audio_head.layers(encoders["audio"](batch["audio_apart"]).pooled), dim=1)
            wrong = (1 - objective.hard) * wrong - objective.hard * torch.log(1 - chance_of_pair(i, apart[i]))
        losses.append((wrong - torch.log(chance_of_pair(i, sounds[i]))) / 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("form", ["avenet", "avol"])
@pytest.mark.parametrize("negatives", [None, 1, 2])
@pytest.mark.parametrize("hard", [0.0, 0.4])
def test_loss_and_gradients_match_the_double_loop(form, negatives, hard):
    encoders = tiny_encoders(double=True)
    views = PairViews(apart=0.5 if hard else 0.0)
    objective = build("avenet", encoders, form=form, negatives=negatives, hard=hard, views=views, dim=8).double().eval()
    batch = as_double(scenes(6, 1, frames=2) | {"audio_apart": scenes(6, 2)["audio"]}) | {
        "source": torch.tensor([4, 5, 5, 5, 7, 8])
    }
    loss = objective(batch, EncoderBank(encoders))
    value = naive_loss(objective, encoders, batch)
    torch.testing.assert_close(loss.value, value.squeeze())
    parameters = [*objective.parameters(), *encoders["video"].parameters(), *encoders["audio"].parameters()]
    wanted = torch.autograd.grad(value, parameters)
    for got, want in zip(torch.autograd.grad(loss.value, parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("form", ["avenet", "avol"])
def test_the_start_is_not_dead(form):
    """Unrelated unit vectors: moderate logits, positives pulled, negatives pushed, a gradient in all parts from the first step."""
    encoders = tiny_encoders()
    objective = build("avenet", encoders, form=form, **PLAIN)
    loss = objective(scenes(32, 1), EncoderBank(encoders))
    assert 0.3 < loss.value.item() < 3.0
    loss.value.backward()
    for parameter in [*objective.parameters(), *encoders["video"].parameters(), *encoders["audio"].parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.norm() > 1e-4
    cosine = torch.tensor([0.0, 0.999])
    score = -(2 - 2 * cosine).sqrt() if form == "avenet" else cosine
    far, near = objective.calibration(score).tolist()
    assert far < 0 < near
    for logit in (far, near):  # neither end is saturated
        assert 0.001 < 1 / (1 + math.exp(-logit)) < 0.9999


def test_all_sounds_equal_to_all_pictures_still_has_a_way_out():
    """The first steps of a real network: every embedding is nearly the same. The gradient must push pairs apart."""
    objective = build("avenet", tiny_encoders(), **PLAIN)
    close = torch.tensor([0.3], requires_grad=True)  # distance
    F.softplus(objective.calibration(-close)).sum().backward()
    assert close.grad is not None
    assert close.grad.item() < -1.0


def test_rows_without_another_source_are_left_out_and_counted():
    encoders = tiny_encoders()
    objective = build("avenet", encoders, **PLAIN).eval()
    batch = scenes(5, 1)
    loss = objective(batch | {"source": torch.full((5,), 3)}, EncoderBank(encoders))
    assert loss.value.item() == 0.0
    assert loss.metrics["rows/without_negative"].item() == 5
    assert loss.metrics["accuracy"].item() <= 0.75


@pytest.mark.parametrize("form", ["avenet", "avol"])
@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.85, 1.0), (False, 0.44, 0.56)])
def test_a_planted_link_is_learnt_and_a_cut_one_is_not(form, linked, low, high):
    """Other rows of the same kind are no true negatives: of 8 kinds, the best possible accuracy is 0.94."""
    encoders = tiny_encoders()
    objective = build("avenet", encoders, form=form, **PLAIN)

    def make(rows: int, seed: int):
        return scenes(rows, seed, linked=linked)

    train(objective, encoders, make, steps=120, lr=1e-2)
    accuracy = measure(objective, encoders, make)["accuracy"]
    assert low <= accuracy <= high
    if linked and form == "avol":  # localization comes from the maximum alone
        batch = scenes(64, 901)
        with torch.no_grad():
            maps = objective.similarity_map(encoders["video"](batch["video"]), encoders["audio"](batch["audio"]))
        assert (maps.flatten(1).argmax(dim=1) == batch["cell"]).float().mean() > 0.8  # chance is 1 / 16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"hard": 0.5}, "hard is 0.5 and views.apart is 0.0"),
        ({"views": PairViews(apart=1.0)}, "hard is 0.0 and views.apart is 1.0"),
        ({"hard": 1.0, "views": PairViews(apart=1.0)}, "hard is 1.0"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        build("avenet", tiny_encoders(), **arguments)
