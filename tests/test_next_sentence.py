from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.strangers import next_stranger, stranger_rows
from mmssl.nn.text import packed_pair
from mmssl.objectives.next_sentence import NextSentence, TwoTextsViews
from mmssl.types import Cue, InputError, Source
from tests.tiny_av import build, measure, tiny_for, train
from tests.tiny_text import halves


def make(linked: bool):
    return lambda rows, seed: halves(rows, seed, linked=linked)


def objective_and_encoders(**arguments):
    encoders = tiny_for(NextSentence)
    return build("next_sentence", encoders, **arguments), encoders


def joined(first, second) -> list[int]:
    """[CLS] first [SEP] second [SEP], padding last."""
    ids = [k for k in first.tolist() if k] + [k for k in second.tolist()[1:] if k]
    return ids + [0] * (len(first) + len(second) - 1 - len(ids))


@pytest.mark.parametrize("form", ["nsp", "sop"])
def test_judgement_and_loss_match_the_loop(form):
    objective, encoders = objective_and_encoders(form=form)
    objective.eval()
    batch = halves(5, 1)
    batch["first"][2, 0, 4:] = torch.tensor([2, 0, 0])  # a shorter text
    batch["source"] = torch.tensor([1, 1, 2, 2, 3])
    follower = [2, 2, 4, 4, 0]  # the next row of another source
    losses, hits = [], []
    for n in range(5):
        first, second = batch["first"][n, 0], batch["second"][n, 0]
        wrong = joined(second, first) if form == "sop" else joined(first, batch["second"][follower[n], 0])
        logits = [objective.head(encoders["text"](torch.tensor([ids])).pooled).item() for ids in (joined(first, second), wrong)]
        losses.append((math.log1p(math.exp(-logits[0])) + math.log1p(math.exp(logits[1]))) / 2)
        hits.append(((logits[0] > 0) + (logits[1] < 0)) / 2)
    judged = objective.judge(batch, EncoderBank(encoders))["accuracy"]
    assert judged.values.tolist() == pytest.approx(hits)
    assert judged.chance == 0.5
    if form == "sop":  # no draw of another row in it
        assert objective(batch, EncoderBank(encoders)).value.item() == pytest.approx(sum(losses) / 5, rel=1e-5)


def test_wrong_texts_come_from_other_sources_all_alike():
    source = torch.tensor([1, 1, 2, 3])
    torch.manual_seed(0)
    drawn = torch.stack([stranger_rows(source, torch.rand(4, 4))[0] for _ in range(600)])
    assert set(drawn[:, 0].tolist()) == {2, 3}
    assert set(drawn[:, 2].tolist()) == {0, 1, 3}
    assert (drawn[:, 2] == 3).float().mean().item() == pytest.approx(1 / 3, abs=0.07)
    assert not stranger_rows(torch.ones(3), torch.rand(3, 3))[1].any()
    assert next_stranger(source)[0].tolist() == [2, 2, 3, 0]


def test_lengths_tell_nothing():
    """A passage fills its room, so its parts are long and short by turns; the wrong second part must be as long as the right one."""
    objective, encoders = objective_and_encoders()
    rng = np.random.default_rng(0)
    first = rng.integers(2, 7, size=64)
    halves_of = {"first": first, "second": 8 - first}
    batch = {key: torch.zeros(64, 1, 8, dtype=torch.int64) for key in halves_of}
    for key, lengths in halves_of.items():
        for row, length in enumerate(lengths):
            batch[key][row, 0, :length] = torch.tensor([1, *rng.integers(5, 9, size=length - 2), 2])
    batch["source"] = torch.arange(64)
    seen = []
    objective._logits = lambda batch, bank, other, found: seen.append(other) or (torch.zeros(64), torch.zeros(64), found)
    objective(batch, EncoderBank(encoders))
    objective.judge(batch, EncoderBank(encoders))
    second = torch.tensor(halves_of["second"])
    for other in seen:
        assert (second[other] == second).all()
        assert (other != torch.arange(64)).all()
    assert len(set(map(tuple, [other.tolist() for other in seen]))) == 2  # drawn in training, by place in judging


def test_a_batch_of_one_source_has_no_wrong_texts():
    objective, encoders = objective_and_encoders()
    loss = objective(halves(4, 0) | {"source": torch.ones(4)}, EncoderBank(encoders))
    assert loss.value.item() == 0.0
    assert loss.metrics["accuracy"] == 0.5
    assert loss.metrics["rows/without_negative"] == 4


def test_pairs_are_packed_without_the_second_beginning():
    first, second = torch.tensor([[1, 7, 2, 0, 0], [1, 7, 8, 9, 2]]), torch.tensor([[1, 5, 6, 2], [1, 5, 2, 0]])
    assert packed_pair(first, second, 0).tolist() == [[1, 7, 2, 5, 6, 2, 0, 0], [1, 7, 8, 9, 2, 5, 2, 0]]


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.8, 1.0), (False, 0.4, 0.6)])
@pytest.mark.parametrize("form", ["nsp", "sop"])
def test_a_planted_link_is_learnt_and_shuffled_words_are_not(form, linked, low, high):
    objective, encoders = objective_and_encoders(form=form)
    train(objective, encoders, make(linked), steps=120, rows=48, lr=1e-2)
    metrics = measure(objective, encoders, make(linked), rows=128)
    assert low <= metrics["accuracy"] <= high
    assert metrics["accuracy/chance"] == 0.5


def document(sentences: int) -> Source:
    return Source("d", Path("d.txt"), cues=tuple(Cue(k, k + 1, f"This is sentence {k} of it.") for k in range(sentences)))


def test_the_two_texts_follow_one_another():
    views = TwoTextsViews(length=32, tokenizer="none")
    seen = set()
    for seed in range(60):
        requests = views.plan(document(9), np.random.default_rng(seed)).requests
        numbers = [[int(word) for word in requests[key].texts[0].split() if word.isdigit()] for key in ("first", "second")]
        both = numbers[0] + numbers[1]
        assert numbers[0] and numbers[1]
        assert both == list(range(both[0], both[0] + len(both)))
        assert requests["first"].length == requests["second"].length == 16
        seen.add((both[0], len(numbers[0])))
    assert len(seen) > 6
    assert views.reject(document(1)) == "fewer than 2 sentences"
    assert views.reject(document(0)) == "no text"
    assert views.reject(document(2)) is None


def test_bad_values_are_named():
    with pytest.raises(InputError, match="hidden is 0"):
        objective_and_encoders(hidden=0)
    with pytest.raises(InputError, match="6 tokens; two texts need at least 8"):
        objective_and_encoders(views=TwoTextsViews(length=6))
    with pytest.raises(InputError, match="length is 17 tokens; this encoder takes 4 to 16"):
        objective_and_encoders(views=TwoTextsViews(length=17))
