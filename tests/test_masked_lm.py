from __future__ import annotations

import math

import pytest
import torch

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.token_masks import TokenMask
from mmssl.types import InputError
from tests.tiny_av import PAD, TINY_WORDS, build, measure, tiny_for, train
from tests.tiny_text import couples


def make(linked: bool):
    return lambda rows, seed: couples(rows, seed, linked=linked)


def objective_and_encoders(**arguments):
    from mmssl.objectives.masked_lm import MaskedLm

    encoders = tiny_for(MaskedLm)
    return build("masked_lm", encoders, **arguments), encoders


def texts(rows: int, length: int = 64, seed: int = 0) -> torch.Tensor:
    """Ids with special tokens among them, and padding of different length at the end."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(1, TINY_WORDS.size, (rows, length), generator=g)
    ends = torch.randint(length // 2, length + 1, (rows, 1), generator=g)
    return torch.where(torch.arange(length) < ends, x, PAD)


def test_loss_matches_the_loop():
    objective, encoders = objective_and_encoders(share=0.3)
    batch = couples(5, 1)
    torch.manual_seed(3)
    loss = objective(batch, EncoderBank(encoders))
    torch.manual_seed(3)
    hidden = objective.hide(batch["text"][:, 0])
    grid = encoders["text"](hidden.ids).grid
    losses, right = [], []
    for n in range(5):
        for k in range(hidden.places.shape[1]):
            if hidden.used[n, k]:
                place = int(hidden.places[n, k])
                logits = objective.output(objective.transform(grid[n, place])).tolist()
                word = int(batch["text"][n, 0, place])
                assert word == int(hidden.targets[n, k])
                losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[word])
                right.append(logits.index(max(logits)) == word)
    assert loss.value.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert loss.metrics["accuracy"].item() == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("whole_words", [False, True])
def test_the_share_is_met_and_split_80_10_10(whole_words):
    hide = TokenMask(TINY_WORDS, whole_words=whole_words)
    x = texts(4000)
    torch.manual_seed(0)
    hidden = hide(x)
    special = torch.zeros(TINY_WORDS.size, dtype=torch.bool)
    special[list(TINY_WORDS.special)] = True
    ordinary = (~special[x]).sum()
    chosen = hidden.used.sum()
    assert chosen / ordinary == pytest.approx(0.15, abs=0.002)
    assert not special[hidden.targets[hidden.used]].any()
    seen = hidden.ids.gather(1, hidden.places)[hidden.used]
    target = hidden.targets[hidden.used]
    masked, kept = (seen == TINY_WORDS.mask).float().mean(), (seen == target).float().mean()
    assert masked.item() == pytest.approx(0.8, abs=0.01)
    assert kept.item() == pytest.approx(0.1 + 0.1 / 59, abs=0.01)  # a random token is the same one at times
    drawn = seen[(seen != TINY_WORDS.mask) & (seen != target)]
    assert not special[drawn].any()
    assert len(drawn.unique()) == TINY_WORDS.size - 5
    # What is not chosen is untouched, and every ordinary place is chosen equally often.
    there = torch.zeros_like(x, dtype=torch.bool).scatter(1, hidden.places, hidden.used)
    assert torch.equal(hidden.ids[~there], x[~there])
    assert torch.equal(x.gather(1, hidden.places)[hidden.used], target)
    rate = (there & ~special[x])[:, 1:].sum(0) / (~special[x])[:, 1:].sum(0)
    assert rate.min() > 0.11 and rate.max() < 0.19


def test_in_evaluation_every_chosen_token_is_masked():
    hide = TokenMask(TINY_WORDS)
    x = torch.randint(5, TINY_WORDS.size, (200, 20), generator=torch.Generator().manual_seed(0))
    x = torch.where(hide.special[x], int(hide.ordinary[0]), x)
    shown = [mode.ids.gather(1, mode.places)[mode.used] for mode in (hide.train()(x), hide.eval()(x))]
    assert 0.7 < (shown[0] == TINY_WORDS.mask).float().mean() < 0.9
    assert (shown[1] == TINY_WORDS.mask).all()


def test_each_text_has_its_share_up_to_a_token_and_at_least_one():
    hide = TokenMask(TINY_WORDS)
    x = texts(500)
    torch.manual_seed(0)
    count = hide(x).used.sum(1)
    exact = 0.15 * (x > 4).sum(1)
    assert ((count - exact).abs() < 1.0).all()
    short = torch.tensor([[1, 9, 2, 0, 0], [1, 2, 0, 0, 0]])
    assert hide(short).used.sum(1).tolist() == [1, 0]


def test_masks_differ_from_step_to_step_and_repeat_with_the_seed():
    hide = TokenMask(TINY_WORDS)
    x = texts(8)
    ids = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        ids.append(hide(x).ids)
    assert torch.equal(ids[0], ids[2])
    assert not torch.equal(ids[0], ids[1])


def test_whole_words_are_chosen_whole():
    """A word is a token below 32 with those from 32 on that follow it."""
    hide = TokenMask(TINY_WORDS, whole_words=True, share=0.2)
    x = texts(600, length=48)
    torch.manual_seed(0)
    hidden = hide(x)
    there = torch.zeros_like(x, dtype=torch.bool).scatter(1, hidden.places, hidden.used)
    torn = pieces = 0
    for row, chosen in zip(x.tolist(), there.tolist(), strict=True):
        words: list[list[bool]] = []
        for token, flag in zip(row, chosen, strict=True):
            if token >= 32 and words:
                words[-1].append(flag)
            elif token not in TINY_WORDS.special:
                words.append([flag])
            else:
                words.append([])  # after a special token, a piece begins a word of its own here
        for word in words:
            pieces += len(word) > 1 and any(word)
            torn += len(set(word)) > 1
    assert pieces > 500
    assert torn == 0


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.6, 1.0), (False, 0.0, 0.12)])
def test_a_planted_link_is_learnt_and_shuffled_words_are_not(linked, low, high):
    objective, encoders = objective_and_encoders()
    train(objective, encoders, make(linked), steps=150, rows=48, lr=1e-2)
    metrics = measure(objective, encoders, make(linked), rows=128)
    assert low <= metrics["accuracy"] <= high
    assert 1 / TINY_WORDS.size < metrics["accuracy/chance"] < 0.12
    assert metrics["hidden"] == pytest.approx(0.15, abs=0.02)


def test_judging_gives_each_text_a_figure():
    objective, encoders = objective_and_encoders()
    judged = objective.eval().judge(couples(9, 0), EncoderBank(encoders))
    assert judged["nll"].chance == pytest.approx(math.log(TINY_WORDS.size))
    assert (judged["nll"].values > 0).all()
    parts = 6 * judged["accuracy"].values  # of two or three hidden tokens
    torch.testing.assert_close(parts, parts.round())


@pytest.mark.parametrize(("arguments", "says"), [({"share": 0.0}, "share 0.0"), ({"masked": 0.9, "random": 0.2}, "random 0.2")])
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        objective_and_encoders(**arguments)
