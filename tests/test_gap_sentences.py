from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.cuts.passages import LONGEST_SENTENCE, PIECES, draw_passage, sentences_of
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.writing import Written, against_strangers
from mmssl.objectives.gap_sentences import GapSentences, GapViews, choose_gaps
from mmssl.rouge import rouge_l, rouge_n, words_of
from mmssl.types import Cue, Features, InputError, Source, Span
from tests.tiny_av import PAD, TINY_WORDS, build, measure, tiny_for, train
from tests.tiny_text import keyed


def make(linked: bool):
    return lambda rows, seed: keyed(rows, seed, linked=linked)


def objective_and_encoders(**arguments):
    encoders = tiny_for(GapSentences)
    return build("gap_sentences", encoders, **arguments), encoders


def naive_f(candidate: list[str], reference: list[str], unique: bool) -> float:
    if unique:
        candidate, reference = sorted(set(candidate)), sorted(set(reference))
    left = list(reference)
    shared = 0
    for word in candidate:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(candidate), shared / len(reference)
    return 2 * precision * recall / (precision + recall)


def naive_gaps(sentences: list[str], count: int, select: str, unique: bool, stop: set[str]) -> list[int]:
    words = [[w for w in s.lower().split() if w not in stop] for s in sentences]

    def score(chosen: list[int]) -> float:
        inside, outside = [], []
        for k in range(len(words)):
            (inside if k in chosen else outside).extend(words[k])
        return naive_f(inside, outside, unique)

    chosen: list[int] = []
    for _ in range(count):
        best, place = -1.0, -1
        for k in range(len(words)):
            if k not in chosen:
                value = score([k] if select == "ind" else [*chosen, k])
                if value > best + 1e-12:
                    best, place = value, k
        chosen.append(place)
    return sorted(chosen)


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("select", ["ind", "seq"])
def test_the_choice_matches_the_loop(select, unique):
    stop = {"the", "of", "and"}
    vocabulary = ["fox", "dog", "tree", "river", "stone", "the", "of", "and", "moon"]
    differ = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sentences = [" ".join(rng.choice(vocabulary, int(rng.integers(3, 9)))) for _ in range(int(rng.integers(3, 8)))]
        count = int(rng.integers(1, len(sentences)))
        found = choose_gaps(sentences, count, rng, select=select, unique=unique)
        assert found == naive_gaps(sentences, count, select, unique, stop)
        differ += found != naive_gaps(sentences, count, "seq" if select == "ind" else "ind", unique, stop)
        differ += found != naive_gaps(sentences, count, select, not unique, stop)
    assert differ > 5  # the four ways are four ways


def test_rouge_counts_what_it_should():
    a, b = words_of("The cat sat on the mat."), words_of("the cat lay on a mat")
    assert rouge_n(a, b) == pytest.approx(2 * 4 / 12)
    assert rouge_n(a, b, unique=True) == pytest.approx(2 * 4 / 11)
    assert rouge_n(a, b, 2) == pytest.approx(2 * 1 / 10)
    assert rouge_l(a, b) == pytest.approx(2 * 4 / 12)  # the cat on mat
    assert rouge_n([], []) == rouge_l([], []) == 0.0
    assert rouge_l(["x"], ["y"]) == 0.0
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, y = ([str(k) for k in rng.integers(0, 5, int(rng.integers(1, 9)))] for _ in range(2))
        assert rouge_n(x, y) == pytest.approx(naive_f(x, y, unique=False))
        assert rouge_l(x, y) == pytest.approx(2 * _subsequence(x, y) / (len(x) + len(y)))


def _subsequence(x, y) -> int:
    if not x or not y:
        return 0
    return max(_subsequence(x[1:], y), _subsequence(x, y[1:]), (1 + _subsequence(x[1:], y[1:])) if x[0] == y[0] else 0)


def test_noise_varies_the_choice_and_baselines_do_as_they_say():
    sentences = ["a fox ran", "the fox slept", "a dog ran", "the dog slept", "fox and dog"]
    draws = {tuple(choose_gaps(sentences, 2, np.random.default_rng(k), noise=0.5)) for k in range(30)}
    assert len(draws) > 2
    assert len({tuple(choose_gaps(sentences, 2, np.random.default_rng(k))) for k in range(30)}) == 1
    assert choose_gaps(sentences, 2, np.random.default_rng(0), select="lead") == [0, 1]
    random = Counter(k for seed in range(400) for k in choose_gaps(sentences, 2, np.random.default_rng(seed), select="random"))
    assert min(random.values()) > 120


def document(sentences: int) -> Source:
    texts = [f"Word{k} meets word{(k * 7) % 5} near number{k % 3}." for k in range(sentences)]
    return Source("d", Path("d.txt"), cues=tuple(Cue(k, k + 1, text) for k, text in enumerate(texts)))


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sentences", [2, 3, 12])
def test_gaps_and_target_make_up_the_document(sentences, keep):
    views = GapViews(length=64, target_length=32, keep=keep, tokenizer="none")
    texts = [cue.text for cue in document(sentences).cues]
    stayed = taken = 0
    for seed in range(80):
        plan = views.plan(document(sentences), np.random.default_rng(seed))
        given, target = plan.requests["document"].texts[0], plan.requests["target"].texts[0]
        gaps = [text for text in texts if text in target]
        assert target == " ".join(gaps)
        stayed += sum(text in given for text in gaps)
        taken += len(gaps)
        assert given.count("[SENT]") == sum(text not in given for text in gaps)
        left = [part for part in given.replace("[SENT]", "").split(".") if part.strip()]
        assert gaps and left
        assert len(left) + given.count("[SENT]") <= sentences
        assert 1 <= len(gaps) <= max(1, round(0.45 * sentences))
    assert stayed / taken == pytest.approx(keep, abs=0.12)


def test_sources_without_two_sentences_are_left_out():
    views = GapViews(length=64, target_length=32, tokenizer="none")
    assert [views.reject(document(n)) for n in range(3)] == ["no text", "fewer than 2 sentences", None]


def test_captions_are_joined_by_pauses_ends_and_length():
    cues = [(0.0, 1.0, "and so we"), (1.1, 2.0, "went home."), (2.05, 3.0, "Then"), (4.0, 5.0, "it rained"), (5.0, 6.0, "a lot")]
    film = Source("f", Path("f.mp4"), video=Span(0, 9), cues=tuple(Cue(*cue) for cue in cues))
    assert sentences_of(film) == ("and so we went home.", "Then", "it rained a lot")
    assert sentences_of(film, pause=0.0) == tuple(text for *_, text in cues)
    words = Source("w", Path("w.mp4"), video=Span(0, 99), cues=tuple(Cue(k / 10, (k + 1) / 10, f"w{k}") for k in range(50)))
    assert [len(s.split()) for s in sentences_of(words)] == [LONGEST_SENTENCE, LONGEST_SENTENCE, 10]
    text = Source("t", Path("t.txt"), cues=film.cues)
    assert sentences_of(text) == tuple(text for *_, text in cues)


def test_passages_are_consecutive_fit_and_begin_everywhere():
    sentences = tuple(f"s{k} " + "word " * 6 for k in range(20))
    starts = Counter()
    for seed in range(400):
        passage = draw_passage(sentences, 42, np.random.default_rng(seed))
        first = sentences.index(passage[0])
        assert passage == sentences[first : first + len(passage)]
        assert sum(len(s.split()) for s in passage) <= 42 / PIECES
        starts[first] += 1
    assert set(starts) == set(range(16))  # from the 16th on, the rest fills the length no more
    assert min(starts.values()) > 8
    assert draw_passage(("only one",), 8, np.random.default_rng(0)) == ("only one",)
    assert len(draw_passage(sentences, 4, np.random.default_rng(0), least=2)) == 2
    with pytest.raises(ValueError, match="1 sentences, at least 2"):
        draw_passage(("only one",), 8, np.random.default_rng(0), least=2)


def test_loss_matches_the_loop():
    objective, encoders = objective_and_encoders()
    objective.eval()
    batch = keyed(4, 1)
    batch["target"][1, 0] = torch.tensor([1, 11, 12, 13, 2])  # fills its room: whether it ends there is not known
    features = encoders["text"](batch["document"][:, 0])
    logits = encoders["text"].decode(features, batch["target"][:, 0, :-1])
    losses = []
    for n in range(4):
        ids = batch["target"][n, 0].tolist()
        for t in range(4):
            if ids[t + 1] != PAD and t < 3:
                row = logits[n, t].tolist()
                losses.append(math.log(sum(math.exp(z) for z in row)) - row[ids[t + 1]])
    assert len(losses) == 3 * 2 + 3
    assert objective(batch, EncoderBank(encoders)).value.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.9, 1.0), (False, 0.45, 0.6)])
def test_a_planted_link_is_learnt_and_shuffled_keys_are_not(linked, low, high):
    """Half the target is its end, which needs no document."""
    objective, encoders = objective_and_encoders()
    train(objective, encoders, make(linked), steps=150, rows=48, lr=1e-2)
    metrics = measure(objective, encoders, make(linked), rows=128)
    assert low <= metrics["accuracy"] <= high
    judged = objective.judge(make(linked)(64, 5), EncoderBank(encoders))
    assert judged["accuracy"].chance == pytest.approx(0.53, abs=0.06)  # with another document
    assert (judged["nll"].chance - judged["nll"].values.mean() > 1.0) == linked
    gain = judged["gain"]
    assert gain.chance == 0.0
    assert 0.3 < gain.values.mean() < 0.55 if linked else abs(gain.values.mean()) < 0.08


def test_what_reading_adds_is_the_hits_with_the_right_text_less_those_with_the_next_other_source():
    right = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # with the text of row 0, 1, 2, whatever is to be written
    labels, used = torch.tensor([[3, 4], [3, 3], [5, 3]]), torch.tensor([[True, True], [True, False], [True, True]])

    def write(read: Features) -> Written:
        hits = right[read.pooled[:, 0].long()]
        return Written(1.0 - hits, hits, labels, used)

    numbers = torch.arange(3.0)[:, None]
    read = Features(numbers, numbers[:, None])
    found = against_strangers(write, read, torch.tensor([7, 7, 9]), size=8)  # rows 0 and 1 read row 2, row 2 reads row 0
    assert found["gain"][0].tolist() == [1.0, 1.0, -1.0] and found["gain"][1] == 0.0
    assert found["accuracy"][0].tolist() == [1.0, 1.0, 0.0]
    assert found["accuracy"][1] == pytest.approx(2 / 5) and found["nll"][1] == pytest.approx(3 / 5)
    alone = against_strangers(write, read, torch.tensor([7, 7, 7]), size=8)
    assert "gain" not in alone and alone["accuracy"][1] == pytest.approx(3 / 5)  # label 3, of five that count


def test_bad_values_and_encoders_that_do_not_write_are_named():
    with pytest.raises(InputError, match=r"ratio is \(0\.0, 0\.4\)"):
        GapViews(ratio=(0.0, 0.4))
    with pytest.raises(InputError, match="keep is 2"):
        GapViews(keep=2)
    with pytest.raises(InputError, match="pause is -1"):
        GapViews(pause=-1)
    encoders = tiny_for(GapSentences)
    encoders["text"].writer = None
    with pytest.raises(InputError, match="needs an encoder that also writes"):
        build("gap_sentences", encoders)
    assert TINY_WORDS.sent in TINY_WORDS.special
