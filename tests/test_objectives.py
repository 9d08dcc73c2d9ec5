"""The contract that every objective in the folder keeps, checked on each without naming it.

Encoders are tiny ones of the modality that a role names first; batches are noise of the shapes that the objective's plans ask for.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import pickle  # noqa: TID251 - what the loader does with views on their way to workers
import re
import typing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.components import component_names
from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.base import Judges, Localizes, objective_class
from mmssl.types import LOUDNESS_HOP, Box, Cue, Flow, Frames, Source, Span, Text, Wave
from tests.tiny_av import SIZE, build, tiny_encoders, tiny_for, tiny_tokens

VENUE = re.compile(r"arXiv:\d{4}\.\d{4,5}|(?:CVPR|ICCV|ECCV|ACCV|NeurIPS|ICML|ICLR|AAAI|NAACL|ACL|ICMLA) \d{4}")
RESOLVED = ("frames", "seconds", "size", "rate", "length", "tokenizer")  # what the encoders fill in
NAMES = component_names("mmssl.objectives")
each = pytest.mark.parametrize("name", NAMES)
PAIRED = [name for name in NAMES if set(objective_class(name).roles) == {"video", "audio"}]  # picture and sound
each_pair = pytest.mark.parametrize("name", PAIRED)


def source(name: str = "a", seconds: float = 12.0) -> Source:
    """A film with sound that keeps moving, with a caption each second."""
    cues = tuple(Cue(float(i), i + 0.9, f"word{i} falls on the {i % 3} stone and stops") for i in range(int(seconds)))
    loud, moving = (-20.0,) * int(seconds / LOUDNESS_HOP), (5.0, 9.0, 7.0, 8.0) * int(seconds)
    span = Span(0.0, seconds)
    return Source(name, Path(f"{name}.mp4"), 25.0, 320, 240, span, span, cues, loud, moving)


def make(name: str, **arguments):
    """An objective with its tiny encoders."""
    encoders = tiny_for(objective_class(name))
    return build(name, encoders, **arguments), encoders


def planned_batch(objective, rows: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """A batch with the keys, shapes and dtypes that the objective's own plans ask for, filled with noise."""
    g = torch.Generator().manual_seed(seed)
    plans = [objective.views.plan(source(), np.random.default_rng([seed, i])) for i in range(rows)]
    batch: dict[str, Tensor] = {}
    for key, request in plans[0].requests.items():
        if isinstance(request, Frames):
            size = (request.size, request.size) if isinstance(request.size, int) else request.size
            batch[key] = torch.randint(0, 256, (rows, len(request.times), 3, *size), generator=g, dtype=torch.uint8)
        elif isinstance(request, Wave):
            batch[key] = torch.randn(rows, round(request.seconds * request.rate), generator=g)
        elif isinstance(request, Flow):
            size = (request.size, request.size) if isinstance(request.size, int) else request.size
            batch[key] = torch.randn(rows, len(request.times), 2, *size, generator=g).half()
        elif isinstance(request, Text):
            texts = [plan.requests[key].texts for plan in plans]
            batch[key] = torch.stack([tiny_tokens(each, request.length) for each in texts])
    for key in plans[0].labels:
        batch[key] = torch.tensor([plan.labels[key] for plan in plans])
    batch["source"] = torch.arange(rows)
    return batch


@each
def test_arguments_are_keywords_with_types_that_a_schema_can_read(name):
    cls = objective_class(name)
    hints = typing.get_type_hints(cls.__init__)
    for argument in list(inspect.signature(cls).parameters.values()):
        assert argument.kind is inspect.Parameter.KEYWORD_ONLY
        assert argument.name in hints
        assert (argument.default is inspect.Parameter.empty) == (argument.name == "encoders")
    assert VENUE.search(inspect.getmodule(cls).__doc__ or ""), "the module names its source"
    assert cls.roles and set(cls.roles) <= {"video", "audio", "flow", "text"}


@each
def test_views_are_resolved_pure_hashable_and_travel_to_workers(name):
    views = make(name)[0].views
    assert pickle.loads(pickle.dumps(views)) == views
    assert hash(pickle.loads(pickle.dumps(views))) == hash(views)
    assert getattr(views, "size", None) in (None, SIZE) or "video" not in objective_class(name).roles
    assert getattr(views, "rate", 64) == 64
    assert not any(getattr(views, field.name) is None for field in dataclasses.fields(views) if field.name in RESOLVED)
    plans = [views.plan(source(), np.random.default_rng(3)) for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0] != views.plan(source(), np.random.default_rng(4))
    for request in plans[0].requests.values():
        hash(request)
    bare = Source("b", Path("b.mp4"))
    assert views.reject(source()) is None
    assert isinstance(views.reject(bare), str)


@each
def test_forward_gives_a_finite_loss_gradients_everywhere_and_metrics_that_mean_something(name):
    objective, encoders = make(name)
    batch = planned_batch(objective)
    loss = objective(batch, EncoderBank(encoders))
    assert loss.value.shape == ()
    assert torch.isfinite(loss.value)
    loss.value.backward()
    for key, parameter in [*objective.named_parameters(), *((r, p) for r, e in encoders.items() for p in e.parameters())]:
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.ndim > 0, f"{key}: FSDP2 refuses scalars"
    assert {"accuracy", "loss/uninformed"} & set(loss.metrics), "a metric that says how far from knowing nothing this is"
    for key, value in loss.metrics.items():
        assert value.shape == (), key
        assert not value.requires_grad, key
        if key.startswith("accuracy") and not key.endswith("/chance"):
            assert 0.0 <= value <= 1.0
            assert 0.0 < loss.metrics[f"{key}/chance"] < 1.0
    for key, rows in loss.carry.items():
        assert len(rows) == 6, key
        assert not rows.requires_grad, key


@each
def test_forward_is_pure_and_state_is_persistent(name):
    objective, encoders = make(name)
    batch = planned_batch(objective)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    assert set(before) == {key for key, _ in [*objective.named_parameters(), *objective.named_buffers()]}
    kept = {key: value.clone() for key, value in batch.items()}
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        values.append(objective(batch, EncoderBank(encoders)).value)
    assert torch.equal(values[0], values[1])
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())
    assert all(torch.equal(batch[key], kept[key]) for key in kept)


@dataclass(frozen=True)
class Poison:
    """An augmentation that must not be called."""

    roll: int = 0
    flip: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        raise AssertionError("augmented in eval mode")


@each
def test_eval_mode_augments_nothing_and_train_mode_does(name):
    taken = [key for key in ("frame_augment", "wave_augment") if key in inspect.signature(objective_class(name)).parameters]
    if not taken:
        pytest.skip("augments nothing")
    objective, encoders = make(name, **{key: Poison() for key in taken})
    batch = planned_batch(objective)
    objective.eval()(batch, EncoderBank(encoders))
    with pytest.raises(AssertionError, match="augmented"):
        objective.train()(batch, EncoderBank(encoders))


@each
def test_bfloat16_autocast_is_finite_close_and_keeps_every_gradient(name):
    objective, encoders = make(name)
    objective.eval()
    batch = planned_batch(objective)
    exact = objective(batch, EncoderBank(encoders)).value
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(batch, EncoderBank(encoders))
    assert loss.value.dtype == torch.float32
    assert loss.value.item() == pytest.approx(exact.item(), rel=0.1)
    loss.value.backward()
    for parameter in objective.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@each_pair
def test_collapsed_encoders_score_chance_and_show_no_spread(name):
    encoders = tiny_encoders(constant=True)
    objective = build(name, encoders).eval()
    metrics = objective(planned_batch(objective, rows=9), EncoderBank(encoders)).metrics
    for key, value in metrics.items():
        if f"{key}/chance" in metrics and key.startswith("accuracy"):
            assert value.item() == pytest.approx(metrics[f"{key}/chance"].item(), abs=1e-6), key
        if key.startswith("spread/"):
            assert value < 1e-3, key


@each
def test_rows_of_one_source_only_leave_the_loss_finite(name):
    objective, encoders = make(name)
    batch = planned_batch(objective) | {"source": torch.full((6,), 7)}
    loss = objective(batch, EncoderBank(encoders))
    assert torch.isfinite(loss.value)
    assert all(torch.isfinite(value) for value in loss.metrics.values())
    loss.value.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


@each_pair
def test_a_repeated_row_is_never_its_own_negative(name):
    """Two rows of one source: if they were negatives, their pair would be in the loss."""
    encoders = tiny_encoders(double=True)
    # With the usual margin the negatives of an untrained model are far enough apart already.
    objective = build(name, encoders, **({"margin": 1.9} if name == "avts" else {})).double().eval()
    batch = planned_batch(objective)
    ids = torch.tensor([0, 1, 1, 3, 4, 5])
    assert pair_effect(objective, encoders, batch, ids, picture=1, sound=2) == 0.0
    assert pair_effect(objective, encoders, batch, ids, picture=2, sound=1) == 0.0
    strangers = [pair_effect(objective, encoders, batch, ids, picture=k, sound=j) for k in (1, 2) for j in (0, 3, 4, 5)]
    assert max(strangers) > 0.0


def pair_effect(objective, encoders, batch, ids, *, picture: int, sound: int) -> float:
    """How far the pair (picture row, sound row) is in the loss: the mixed second difference of changing both."""

    @torch.no_grad()
    def loss(change_picture: bool, change_sound: bool) -> float:
        video, audio = batch["video"].double() / 255, batch["audio"].double().clone()
        if change_picture:
            video[picture] = 1 - video[picture]
        if change_sound:
            audio[sound] = -audio[sound]
        rest = {key: value.double() for key, value in batch.items() if key == "audio_shifted"}
        return float(objective(batch | rest | {"video": video, "audio": audio, "source": ids}, EncoderBank(encoders)).value)

    mixed = loss(True, True) - loss(True, False) - loss(False, True) + loss(False, False)
    return 0.0 if abs(mixed) < 1e-12 else abs(mixed)


@each_pair
def test_what_localizes_gives_unit_embeddings_maps_and_scores_in_agreement(name):
    encoders = tiny_encoders()
    objective = build(name, encoders).eval()
    batch = planned_batch(objective)
    with torch.no_grad():
        video = encoders["video"](batch["video"])
        audio = encoders["audio"](batch["audio"][:4])
        scores = objective.correspondence(video, audio)
        assert scores.shape == (6, 4)
        # A score is of its pair alone.
        torch.testing.assert_close(objective.correspondence(type(video)(video.pooled[2:3], video.grid[2:3]), audio), scores[2:3])
        if not isinstance(objective, Localizes):
            return
        for role, features in (("video", video), ("audio", audio)):
            vectors = objective.embed(role, features)
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
        maps = objective.similarity_map(type(video)(video.pooled[:4], video.grid[:4]), audio)
        assert maps.shape == video.grid[:4].shape[:-1]
        assert maps.abs().max() <= 1 + 1e-5


def test_equal_views_and_augmentation_share_one_encoder_pass():
    encoders = tiny_encoders()
    objectives = [build("avenet", encoders), build("av_nce", encoders)]
    assert objectives[0].views == objectives[1].views
    batch = planned_batch(objectives[0])
    bank = EncoderBank(encoders)
    total = sum(objective(batch, bank).value for objective in objectives)
    total.backward()
    assert (encoders["video"].calls, encoders["audio"].calls) == (1, 1)
    assert all(torch.isfinite(p.grad).all() for p in encoders["video"].parameters())


@each
def test_box_and_times_of_a_plan_lie_in_the_source(name):
    views = make(name)[0].views
    seconds = next(length for length in (3.0, 6.0, 12.0, 24.0) if views.reject(source(seconds=length)) is None)
    for seed in range(50):
        for request in views.plan(source(seconds=seconds), np.random.default_rng(seed)).requests.values():
            if isinstance(request, Wave):
                assert -1e-9 <= request.start <= seconds - request.seconds + 1e-9
            elif isinstance(request, Text):
                assert request.texts and all(request.texts)
            else:
                assert all(0.0 <= t < seconds for t in request.times)
                box = request.box
                assert isinstance(box, Box)
                assert name not in PAIRED or math.isclose(box.width * 320, box.height * 240)
                assert 0.0 <= box.left <= 1 - box.width + 1e-9
                assert 0.0 <= box.top <= 1 - box.height + 1e-9


@each
def test_what_is_judged_is_judged_row_by_row(name):
    objective, encoders = make(name)
    if not isinstance(objective, Judges):
        pytest.skip("not judged row by row")
    objective.eval()
    batch = planned_batch(objective)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    judged = objective.judge(batch, EncoderBank(encoders))
    assert judged
    for question, (values, chance) in judged.items():
        assert len(values) == 6, question
        assert torch.isfinite(values.double()).all(), question
        if question.startswith("accuracy"):
            assert chance is not None and 0.0 < chance < 1.0
            assert ((values >= 0) & (values <= 1)).all()
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())
