"""The four probes, each on the trained encoder, on the same encoder with random weights, and beside a hand-made baseline.

k nearest neighbours and the linear probe read one vector a clip: the mean of the pooled features of its K views. Averaging features and not
probabilities keeps training and testing alike (both see means of K views), and costs one fit for any K. The attentive probe reads the tokens
of all K views at once. Fine-tuning trains on single views and averages the probabilities of K.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from mmssl.downstream.probe.attentive import head_scores, train_head, with_rate
from mmssl.downstream.probe.clips import Cut, cut_of
from mmssl.downstream.probe.embed import Bank, Embedder, extract, pooled, tokens
from mmssl.downstream.probe.finetune import finetune, mean_probabilities
from mmssl.downstream.probe.fitting import Recipe
from mmssl.downstream.probe.folds import validation_cut
from mmssl.downstream.probe.handmade import handmade
from mmssl.downstream.probe.knn import TEMPERATURE, knn_scores
from mmssl.downstream.probe.labelled import Labelled, Split
from mmssl.downstream.probe.linear import Part, linear_scores
from mmssl.downstream.probe.scoring import Scores, Trial, judge, most_frequent
from mmssl.encoders.base import Encoder
from mmssl.types import InputError

TRAINED, UNTRAINED = "trained", "random init"
Meter = Callable[[str, int, int], None]  # what is going on, how much of it is done, of how much


def silent(what: str, done: int, total: int) -> None:
    """A meter that shows nothing."""
    del what, done, total


@dataclass(slots=True)
class Bench:
    """A labelled set, and the encoder that is to be probed on it."""

    labelled: Labelled
    encoder: Encoder
    untrained: Encoder  # the same architecture with other random weights
    views: int = 4
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    allow_missing: bool = False
    meter: Meter = silent

    @property
    def cut(self) -> Cut:
        """How clips are cut for this encoder."""
        return cut_of(self.encoder)


@dataclass(slots=True)
class Result:
    """All contenders of one probe, and how they were set up."""

    probe: str
    labelled: Labelled  # as it was tested: without what could not be decoded
    splits: tuple[Split, ...]
    trials: list[Trial]  # the trained encoder comes first
    settings: dict[str, Any]


def probe_knn(bench: Bench, *, ks: Sequence[int] = (20, 200), leave_one_out: bool = False) -> Result:
    """k nearest neighbours, see `mmssl.downstream.probe.knn`.

    Args:
        bench: set and encoders.
        ks: neighbours; more than there are training clips means all of them.
        leave_one_out: every clip against all others of other groups, instead of the splits.

    Raises:
        InputError: clips cannot be decoded, or `ks` are none.
    """
    if not ks or min(ks) < 1:
        raise InputError(
            f"--k is {', '.join(map(str, ks)) or 'empty'}; give numbers of neighbours from 1 on, separated by commas"
        )
    frozen = _freeze(bench, _vectors(bench))
    labelled, splits = frozen.labelled, frozen.labelled.splits
    if leave_one_out:
        every = tuple(range(len(labelled.items)))
        splits = (Split("leave one out", every, every),)
    own = max(Counter(item.group for item in labelled.items).values()) if leave_one_out else 0  # clips that may not vote
    fewest = min(len(split.train) + len(split.validation) for split in splits) - own
    ks = sorted({min(k, fewest) for k in ks})
    targets, classes = labelled.targets(labelled.listing.multi_label), len(labelled.listing.classes)
    place = {group: number for number, group in enumerate(dict.fromkeys(item.group for item in labelled.items))}
    group = np.array([place[item.group] for item in labelled.items])
    trials: list[Trial] = []
    for name in frozen.banks:
        votes: list[dict[int, Scores]] = []
        for split in splits:
            learnt, test = np.array([*split.train, *split.validation]), np.array(split.test)
            barred = (group[learnt], group[test]) if leave_one_out else None
            rows = frozen.rows(name, learnt), targets[learnt], frozen.rows(name, test)
            votes.append(knn_scores(*rows, classes, ks, barred=barred, device=bench.device))
        trials += [Trial(name, f"k = {k}", tuple(each[k] for each in votes)) for k in ks]
    trials.append(most_frequent(labelled, splits))
    settings = {"k": list(ks), "temperature": TEMPERATURE, "leave_one_out": leave_one_out}
    return Result("knn", labelled, splits, trials, settings)


def probe_linear(bench: Bench) -> Result:
    """Logistic regression on frozen features, see `mmssl.downstream.probe.linear`.

    Raises:
        InputError: clips cannot be decoded.
    """
    frozen = _freeze(bench, _vectors(bench))
    trials = [_linear_trial(bench, frozen, name) for name in frozen.banks]
    return Result(
        "linear", frozen.labelled, frozen.labelled.splits, [*trials, most_frequent(frozen.labelled, frozen.labelled.splits)], {}
    )


def probe_attentive(bench: Bench, recipe: Recipe, rates: Sequence[float], *, cells: int = 8) -> Result:
    """A trained query over the tokens of a frozen encoder, see `mmssl.downstream.probe.attentive`.

    Args:
        bench: set and encoders.
        recipe: how to train the head.
        rates: learning rates; of several the best on the validation part is taken.
        cells: grids with more cells on a side are averaged down to so many.

    Raises:
        InputError: clips cannot be decoded, or the loss is not finite.
    """
    embedders = {
        TRAINED: tokens(bench.encoder, bench.device, cells),
        UNTRAINED: tokens(bench.untrained, bench.device, cells),
    }
    baseline = handmade(bench.cut)
    frozen = _freeze(bench, {**embedders, baseline.name: baseline})
    labelled, several = frozen.labelled, frozen.labelled.listing.multi_label
    targets, classes, kept = labelled.targets(several), len(labelled.listing.classes), np.array(frozen.kept)
    trials: list[Trial] = []
    for name in embedders:
        bank = frozen.banks[name]

        def scores_of(places: tuple[int, ...], test: tuple[int, ...], lr: float, what: str, bank: Bank = bank) -> Scores:
            now, at = with_rate(recipe, lr), kept[list(places)]
            step = _steps(bench.meter, what, now.steps(len(at)))
            head = train_head(bank, at, targets[list(places)], classes, now, seed=bench.seed, device=bench.device, on_step=step)
            return head_scores(head, bank, kept[list(test)], bench.device)

        trials.append(_swept_trial(bench, labelled, name, rates, recipe.steps, scores_of))
    trials += [_linear_trial(bench, frozen, baseline.name), most_frequent(labelled, labelled.splits)]
    return Result("attentive", labelled, labelled.splits, trials, {**asdict(recipe), "lr": list(rates), "cells": cells})


def probe_finetune(bench: Bench, recipe: Recipe, rates: Sequence[float]) -> Result:
    """The encoder trained on, end to end, see `mmssl.downstream.probe.finetune`. "random init" is the same training from scratch.

    Args:
        bench: set and encoders.
        recipe: how to train.
        rates: learning rates; of several the best on the validation part is taken.

    Raises:
        InputError: clips cannot be decoded, or the loss is not finite.
    """
    baseline = handmade(bench.cut)
    frozen = _freeze(bench, {baseline.name: baseline})  # also finds out what cannot be decoded, before anything is trained
    labelled, several = frozen.labelled, frozen.labelled.listing.multi_label
    targets, classes = labelled.targets(several), len(labelled.listing.classes)
    trials: list[Trial] = []
    for name, encoder in ((TRAINED, bench.encoder), (UNTRAINED, bench.untrained)):

        def scores_of(places: tuple[int, ...], test: tuple[int, ...], lr: float, what: str, encoder: Encoder = encoder) -> Scores:
            now, sources = with_rate(recipe, lr), [labelled.sources[place] for place in places]
            model = finetune(
                encoder,
                sources,
                targets[list(places)],
                classes,
                bench.cut,
                now,
                mirrored=labelled.listing.mirrored,
                seed=bench.seed,
                device=bench.device,
                on_step=_steps(bench.meter, what, now.steps(len(sources))),
            )
            tested = [labelled.sources[place] for place in test]
            return mean_probabilities(model, tested, bench.cut, bench.views, several=several, device=bench.device)

        trials.append(_swept_trial(bench, labelled, name, rates, recipe.steps, scores_of))
    trials += [_linear_trial(bench, frozen, baseline.name), most_frequent(labelled, labelled.splits)]
    return Result("finetune", labelled, labelled.splits, trials, {**asdict(recipe), "lr": list(rates)})


@dataclass(slots=True)
class _Frozen:
    """Features of what could be decoded."""

    labelled: Labelled
    banks: dict[str, Bank]
    kept: list[int]  # position in `labelled` -> position in the banks

    def rows(self, name: str, places: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.banks[name].rows(np.array(self.kept)[np.asarray(places, dtype=np.int64)])


def _vectors(bench: Bench) -> dict[str, Embedder]:
    baseline = handmade(bench.cut)
    return {
        TRAINED: pooled(bench.encoder, bench.device),
        UNTRAINED: pooled(bench.untrained, bench.device),
        baseline.name: baseline,
    }


def _freeze(bench: Bench, embedders: Mapping[str, Embedder]) -> _Frozen:
    if bench.views < 1:
        raise InputError(f"--clips is {bench.views}; take at least one view of each file")
    total, done = len(bench.labelled.sources), 0

    def on_clips(count: int) -> None:
        nonlocal done
        done += count
        bench.meter("reading clips", done, total)

    bench.meter("reading clips", 0, total)
    banks = extract(bench.labelled, embedders, bench.cut, bench.views, on_clips=on_clips)
    failed = next(iter(banks.values())).failed
    labelled = bench.labelled.without(failed, allow_missing=bench.allow_missing)
    return _Frozen(labelled, banks, [place for place in range(total) if place not in failed])


def _linear_trial(bench: Bench, frozen: _Frozen, name: str) -> Trial:
    labelled = frozen.labelled
    targets = labelled.targets(labelled.listing.multi_label)
    scores, about = [], []
    for number, split in enumerate(labelled.splits):
        bench.meter(f"linear probe, {name}", number, len(labelled.splits))
        fit, validation = validation_cut(labelled.items, split, seed=bench.seed)
        parts = [
            Part(frozen.rows(name, place) if place else np.zeros((0, 1)), targets[list(place)]) for place in (fit, validation)
        ]
        found = linear_scores(parts[0], parts[1], frozen.rows(name, split.test), len(labelled.listing.classes), judge)
        scores.append(found.scores)
        about.append({"fit": len(fit), "validation_clips": len(validation), **found.about()})
    bench.meter(f"linear probe, {name}", len(labelled.splits), len(labelled.splits))
    return Trial(name, "", tuple(scores), tuple(about))


def _swept_trial(
    bench: Bench,
    labelled: Labelled,
    name: str,
    rates: Sequence[float],
    steps_of: Callable[[int], int],
    scores_of: Callable[[tuple[int, ...], tuple[int, ...], float, str], Scores],
) -> Trial:
    """Choose the learning rate on the validation part where there are several, then train on all but the test part."""
    if not rates or min(rates) <= 0:
        raise InputError(
            f"--lr is {', '.join(f'{rate:g}' for rate in rates) or 'empty'}; give learning rates above 0, separated by commas"
        )
    targets = labelled.targets(labelled.listing.multi_label)
    scores, about = [], []
    for split in labelled.splits:
        fit, validation = validation_cut(labelled.items, split, seed=bench.seed)
        swept: dict[float, float] = {}
        if len(rates) > 1 and validation:
            for rate in rates:
                found = scores_of(fit, validation, rate, f"{name}, split {split.name}, lr {rate:g}")
                swept[rate] = judge(found, targets[list(validation)])
        chosen = max(swept, key=lambda rate: (swept[rate], -rate)) if swept else rates[0]
        learnt = tuple(sorted({*split.train, *split.validation}))
        scores.append(scores_of(learnt, split.test, chosen, f"{name}, split {split.name}, lr {chosen:g}"))
        about.append(
            {
                "lr": chosen,
                "steps": steps_of(len(learnt)),
                "validation": {f"{rate:g}": round(value, 6) for rate, value in swept.items()},
            }
        )
    return Trial(name, "", tuple(scores), tuple(about))


def _steps(meter: Meter, what: str, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        meter(what, done, total)

    return step
