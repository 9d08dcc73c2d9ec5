from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from mmssl.cuts.captions import CaptionViews
from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.mil_nce import MultipleInstanceNCE, mil_nce, sigmoid_loss
from mmssl.types import InputError
from tests.tiny_av import PAD, PLAIN, TinyText, build, measure, tiny_for, train
from tests.tiny_captions import bags

FORMS = ("mil_nce", "nce", "sigmoid")
STILL = {"frame_augment": PLAIN["frame_augment"]}


def objective_and_encoders(**arguments):
    encoders = tiny_for(MultipleInstanceNCE)
    return build("mil_nce", encoders, **(STILL | arguments)), encoders


def make(linked: bool = True, candidates: int = 3, off: float = 0.0):
    return lambda rows, seed: bags(rows, seed, linked=linked, candidates=candidates, off=off)


def shrunk(batch):
    """With bags of different size, and two rows of one film."""
    return batch | {"captions": torch.tensor([3, 1, 2, 3, 2]), "source": torch.tensor([1, 2, 2, 3, 4])}


def embedded(objective, encoders, batch):
    """Clips (n, D), captions (n, P, D), each encoded alone."""
    with torch.no_grad():
        clips = [objective.embed("video", encoders["video"](x[None]))[0] for x in batch["video"]]
        texts = [[objective.embed("text", encoders["text"](x[None]))[0] for x in bag] for bag in batch["text"]]
    return clips, texts


def test_mil_nce_is_the_papers_formula_with_each_positive_once():
    objective, encoders = objective_and_encoders(temperature=0.2)
    batch = shrunk(bags(5, 1))
    clips, texts = embedded(objective, encoders, batch)
    count, source = batch["captions"].tolist(), batch["source"].tolist()
    losses = []
    for i in range(5):
        positive = sum(math.exp(float(clips[i] @ texts[i][p]) / 0.2) for p in range(count[i]))
        negative = 0.0
        for j in range(5):
            if source[j] != source[i]:
                negative += sum(math.exp(float(clips[i] @ texts[j][p]) / 0.2) for p in range(count[j]))
                negative += sum(math.exp(float(clips[j] @ texts[i][p]) / 0.2) for p in range(count[i]))
        losses.append(-math.log(positive / (positive + negative)))
    loss = objective(batch, EncoderBank(encoders))
    assert loss.value.item() == pytest.approx(sum(losses) / 5, rel=1e-5)
    assert loss.metrics["captions"].item() == pytest.approx(11 / 5)


def test_equal_scores_cost_what_the_metric_says():
    held = torch.tensor([[True, True], [True, False], [True, True]])
    scores, rivals = torch.zeros(3, 3, 2), ~torch.eye(3, dtype=torch.bool)
    losses = mil_nce(scores, scores, torch.arange(3), rivals, held)
    # Row 0: 2 own, 1 + 2 other captions, 2 other clips with 2 own captions.
    assert losses.exp().tolist() == pytest.approx([(2 + 3 + 4) / 2, (1 + 4 + 2) / 1, (2 + 3 + 4) / 2])
    for form in FORMS:
        objective, encoders = objective_and_encoders(form=form)
        for head in (objective.video_head, objective.text_head):
            torch.nn.init.zeros_(head.layers[0].weight)
            torch.nn.init.ones_(head.layers[0].bias)
        if form == "sigmoid":  # its own bias away: only the base rate known
            with torch.no_grad():
                objective.log_scale.fill_(-50.0)
                objective.bias.fill_(-math.log(4))
        batch = bags(5, 1, candidates=3 if form == "mil_nce" else 1)
        loss = objective(batch, EncoderBank(encoders))
        assert loss.value.item() == pytest.approx(loss.metrics["loss/uninformed"].item(), rel=1e-5), form
        assert loss.metrics["accuracy"].item() == pytest.approx(loss.metrics["accuracy/chance"].item()) == pytest.approx(0.2)
        assert loss.metrics["spread/video"] < 1e-3 and loss.metrics["spread/text"] < 1e-3


def test_info_nce_and_sigmoid_match_their_loops():
    batch = shrunk(bags(5, 1, candidates=1)) | {"captions": torch.ones(5, dtype=torch.int64)}
    source = batch["source"].tolist()
    for form in ("nce", "sigmoid"):
        objective, encoders = objective_and_encoders(form=form, temperature=0.2)
        clips, texts = embedded(objective, encoders, batch)
        cosine = [[float(clips[i] @ texts[j][0]) for j in range(5)] for i in range(5)]
        total = 0.0
        for i in range(5):
            others = [j for j in range(5) if source[j] != source[i]]
            if form == "nce":
                for row in (cosine[i], [cosine[j][i] for j in range(5)]):
                    total += math.log(sum(math.exp(row[j] / 0.2) for j in [i, *others])) / 2 - row[i] / 0.2 / 2
            else:  # -log sigmoid(z (10 cos - 10))
                for j, sign in [(i, 1.0), *((j, -1.0) for j in others)]:
                    total += math.log1p(math.exp(-sign * (10.0 * cosine[i][j] - 10.0)))
        assert objective(batch, EncoderBank(encoders)).value.item() == pytest.approx(total / 5, rel=1e-4), form


def test_sigmoid_begins_as_the_paper_says():
    objective, _ = objective_and_encoders(form="sigmoid")
    assert objective.log_scale.shape == objective.bias.shape == (1,)
    assert objective.log_scale.item() == pytest.approx(math.log(10.0))
    assert objective.bias.item() == -10.0
    one = sigmoid_loss(torch.tensor([[3.0, 50.0]]), torch.tensor([0]), torch.tensor([[False, False]]))
    assert one.item() == pytest.approx(math.log1p(math.exp(-3.0)))  # what is no rival does not count


@pytest.mark.parametrize("pool", ["pooled", "max"])
def test_padding_takes_no_part(pool):
    objective, encoders = objective_and_encoders(pool=pool)
    ids = torch.tensor([[1, 9, 20, 2, PAD, PAD]])
    # The tiny encoder looks at a token's neighbours; beyond the ends there is always padding, or nothing.
    short, long = (objective.embed("text", encoders["text"](x)) for x in (ids[:, :5], torch.cat([ids, ids[:, 4:]], dim=1)))
    torch.testing.assert_close(short, long)
    features = encoders["text"](ids)
    loud = features._replace(grid=torch.where(features.valid[..., None], features.grid, 99.0))
    torch.testing.assert_close(objective.embed("text", loud), objective.embed("text", features))
    assert torch.isfinite(objective.embed("text", encoders["text"](torch.full((1, 6), PAD)))).all()


def test_slots_without_a_caption_change_nothing():
    objective, encoders = objective_and_encoders()
    batch = shrunk(bags(5, 1))
    other = batch["text"].clone()
    for n, count in enumerate(batch["captions"].tolist()):
        other[n, count:] = bags(5, 2)["text"][n, count:]
    values = [objective(batch | {"text": text}, EncoderBank(encoders)).value.item() for text in (batch["text"], other)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    moved = batch["text"].clone()
    moved[0, 2] = other[1, 2]  # a slot that counts
    assert objective(batch | {"text": moved}, EncoderBank(encoders)).value.item() != pytest.approx(values[0], rel=1e-6)


@pytest.mark.parametrize("form", ["nce", "sigmoid"])
def test_rows_of_one_film_are_negatives_only_where_asked_and_apart(form):
    """The pair (clip 1, captions of row 2) is in the loss: the mixed second difference of changing both."""
    batch = bags(5, 1, candidates=1) | {"source": torch.tensor([0, 1, 1, 1, 4]), "time": torch.tensor([0.0, 5.0, 7.0, 5.5, 0.0])}

    def effect(objective, encoders, clip: int, text: int) -> float:
        def value(change_clip: bool, change_text: bool) -> float:
            video, words = batch["video"].double() / 255, batch["text"].clone()
            if change_clip:
                video[clip] = 1 - video[clip]
            if change_text:
                words[text] = torch.tensor([1, 30, 31, 32, 33, 34, 2, 0])
            with torch.no_grad():
                return float(objective(batch | {"video": video, "text": words}, EncoderBank(encoders)).value)

        return abs(value(True, True) - value(True, False) - value(False, True) + value(False, False))

    for apart, counts in ((None, {}), (1.0, {(1, 2), (2, 1), (2, 3), (3, 2)})):
        encoders = {role: encoder.double() for role, encoder in tiny_for(MultipleInstanceNCE).items()}
        objective = build("mil_nce", encoders, form=form, apart=apart, **STILL).double()
        for pair in product((1, 2, 3), (1, 2, 3)):
            if pair[0] != pair[1]:
                assert (effect(objective, encoders, *pair) > 1e-12) == (pair in counts), (apart, pair)
        assert effect(objective, encoders, 0, 1) > 1e-12


def test_in_the_bag_form_only_rivals_are_in_the_denominator():
    """There a row's denominator joins clips and captions, so the scores are asked, not the pixels."""
    g = torch.Generator().manual_seed(0)
    to_text, to_video = (torch.randn(3, 3, 2, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2))
    rivals = torch.tensor([[False, False, True], [False, False, True], [True, True, False]])
    held = torch.tensor([[True, True], [True, False], [True, True]])
    mil_nce(to_text, to_video, torch.arange(3), rivals, held).sum().backward()
    for i, j, p in product(range(3), range(3), range(2)):
        counts = bool(held[j, p]) and (i == j or bool(rivals[i, j]))
        assert (to_text.grad[i, j, p] != 0.0) == counts, (i, j, p)
        counts = bool(held[i, p]) and bool(rivals[i, j])
        assert (to_video.grad[i, j, p] != 0.0) == counts, (i, j, p)


@pytest.mark.parametrize(("apart", "rivals"), [(None, []), (1.0, [(1, 2), (2, 1), (2, 3), (3, 2)])])
def test_rows_of_one_film_are_rivals_only_where_asked_and_apart(apart, rivals):
    objective, encoders = objective_and_encoders(apart=apart)
    batch = bags(5, 1) | {"source": torch.tensor([0, 1, 1, 1, 4]), "time": torch.tensor([0.0, 5.0, 7.0, 5.5, 0.0])}
    pairs = objective._pairs(*objective._encode(batch, EncoderBank(encoders)), batch)
    within = [(i, j) for i, j in product((1, 2, 3), (1, 2, 3)) if pairs.rivals[i, j]]
    assert within == rivals
    assert pairs.rivals[0].tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.4, 1.0), (False, 0.05, 0.2)])
@pytest.mark.parametrize("form", FORMS)
def test_a_planted_link_is_learnt_and_a_cut_one_is_not(form, linked, low, high):
    """8 rows of 8 kinds: some share theirs, so the kind gives two thirds at most."""
    data = make(linked, candidates=3 if form == "mil_nce" else 1)
    objective, encoders = objective_and_encoders(form=form, temperature=0.1)
    train(objective, encoders, data, steps=150, rows=32, lr=1e-2)
    metrics = measure(objective, encoders, data, rows=8, batches=16)
    assert low <= metrics["accuracy"] <= high
    assert metrics["accuracy/chance"] == pytest.approx(0.125)
    assert (metrics["cosine/positive"] - metrics["cosine/negative"] > 0.2) == linked


def test_a_bag_bears_a_nearest_caption_that_is_beside_the_point():
    """The nearest caption names any kind, another of the bag the right one: only the bag finds it. That is what it is for."""
    found = {}
    for form, count in (("mil_nce", 3), ("nce", 1)):
        objective, encoders = objective_and_encoders(form=form, temperature=0.1)
        noisy = make(candidates=3, off=1.0)

        def cut(rows, seed, count=count, noisy=noisy):
            batch = noisy(rows, seed)
            return batch | {"text": batch["text"][:, :count], "captions": torch.full((rows,), count)}

        train(objective, encoders, cut, steps=150, rows=32, lr=1e-2)
        found[form] = measure(objective, encoders, make(candidates=count), rows=8, batches=32)["accuracy"]
    assert found["mil_nce"] > 0.4
    assert found["nce"] < 0.2


def test_judging_asks_both_ways_for_the_nearest_caption():
    objective, encoders = objective_and_encoders()
    batch = bags(9, 0)
    bank = EncoderBank(encoders)
    judged = objective.eval().judge(batch, bank)
    clips, texts = embedded(objective, encoders, batch)
    table = torch.stack([torch.stack([clip @ bag[0] for bag in texts]) for clip in clips])
    for way, scores in (("video_to_text", table), ("text_to_video", table.T)):
        first = [float(all(scores[i, j] <= scores[i, i] for j in range(9))) for i in range(9)]
        assert judged[f"recall_1_{way}"].values.tolist() == pytest.approx(first, abs=0.51)  # 0.5: ties within rounding
    assert judged["accuracy"].chance == pytest.approx(1 / 9)
    joint = objective.joint(batch, bank)
    assert torch.allclose(joint["video"] @ joint["text"].T, table, atol=1e-5)


def test_a_collapsed_model_is_judged_at_chance():
    objective, encoders = objective_and_encoders()
    torch.nn.init.zeros_(objective.text_head.layers[0].weight)
    judged = objective.eval().judge(bags(9, 0), EncoderBank(encoders))
    assert judged["recall_1_video_to_text"].values.mean().item() == pytest.approx(1 / 9)


def test_plain_products_are_not_normalised():
    objective, encoders = objective_and_encoders(temperature=None)
    batch = bags(5, 1)
    before = objective(batch, EncoderBank(encoders)).value
    with torch.no_grad():
        for parameter in objective.video_head.parameters():
            parameter.mul_(3.0)
    after = objective(batch, EncoderBank(encoders))
    assert after.value.item() != pytest.approx(before.item(), rel=1e-3)
    assert after.metrics["cosine/positive"].abs() <= 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"apart": 0.0}, "apart is 0.0"),
        ({"form": "nce", "views": CaptionViews(candidates=2)}, "candidates is 2"),
        ({"views": CaptionViews(length=17)}, "length is 17 tokens; this encoder takes 4 to 16"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        objective_and_encoders(**arguments)


def test_forms_ask_for_as_many_captions_as_they_use():
    assert [objective_and_encoders(form=form)[0].views.candidates for form in FORMS] == [4, 1, 1]
    assert TinyText().spec.tokenizer == objective_and_encoders()[0].views.tokenizer
