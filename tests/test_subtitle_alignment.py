from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.cuts.captions import WindowViews
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.paths import path_score
from mmssl.objectives.subtitle_alignment import SubtitleAlignment, time_weights
from mmssl.types import Cue, InputError, Source, Span
from tests.tiny_av import PLAIN, build, measure, tiny_for, train
from tests.tiny_captions import timelines

VIEWS = WindowViews(seconds=4.0, steps=8, captions=3, length=8)


def objective_and_encoders(**arguments):
    encoders = tiny_for(SubtitleAlignment)
    given = {"views": VIEWS, "frame_augment": PLAIN["frame_augment"]} | arguments
    return build("subtitle_alignment", encoders, **given), encoders


def make(linked: bool):
    return lambda rows, seed: timelines(rows, seed, linked=linked)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_the_loss_matches_the_loop():
    objective, encoders = objective_and_encoders(hard=0.3, path=0.7, apart=0.2)
    batch = timelines(4, 3)
    batch["source"] = torch.tensor([1, 2, 2, 3])
    batch["start_1"][0] -= 0.9  # overlaps the first: not told apart from it
    batch["text"][3, 1] = batch["text"][3, 0]  # said twice
    count, source = batch["captions"].tolist(), batch["source"].tolist()
    with torch.no_grad():
        steps = [[objective.embed("video", encoders["video"](x[None, None]))[0] for x in row] for row in batch["video"]]
        said = [[objective.embed("text", encoders["text"](x[None]))[0] for x in row] for row in batch["text"]]
    scale, threshold = math.exp(objective.fit_of.log_scale.item()), objective.fit_of.threshold.item()

    def fit(caption, step) -> float:
        return scale * (float(caption @ step) - threshold)

    def moment(i, k):
        start, end = batch[f"start_{k}"][i].item(), batch[f"end_{k}"][i].item()
        shares = [max(0.0, min(end, 0.5 * s + 0.5) - max(start, 0.5 * s)) for s in range(8)]
        return sum(share * step for share, step in zip(shares, steps[i], strict=True)) / sum(shares)

    def score(i, order, j):
        fits = torch.tensor([[fit(said[i][k], step) for step in steps[j]] for k in order], dtype=torch.float64)
        return float(path_score(fits[None], torch.tensor([len(order)])))

    belongs, when, decided = [], [], []
    for i in range(4):
        others = [j for j in range(4) if source[j] != source[i]]
        pairs = []
        for k, m in combinations(range(count[i]), 2):
            gap = max(batch[f"start_{m}"][i] - batch[f"end_{k}"][i], batch[f"start_{k}"][i] - batch[f"end_{m}"][i])
            if gap >= 0.2 and not torch.equal(batch["text"][i, k], batch["text"][i, m]):
                pairs.append((k, m))
        easy = [softplus(fit(said[i][k], moment(j, m))) for k in range(count[i]) for j in others for m in range(count[j])]
        easy = sum(easy) / len(easy)
        if pairs:
            own = sum(softplus(-fit(said[i][k], moment(i, k))) for pair in pairs for k in pair) / len(pairs) / 2
            wrong = sum(softplus(fit(said[i][a], moment(i, b))) for k, m in pairs for a, b in ((k, m), (m, k)))
            belongs.append((own + 0.3 * wrong / len(pairs) / 2 + 0.7 * easy) / 2)
        else:
            own = sum(softplus(-fit(said[i][k], moment(i, k))) for k in range(count[i])) / count[i]
            belongs.append((own + easy) / 2)
        for pair in pairs:
            for k, m in (pair, pair[::-1]):
                decided += [(fit(said[i][k], moment(i, k)) > 0) / 2 + (fit(said[i][m], moment(i, k)) < 0) / 2]
        order = list(range(count[i]))
        scores = [score(i, order, i), *(score(i, order, j) for j in others)]
        if any(not torch.equal(batch["text"][i, k], batch["text"][i, m]) for k, m in zip(order, order[::-1], strict=True)):
            scores.append(score(i, order[::-1], i))
        when.append(math.log(sum(math.exp(value) for value in scores)) - scores[0])
    loss = objective(batch, EncoderBank(encoders))
    assert loss.metrics["loss/belongs"].item() == pytest.approx(sum(belongs) / 4, rel=1e-4)
    assert loss.metrics["loss/path"].item() == pytest.approx(sum(when) / 4, rel=1e-4)
    assert loss.value.item() == pytest.approx(sum(belongs) / 4 + 0.7 * sum(when) / 4, rel=1e-4)
    assert loss.metrics["accuracy"].item() == pytest.approx(sum(decided) / len(decided), abs=1e-6)


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.8, 1.0), (False, 0.42, 0.58)])
def test_a_planted_link_is_learnt_and_a_cut_one_is_not(linked, low, high):
    objective, encoders = objective_and_encoders()
    train(objective, encoders, make(linked), steps=120, rows=24, lr=1e-2)
    metrics = measure(objective, encoders, make(linked), rows=32)
    for name in ("accuracy", "accuracy_order"):
        assert low <= metrics[name] <= high, name
        assert metrics[f"{name}/chance"] == 0.5
    with torch.no_grad():
        judged = objective.judge(make(linked)(64, 900_100), EncoderBank(encoders))
    errors = {key: float(judged[key].values.mean()) for key in ("error_seconds", "error_seconds_middle", "error_seconds_even")}
    assert low <= float(judged["accuracy"].values.mean()) <= high
    assert judged["error_seconds"].chance == pytest.approx(errors["error_seconds_even"])
    if linked:
        assert errors["error_seconds"] < 0.6 * errors["error_seconds_even"]
    else:
        assert errors["error_seconds"] > 0.9 * errors["error_seconds_even"]


def leaky(rows: int, seed: int):
    """The place in the window is written on every step, and captions are longer the later they come; neither says anything of kinds."""
    batch = timelines(rows, seed, linked=False)
    ramp = torch.linspace(0, 255, 8)[None, :, None, None, None].expand_as(batch["video"])
    g = torch.Generator().manual_seed(seed)
    # Windows begin anywhere in a film whose captions have any length, so a length has no place in the window.
    length = torch.randint(2, 7, batch["text"].shape[:2], generator=g)[..., None]
    text = torch.where(torch.arange(8) < length, torch.full_like(batch["text"], 30), 0)
    return batch | {"video": ramp.to(torch.uint8), "text": text}


def test_neither_place_nor_length_tells_what_belongs():
    objective, encoders = objective_and_encoders()
    train(objective, encoders, leaky, steps=80, rows=24, lr=1e-2)
    assert measure(objective, encoders, leaky, rows=64)["accuracy"] == pytest.approx(0.5, abs=0.04)


def test_right_and_wrong_pairs_have_the_same_moments_and_the_same_captions():
    """What decides is symmetric: in each pair every caption and every moment is right once and wrong once, whatever their length and place."""
    objective, encoders = objective_and_encoders()
    source = Source(
        "f", Path("f.mp4"), 25.0, 64, 64, Span(0.0, 12.0), None,
        tuple(Cue(k * 0.8, k * 0.8 + 0.5 + 0.25 * (k % 4), f"w{k} " * (1 + k % 3)) for k in range(14)),
    )  # fmt: skip
    for seed in range(20):
        plan = objective.views.plan(source, np.random.default_rng(seed))
        batch = timelines(1, seed) | {key: torch.tensor([value]) for key, value in plan.labels.items()}
        apart = objective._tell(batch, EncoderBank(encoders)).apart[0]
        assert torch.equal(apart, apart.T)
        assert not apart.diagonal().any()
        # Caption l is wrong at as many moments as it is right in pairs, and so is moment l.
        assert torch.equal(apart.sum(0), apart.sum(1))


def test_steps_are_seen_one_by_one_and_augmented_alike():
    objective, encoders = objective_and_encoders()
    objective.eval()
    batch = timelines(3, 1)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = objective._tell(batch, EncoderBank(encoders))
        moved = objective._tell(batch | {"video": batch["video"][:, order]}, EncoderBank(encoders))
    torch.testing.assert_close(moved.steps, told.steps[:, order])
    objective, encoders = objective_and_encoders(frame_augment=PLAIN["frame_augment"].__class__(flip=0.5))
    same = batch | {"video": batch["video"][:, :1].expand(-1, 8, -1, -1, -1)}
    with torch.no_grad():
        steps = objective.train()._tell(same, EncoderBank(encoders)).steps
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))


def test_time_weights_share_steps_by_the_time_they_cover():
    weights = time_weights(torch.tensor([[0.25, 1.0]]), torch.tensor([[1.0, 1.0]]), 4, 0.5)
    assert weights[0, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0, 0.0], abs=1e-5)
    assert weights[0, 1].tolist() == pytest.approx([0.25] * 4)


def test_slots_without_a_caption_change_nothing():
    objective, encoders = objective_and_encoders()
    batch = timelines(6, 2)
    assert (batch["captions"] < 3).any()
    text, start = batch["text"].clone(), batch["start_2"].clone()
    free = batch["captions"] < 3
    text[free, 2] = timelines(6, 5)["text"][free, 0]
    start[free] = 0.0
    values = [objective(each, EncoderBank(encoders)).value.item() for each in (batch, batch | {"text": text, "start_2": start})]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_windows_of_one_film_are_not_wrong_for_one_another():
    objective, encoders = objective_and_encoders()
    batch = timelines(4, 2) | {"source": torch.tensor([1, 1, 2, 3])}
    told = objective._tell(batch, EncoderBank(encoders))
    wrong = objective._belongs(told)[2]
    assert not wrong[0, :, 1].any() and not wrong[1, :, 0].any() and not wrong[0, :, 0].any()
    assert wrong[0, :, 2:].any() and wrong[2, :, :2].any()


def test_a_model_that_says_the_same_of_everything_is_at_chance():
    objective, encoders = objective_and_encoders()
    torch.nn.init.zeros_(objective.video_head.layers[0].weight)
    metrics = objective.eval()(timelines(8, 1), EncoderBank(encoders)).metrics
    for name in ("accuracy", "accuracy_order"):
        assert metrics[name].item() == pytest.approx(0.5, abs=1e-6)
    assert metrics["spread/video"] < 1e-3


@pytest.mark.parametrize(
    ("arguments", "says"), [({"apart": -1.0}, "apart -1.0"), ({"hard": 2.0}, "hard 2.0"), ({"softness": 0.0}, "softness 0.0")]
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        objective_and_encoders(**arguments)
