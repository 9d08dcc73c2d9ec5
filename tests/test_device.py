"""That nothing mixes host and device or waits for the device, on machines without one (`tests/pretend_cuda.py`)."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from mmssl.downstream.propagate import Propagation, propagate
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment, WaveAugment
from mmssl.objectives.base import EmbedsCells, Judges, Localizes, Retrieves, Tracks, objective_class
from mmssl.training.ema import Ema
from mmssl.training.muon import MuonAdamW
from mmssl.training.nonfinite import NonFinite
from mmssl.training.optim import clip_gradients, gradient_norm, make_optimizer, parameter_groups, set_lr, step_where
from mmssl.training.parallel import join_ranks
from tests.fakes import SAMPLES, SIDE, FakeEncoder, FakeNce, FakeRegression
from tests.pretend_cuda import pretend_cuda
from tests.test_encoders import ALL, build, inputs
from tests.test_objectives import NAMES, each, make, planned_batch

NEEDS = {("avts", "centre"): {"bins": 4}}  # what an option does not go without
STRONG: dict[str, Any] = {"crop": 0.5, "blur": 0.5, "drop_channel": 0.5, "grey": 0.5}
LOUD: dict[str, Any] = {"polarity": 0.5, "noise": 0.5, "roll": 10, "low_pass": 0.5, "high_pass": 0.5}


def elsewhere(tensors: Any) -> set[str]:
    """Names of tensors that are not on the device."""
    return {key for key, value in dict(tensors).items() if value.device.type != "cuda"}


def variants() -> list[object]:
    """(objective, {option: value}) for every choice and switch in the objectives' arguments that is not the default."""
    found: list[object] = []
    for name in NAMES:
        cls = objective_class(name)
        hints, given = typing.get_type_hints(cls.__init__), inspect.signature(cls).parameters
        for key, hint in hints.items():
            values = [True, False] if hint is bool else list(get_args(hint)) if get_origin(hint) is Literal else []
            values += [8] if key == "queue" else []
            for value in values:
                if key in given and value != given[key].default:
                    found.append(pytest.param(name, {key: value, **NEEDS.get((name, key), {})}, id=f"{name}-{key}-{value}"))
    return found


def test_the_device_that_is_not_there_tells_faults():
    with pretend_cuda() as cuda:
        x, host = cuda.tensor(torch.ones(3)), torch.ones(3)
        assert (x + 1).device.type == (x * torch.tensor(2.0)).device.type == host.to("cuda").device.type == "cuda"
        assert torch.arange(3, device=x.device).device.type == "cuda"
        assert (host + 1).tolist() == [2.0, 2.0, 2.0]
        with torch.autocast("cuda", torch.bfloat16):
            assert (x[None] @ x[:, None]).dtype == torch.bfloat16
        with pytest.raises(Exception, match="device"):
            torch.add(x, host)
        for wait in (x.sum().item, lambda: bool(x.any()), x.nonzero):
            with pytest.raises(Exception, match=r"aten\."):
                wait()


def stays_on_the_device(name: str, training: bool = True, **arguments: Any) -> None:
    objective, encoders = make(name, **arguments)
    batch = planned_batch(objective)
    objective.train(training)
    objective.fit(iter([batch]))
    with pretend_cuda() as cuda:
        for module in (objective, *encoders.values()):
            cuda.module(module)
        with torch.autocast("cuda", torch.bfloat16):
            loss = objective(cuda.batch(batch), EncoderBank(encoders))
        objective.after_step(loss.carry, 0)
        assert loss.value.device.type == "cuda"
        assert loss.value.dtype == torch.float32
        assert elsewhere({**loss.metrics, **loss.carry, **objective.state_dict()}) == set()


@each
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_an_objective_stays_on_the_device_and_never_waits_for_it(name, training):
    stays_on_the_device(name, training)


@pytest.mark.parametrize(("name", "arguments"), variants())
def test_so_does_every_form_of_it(name, arguments):
    stays_on_the_device(name, **arguments)


@each
def test_what_is_judged_and_used_downstream_comes_from_the_device(name):
    objective, encoders = make(name)
    batch = planned_batch(objective)
    objective.eval()
    objective.fit(iter([batch]))
    with pretend_cuda(waits=True) as cuda, torch.no_grad():
        for module in (objective, *encoders.values()):
            cuda.module(module)
        there, found = cuda.batch(batch), {}
        if isinstance(objective, Judges) and name != "subtitle_alignment":  # whose judge takes a gradient
            judged = objective.judge(there, EncoderBank(encoders))
            found |= {f"judge {key}": entry.values for key, entry in judged.items()}
        if isinstance(objective, Retrieves):
            found |= {f"joint {key}": value for key, value in objective.joint(there, EncoderBank(encoders)).items()}
        if isinstance(objective, Tracks):
            found["picture"] = objective.picture(there["video"])
        if isinstance(objective, Localizes) and name != "avts":  # whose bins are no maps
            video, audio = encoders["video"](there["video"]), encoders["audio"](there["audio"])
            found |= {"map": objective.similarity_map(video, audio), "scores": objective.correspondence(video, audio)}
            if isinstance(objective, EmbedsCells) and (cells := objective.embed_cells(video)) is not None:
                found["cells"] = cells
        assert elsewhere(found) == set()


@pytest.mark.parametrize(("name", "size"), ALL)
def test_an_encoder_stays_on_the_device(name, size):
    encoder = build(name, size).train()
    x = inputs(encoder)
    with pretend_cuda() as cuda:
        features = cuda.module(encoder)(cuda.tensor(x))
        assert elsewhere({"pooled": features.pooled, "grid": features.grid}) == set()


@pytest.mark.parametrize("mode", ["fused", "exact"])
def test_augmentation_stays_on_the_device(mode):
    with pretend_cuda() as cuda:
        pictures = cuda.tensor(torch.zeros(3, 2, 3, 16, 16, dtype=torch.uint8))
        changed = FrameAugment(mode=mode, **STRONG)(pictures)
        assert (changed.device.type, changed.dtype, changed.shape) == ("cuda", torch.uint8, pictures.shape)
        assert WaveAugment(**LOUD)(cuda.tensor(torch.zeros(3, 64))).device.type == "cuda"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_end_of_a_step_stays_on_the_device_and_never_waits_for_it(kind):
    encoders = {"video": FakeEncoder(inputs=3 * SIDE * SIDE), "audio": FakeEncoder(inputs=SAMPLES)}
    objectives = {"nce": FakeNce(encoders=encoders), "line": FakeRegression(encoders=encoders)}
    model = torch.nn.ModuleDict({"encoders": torch.nn.ModuleDict(encoders), "objectives": torch.nn.ModuleDict(objectives)})
    ranks = join_ranks("none", "cpu")
    with pretend_cuda() as cuda, torch.no_grad():
        cuda.module(model)
        optimizer = make_optimizer(kind, parameter_groups(model, weight_decay=0.1, lr_scale={}), betas=(0.9, 0.95))
        assert isinstance(optimizer, MuonAdamW) == (kind == "muon")
        watch, average = NonFinite(as_pretraining(model), torch.device("cuda")), Ema(model)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        ok = norm = torch.zeros(())
        for _ in range(2):  # the second finds the optimizer's state there
            watch.hold()
            norm = gradient_norm(optimizer)
            ok = watch.judge(norm, [dict.fromkeys(objectives, norm)], ranks)
            clip_gradients(optimizer, norm, 1.0)
            set_lr(optimizer, 1e-3)
            step_where(optimizer, ok)
            watch.settle(ok)
            average.follow(0.99)
        state = {f"{n} {key}": value for n, held in enumerate(optimizer.state.values()) for key, value in held.items()}
        assert elsewhere({**state, **average.average, "norm": norm, "ok": ok}) == set()


def as_pretraining(model: torch.nn.ModuleDict) -> Any:
    model.objectives = model["objectives"]  # the one name of `Pretraining` that is asked for
    return model


def test_labels_are_carried_on_the_device():
    with pretend_cuda() as cuda:
        frames = [cuda.tensor(torch.randn(12, 10, 4)) for _ in range(4)]
        for settings in (Propagation(context=2, radius=3.0), Propagation(context=2, radius=3.0, whole_first=True)):
            found = list(propagate(frames, torch.rand(2, 12, 10).to("cuda"), settings))
            assert [labels.device.type for labels in found] == ["cuda"] * 4
            assert found[-1].shape == (2, 12, 10)
