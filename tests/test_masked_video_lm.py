from __future__ import annotations

import math

import pytest
import torch

from mmssl.cuts.captions import CaptionViews
from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.masked_video_lm import MaskedVideoLm, place_waves
from mmssl.types import InputError
from tests.tiny_av import CELL, PAD, PLAIN, SIZE, TINY_WORDS, build, measure, tiny_for, train
from tests.tiny_captions import WORD, bags


def objective_and_encoders(**arguments):
    encoders = tiny_for(MaskedVideoLm)
    given = {"frame_augment": PLAIN["frame_augment"]} | arguments
    return build("masked_video_lm", encoders, **given), encoders


def short(rows: int, seed: int, *, linked: bool = True):
    """A caption of two words: one that only the picture tells, and one that the other tells not."""
    batch = bags(rows, seed, linked=linked, candidates=1)
    g = torch.Generator().manual_seed(seed + 500_000)  # not that of the picture
    word = WORD + (batch["kind"] if linked else torch.randint(8, (rows,), generator=g))
    ends = [torch.full((rows,), number) for number in (TINY_WORDS.cls, TINY_WORDS.sep, PAD)]
    return batch | {"text": torch.stack([ends[0], word, ends[1], ends[2]], dim=1)[:, None]}


def make(linked: bool):
    return lambda rows, seed: short(rows, seed, linked=linked)


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_matches_the_loop(training):
    objective, encoders = objective_and_encoders(share=0.4, heads=1, layers=1)
    objective.train(training)
    batch = bags(5, 1, candidates=1)
    torch.manual_seed(3)
    loss = objective(batch, EncoderBank(encoders))
    torch.manual_seed(3)
    hidden = objective.hide(batch["text"][:, 0])
    grid, video = encoders["text"](hidden.ids).grid, encoders["video"](batch["video"]).grid
    layer = objective.beside[0]
    width = grid.shape[-1]
    in_weight, in_bias = layer.ask.in_proj_weight.split(width), layer.ask.in_proj_bias.split(width)
    nll: dict[int, list[float]] = {0: [], 1: []}
    side = SIZE // CELL
    with torch.no_grad():
        for n in range(5):
            for k in range(hidden.places.shape[1]):
                if not hidden.used[n, k]:
                    continue
                for wrong, row in enumerate((n, (n + 1) % 5)):
                    x = grid[n, hidden.places[n, k]]
                    query = in_weight[0] @ layer.ask_norm(x) + in_bias[0]
                    weights, values = [], []
                    for i in range(side):
                        for j in range(side):
                            axes = (0.5, (i + 0.5) / side, (j + 0.5) / side)
                            waves = [f(math.pi * 2**w * a) for a in axes for f in (math.sin, math.cos) for w in range(4)]
                            # Along each axis: sines, then cosines.
                            cell = objective.cell(video[row, 0, i, j]) + objective.place(torch.tensor(waves))
                            cell = objective.cell_norm(cell)
                            weights.append(math.exp(float(query @ (in_weight[1] @ cell + in_bias[1])) / math.sqrt(width)))
                            values.append(in_weight[2] @ cell + in_bias[2])
                    seen = sum(a * v for a, v in zip(weights, values, strict=True)) / sum(weights)
                    x = x + layer.ask.out_proj(seen)
                    x = x + layer.think(layer.think_norm(x))
                    logits = objective.output(objective.transform(x))
                    target = int(batch["text"][n, 0, hidden.places[n, k]])
                    nll[wrong].append(float(logits.logsumexp(0) - logits[target]))
    assert len(nll[0]) > 5
    assert loss.value.item() == pytest.approx(sum(nll[0]) / len(nll[0]), rel=1e-4)
    if training:  # a tenth of the step for a measure
        assert "nll_wrong_video" not in loss.metrics
    else:
        assert loss.metrics["nll_wrong_video"].item() == pytest.approx(sum(nll[1]) / len(nll[1]), rel=1e-4)


@pytest.mark.parametrize("linked", [True, False])
def test_a_planted_word_is_told_by_the_picture_and_by_nothing_else(linked):
    """One of 8 words is hidden (mostly), and only the picture says which; with the link cut nothing does."""
    objective, encoders = objective_and_encoders(masked=1.0, random=0.0)
    train(objective, encoders, make(linked), steps=150, rows=48, lr=5e-3)
    metrics = measure(objective, encoders, make(linked), rows=64)
    assert metrics["accuracy/chance"] < 0.25
    if linked:
        assert metrics["accuracy"] > 0.8
        assert metrics["accuracy_wrong_video"] < 0.25
        assert metrics["nll_wrong_video"] > 2.0
    else:
        assert metrics["accuracy"] < 0.25
        assert metrics["accuracy"] == pytest.approx(metrics["accuracy_wrong_video"], abs=0.1)


def test_the_wrong_video_is_of_another_film():
    objective, encoders = objective_and_encoders()
    batch = bags(4, 1, candidates=1) | {"source": torch.tensor([7, 7, 7, 9])}
    seen = []

    def tell(hidden, asked, cells, original=objective._tell):
        seen.append(cells)
        return original(hidden, asked, cells)

    objective._tell = tell
    objective.eval().judge(batch, EncoderBank(encoders))
    own, wrong = seen
    assert torch.equal(wrong[:3], own[3:].expand(3, -1, -1))
    assert torch.equal(wrong[3], own[0])


def test_both_are_judged_on_the_same_hidden_words():
    objective, encoders = objective_and_encoders()
    objective.eval()
    batch = bags(9, 0, candidates=1)
    still = batch | {"video": batch["video"][:1].expand(9, -1, -1, -1, -1)}
    judged = objective.judge(still, EncoderBank(encoders))  # with one clip for all, right and wrong are one
    torch.testing.assert_close(judged["nll"].values, judged["nll_wrong_video"].values)
    assert not judged["gain"].values.any() and judged["gain"].chance == 0.0
    assert judged["nll"].chance == pytest.approx(math.log(TINY_WORDS.size))
    judged = objective.judge(batch, EncoderBank(encoders))
    assert not torch.allclose(judged["nll"].values, judged["nll_wrong_video"].values)


def test_padding_changes_nothing():
    """One ordinary token, always behind the mask: no lot decides anything."""
    objective, encoders = objective_and_encoders(masked=1.0, random=0.0)
    batch = short(6, 0)
    longer = batch | {"text": torch.cat([batch["text"], torch.full((6, 1, 3), PAD)], dim=-1)}
    losses = [objective(each, EncoderBank(encoders)) for each in (batch, longer)]
    assert losses[0].value.item() == pytest.approx(losses[1].value.item(), rel=1e-5)
    assert losses[0].metrics["hidden"] == losses[1].metrics["hidden"] == 1.0


def test_places_of_cells_differ():
    waves = place_waves(2, 3, 4, torch.device("cpu")).flatten(0, 2)
    assert waves.shape == (24, 24)
    assert torch.cdist(waves, waves).add(torch.eye(24) * 9).min() > 0.1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"share": 0.0}, "share 0.0"),
        ({"masked": 0.9, "random": 0.2}, "random 0.2"),
        ({"heads": 3}, "heads 3"),
        ({"layers": 0}, "layers 0"),
        ({"views": CaptionViews(candidates=2)}, "candidates is 2"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        objective_and_encoders(**arguments)
