from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.denoise_text import DenoiseText, NoiseViews, infill
from mmssl.types import Cue, InputError, Source
from tests.tiny_av import PAD, build, measure, tiny_for, train
from tests.tiny_text import keyed


def make(linked: bool):
    return lambda rows, seed: keyed(rows, seed, linked=linked)


def objective_and_encoders(**arguments):
    encoders = tiny_for(DenoiseText)
    return build("denoise_text", encoders, **arguments), encoders


def document(sentences: int = 6) -> Source:
    texts = [f"a{k} b{k} c{k} d{k}." for k in range(sentences)]
    return Source("d", Path("d.txt"), cues=tuple(Cue(k, k + 1, text) for k, text in enumerate(texts)))


def noised(seed: int, **values) -> tuple[str, str]:
    plan = NoiseViews(length=64, tokenizer="none", **values).plan(document(), np.random.default_rng(seed))
    return plan.requests["document"].texts[0], plan.requests["target"].texts[0]


def test_infilling_hides_the_share_in_spans_of_poisson_length():
    words = [f"w{k}" for k in range(40)]
    hidden, lengths, places = 0, Counter(), Counter()
    for seed in range(2000):
        out = infill(words, 0.3, 3.0, np.random.default_rng(seed))
        left = [word for word in out if word != "[MASK]"]
        numbers = [int(word[1:]) for word in left]
        assert numbers == sorted(numbers)  # what stays, stays in order
        hidden += 40 - len(left)
        assert "[MASK] [MASK]" not in " ".join(out)
        places.update(set(range(40)) - set(numbers))
        ends = [-1, *numbers, 40]
        spans, place = [], 0
        for word in out:  # how many words each mask stands for
            if word == "[MASK]":
                spans.append(ends[place + 1] - ends[place] - 1)
            else:
                place += 1
        assert sum(spans) == 40 - len(left)
        lengths.update(spans)
    assert hidden / 2000 == pytest.approx(12.0, abs=1e-9)
    total = sum(lengths.values())
    for length in (0, 1, 2, 3):  # the last span of a text is cut to fit, which favours short ones a little
        expected = math.exp(-3) * 3**length / math.factorial(length)
        assert lengths[length] / total == pytest.approx(expected, abs=0.06)
    rates = [places[k] / 2000 for k in range(3, 37)]
    assert min(rates) > 0.24 and max(rates) < 0.36


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_infilling_never_hides_everything_and_keeps_the_count(count):
    words = [f"w{k}" for k in range(count)]
    for seed in range(200):
        out = infill(words, 0.9, 0.5, np.random.default_rng(seed))
        assert any(word != "[MASK]" for word in out)
        assert [word for word in out if word != "[MASK]"] == [word for word in words if word in out]
    share = np.mean([count - sum(w != "[MASK]" for w in infill(words, 0.3, 3.0, np.random.default_rng(k))) for k in range(900)])
    assert share == pytest.approx(0.3 * count if count > 1 else 0.0, abs=0.06)


def test_sentences_are_permuted_in_every_order():
    orders = Counter()
    for seed in range(300):
        given, target = noised(seed, share=0.0)
        assert target == " ".join(cue.text for cue in document().cues)
        parts = [part.strip() + "." for part in given.split(".") if part.strip()]
        assert sorted(parts) == [cue.text for cue in document().cues]
        orders[tuple(parts)] += 1
    assert len(orders) > 200


def test_rotation_turns_the_words_and_nothing_else():
    starts = set()
    for seed in range(200):
        given, target = noised(seed, share=0.0, permute=False, rotate=1.0)
        words, turned = target.split(), given.split()
        place = words.index(turned[0])
        assert turned == words[place:] + words[:place]
        starts.add(place)
    assert len(starts) == 24
    assert sum(noised(k, share=0.0, permute=False, rotate=0.25)[0].startswith("a0") for k in range(200)) > 130


def test_all_noise_together_keeps_target_and_words():
    given, target = noised(3, rotate=1.0)
    assert target == " ".join(cue.text for cue in document().cues)
    assert {word for word in given.split() if word != "[MASK]"} < set(target.split())


def test_a_source_of_one_sentence_serves_unless_permuting_is_all():
    assert NoiseViews(length=8, tokenizer="x").reject(document(1)) is None
    assert NoiseViews(length=8, tokenizer="x", share=0.0).reject(document(1)) == "fewer than 2 sentences"
    assert NoiseViews(length=8, tokenizer="x").reject(document(0)) == "no text"
    NoiseViews(length=8, tokenizer="x").plan(document(1), np.random.default_rng(0))


def test_loss_matches_the_loop():
    objective, encoders = objective_and_encoders()
    objective.eval()
    batch = keyed(4, 1)
    logits = encoders["text"].decode(encoders["text"](batch["document"][:, 0]), batch["target"][:, 0, :-1])
    losses = []
    for n in range(4):
        for t, word in enumerate(batch["target"][n, 0, 1:].tolist()):
            if word != PAD:
                row = logits[n, t].tolist()
                losses.append(math.log(sum(math.exp(z) for z in row)) - row[word])
    assert objective(batch, EncoderBank(encoders)).value.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.9, 1.0), (False, 0.45, 0.6)])
def test_a_planted_link_is_learnt_and_shuffled_keys_are_not(linked, low, high):
    objective, encoders = objective_and_encoders()
    train(objective, encoders, make(linked), steps=150, rows=48, lr=1e-2)
    assert low <= measure(objective, encoders, make(linked), rows=128)["accuracy"] <= high


@pytest.mark.parametrize(
    ("values", "says"),
    [({"share": 1.0}, r"share is 1\.0"), ({"rotate": 2.0}, r"rotate 2\.0"), ({"span": 0.0}, r"span 0\.0"),
     ({"share": 0.0, "permute": False}, "no noise")],
)  # fmt: skip
def test_bad_values_are_named(values, says):
    with pytest.raises(InputError, match=says):
        NoiseViews(**values)
