"""Several objectives at once: weights of losses learnt from uncertainty, and figures of how their gradients agree."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from mmssl.config import resolve
from mmssl.rng import seed_step
from mmssl.training.checkpoint import EMA, MODEL, OPTIMIZER, checkpoints, read_tensors
from mmssl.training.conflict import gradient_figures
from mmssl.training.log import read_metrics
from mmssl.training.optim import parameter_groups
from mmssl.training.parallel import Ranks
from mmssl.training.settings import TrainConfig
from mmssl.types import InputError, Loss
from tests.fakes import FakeLoader, fake_model, fake_trainer
from tests.test_trainer import Crash, TroubledLoader, fingerprint

ALONE = Ranks(0, 1, torch.device("cpu"))


def test_the_sum_by_uncertainty_matches_plain_numbers() -> None:
    model = fake_model(dropout=0.0, weighting="uncertainty")
    with torch.no_grad():
        model.log_variances["nce"].fill_(0.7)
        model.log_variances["regression"].fill_(-1.2)
    total, losses = model(FakeLoader().micro(0, 0))
    weights, s = {"nce": 1.0, "regression": 0.5}, {"nce": 0.7, "regression": -1.2}
    expected = 0.0
    for name, loss in losses.items():
        sigma2 = math.exp(s[name])
        expected += weights[name] * (loss.value.item() / sigma2 + math.log(math.sqrt(sigma2)))
        assert loss.metrics["weight"].item() == pytest.approx(weights[name] / sigma2)
        assert loss.metrics["log_variance"].item() == pytest.approx(s[name])
        assert model.factor(name).item() == pytest.approx(weights[name] / sigma2)
    assert total.item() == pytest.approx(expected, rel=1e-6)
    total.backward()
    for name, loss in losses.items():
        slope = weights[name] * (0.5 - loss.value.item() * math.exp(-s[name]))
        grad = model.log_variances[name].grad
        assert grad is not None and grad.shape == (1,) and grad.item() == pytest.approx(slope, rel=1e-5)


def test_at_first_the_weighted_sum_is_that_of_weights_by_hand() -> None:
    batch = FakeLoader().micro(0, 0)
    by_hand, learnt = (fake_model(dropout=0.0, weighting=kind)(batch)[0] for kind in ("fixed", "uncertainty"))
    assert torch.equal(by_hand, learnt)


def test_a_variance_settles_at_twice_its_loss() -> None:
    model = fake_model(weighting="uncertainty")
    s = model.log_variances["nce"]
    optimizer = torch.optim.SGD([s], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        model._weighted("nce", Loss(torch.tensor(0.05))).backward()
        optimizer.step()
    assert s.item() == pytest.approx(math.log(2 * 0.05), abs=1e-3)


def test_log_variances_do_not_decay_and_can_have_a_learning_rate_of_their_own() -> None:
    model = fake_model(weighting="uncertainty")
    groups = parameter_groups(model, weight_decay=0.1, lr_scale={"log_variances": 10.0})
    (found,) = [group for group in groups if "log_variances.nce" in group["names"]]
    assert found["weight_decay"] == 0.0 and found["lr_factor"] == 10.0 and not found["muon"]
    assert all(parameter.shape == (1,) for parameter in model.log_variances.values())
    assert not fake_model().log_variances


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_goes_on_with_the_same_weights_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    options = {"weighting": "uncertainty", "gradients_every": 3, "accumulate": 2, "optimizer": optimizer}
    fake_trainer(tmp_path / "whole", **options).fit()
    with pytest.raises(Crash):
        fake_trainer(tmp_path / "cut", **options, loader=TroubledLoader(accumulate=2, at=8)).fit()
    fake_trainer(tmp_path / "cut", **options).fit(resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
    saved = read_tensors(checkpoints(tmp_path / "whole/ckpt")[-1] / MODEL)
    assert saved["log_variances.nce"].item() != 0.0
    lines = read_metrics(tmp_path / "whole/metrics.jsonl")
    assert lines[0]["nce/weight"] != lines[2]["nce/weight"]
    assert {"regression/log_variance", "eval/nce/weight"} <= {key for line in lines for key in line}


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gradient_figures_leave_no_trace_in_training(tmp_path: Path, norm: str) -> None:
    """Dropout, accumulation, averages, a queue, a teacher, batch statistics: all as without."""
    for every in (0, 1, 5):
        trainer = fake_trainer(tmp_path / str(every), accumulate=2, gradients_every=every, model=fake_model(norm=norm))
        trainer.fit()
    for every in (1, 5):
        for file in (MODEL, EMA, OPTIMIZER):
            newest = [checkpoints(tmp_path / str(n) / "ckpt")[-1] / file for n in (0, every)]
            assert newest[0].read_bytes() == newest[1].read_bytes(), file
    plain, often = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("0", "1"))
    for one, two in zip(plain, often, strict=True):
        assert {k: v for k, v in two.items() if "gradient" not in k and "speed" not in k} == {
            k: v for k, v in one.items() if "speed" not in k
        }
    seldom = read_metrics(tmp_path / "5/metrics.jsonl")  # steps 5 and 10, lines at 4, 8, 12
    assert ["nce/gradient/video" in line for line in seldom[:3]] == [False, True, True]


def test_gradient_figures_match_a_model_with_one_objective_each() -> None:
    batch = FakeLoader().micro(0, 0)
    model = fake_model(weighting="uncertainty")
    with torch.no_grad():
        model.log_variances["nce"].fill_(0.7)
    seed_step(0, 0, 0, 0)
    total, losses = model(batch)
    figures = gradient_figures(model, losses, ALONE)
    assert all(parameter.grad is None for parameter in model.parameters())
    factor = {"nce": math.exp(-0.7), "regression": 0.5}
    vectors = {}
    for name in losses:
        alone = copy.deepcopy(model)
        seed_step(0, 0, 0, 0)
        alone(batch)[1][name].value.backward()
        for role, encoder in alone.encoders.items():
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in encoder.parameters()]
            vectors[name, role] = [value for grad in grads for value in grad.flatten().tolist()]
    norm = {key: math.sqrt(sum(v * v for v in vector)) for key, vector in vectors.items()}
    assert norm["regression", "audio"] == 0.0
    expected = {f"{name}/gradient/{role}": factor[name] * norm[name, role] for name, role in norm if norm[name, role]}
    one, other = vectors["nce", "video"], vectors["regression", "video"]
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    expected["gradient_cosine/video/nce~regression"] = dot / norm["nce", "video"] / norm["regression", "video"]
    assert {key: value.item() for key, value in figures.items()} == pytest.approx(expected, rel=1e-4)
    total.backward()  # the graph is still there


def test_gradients_that_oppose_each_other_show_a_cosine_below_zero() -> None:
    model = fake_model(dropout=0.0)
    losses = model(FakeLoader().micro(0, 0))[1]
    figures = gradient_figures(model, {"nce": losses["nce"], "regression": Loss(-2 * losses["nce"].value)}, ALONE)
    assert figures["gradient_cosine/video/nce~regression"].item() == pytest.approx(-1.0, abs=1e-5)
    assert figures["gradient_cosine/audio/nce~regression"].item() == pytest.approx(-1.0, abs=1e-5)
    silent = gradient_figures(model, {"nce": losses["nce"], "regression": Loss(0 * losses["nce"].value)}, ALONE)
    assert silent["gradient_cosine/video/nce~regression"].item() == 0.0


def test_what_cannot_be_measured_is_refused_with_the_next_move() -> None:
    with pytest.raises(InputError, match=r"gradients_every is 10.*parallel=fsdp shards.*take ddp"):
        TrainConfig(steps=1, gradients_every=10, parallel="fsdp")
    with pytest.raises(InputError, match=r"gradients_every is 10.*train\.compile"):
        TrainConfig(steps=1, gradients_every=10, compile=True)


def test_the_config_knows_both_options() -> None:
    raw = {
        "encoders": {"video": {"name": "frame_resnet", "size": "tiny"}, "audio": {"name": "audio_cnn", "size": "tiny"}},
        "streams": [{"data": "x", "objectives": [{"name": "l3"}, {"name": "avenet"}]}],
        "train": {"steps": 3, "weighting": "uncertainty", "gradients_every": 2},
    }
    train = resolve(raw).train
    assert (train.weighting, train.gradients_every) == ("uncertainty", 2)
    for key, value, says in (("weighting", "magic", "train.weighting"), ("gradients_every", -1, "must be at least 0, got -1")):
        with pytest.raises(InputError, match=says):
            resolve(json.loads(json.dumps(raw)) | {"train": {"steps": 3, key: value}})
