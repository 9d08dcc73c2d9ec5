from __future__ import annotations

import pytest
import torch

from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.l3 import next_of_another_source
from tests.tiny_av import PLAIN, build, measure, scenes, tiny_encoders, train


def test_next_of_another_source_skips_repeats_and_says_where_there_is_none():
    source = torch.tensor([1, 1, 2, 3, 1])
    partner, alone = next_of_another_source(source)
    assert partner.tolist() == [2, 2, 3, 4, 2]
    assert not alone.any()
    assert next_of_another_source(torch.tensor([4, 4]))[1].all()


def test_loss_matches_the_loop_over_fused_pairs():
    encoders = tiny_encoders(double=True)
    objective = build("l3", encoders, hidden=7).double().eval()
    batch = scenes(6, 1)
    batch |= {
        "video": batch["video"].double() / 255,
        "audio": batch["audio"].double(),
        "source": torch.tensor([1, 1, 2, 3, 4, 5]),
    }
    loss = objective(batch, EncoderBank(encoders))
    pictures, sounds = encoders["video"](batch["video"]).pooled, encoders["audio"](batch["audio"]).pooled
    fc1 = torch.cat([objective.from_video.weight, objective.from_audio.weight], dim=1)
    total = torch.zeros((), dtype=torch.float64)
    for i, j in enumerate([2, 2, 3, 4, 5, 0]):
        for sound, label in ((sounds[i], 1), (sounds[j], 0)):
            fused = torch.relu(fc1 @ torch.cat([pictures[i], sound]) + objective.from_video.bias)
            shares = torch.softmax(objective.classify.weight @ fused + objective.classify.bias, dim=0)
            total = total - torch.log(shares[label])
    torch.testing.assert_close(loss.value, total / 12)
    parameters = [*objective.parameters(), *encoders["video"].parameters(), *encoders["audio"].parameters()]
    wanted = torch.autograd.grad(total / 12, parameters)
    for got, want in zip(torch.autograd.grad(loss.value, parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_correspondence_is_the_logit_that_training_uses():
    encoders = tiny_encoders()
    objective = build("l3", encoders, **PLAIN).eval()
    batch = scenes(5, 1)
    with torch.no_grad():
        scores = objective.correspondence(encoders["video"](batch["video"]), encoders["audio"](batch["audio"]))
        rolled = scores[torch.arange(5), (torch.arange(5) + 1) % 5]
        expected = (torch.nn.functional.softplus(-scores.diagonal()) + torch.nn.functional.softplus(rolled)).mean() / 2
        torch.testing.assert_close(objective(batch, EncoderBank(encoders)).value, expected)


def test_rows_without_another_source_are_left_out_and_counted():
    encoders = tiny_encoders()
    objective = build("l3", encoders, **PLAIN).eval()
    loss = objective(scenes(4, 1) | {"source": torch.full((4,), 3)}, EncoderBank(encoders))
    assert loss.value.item() == 0.0
    assert loss.metrics["rows/without_negative"].item() == 4
    assert loss.metrics["accuracy"].item() == 0.5


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.85, 1.0), (False, 0.42, 0.58)])
def test_a_planted_link_is_learnt_and_a_cut_one_is_not(linked, low, high):
    encoders = tiny_encoders()
    objective = build("l3", encoders, **PLAIN)

    def make(rows: int, seed: int):
        return scenes(rows, seed, linked=linked)

    train(objective, encoders, make, steps=80, lr=1e-2)
    accuracy = measure(objective, encoders, make, batches=8)["accuracy"]
    assert low <= accuracy <= high
