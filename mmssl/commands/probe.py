"""`mmssl probe`: how good is a representation? Measured on labelled clips that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmssl.commands._probe_localization import soundnet, toyworld, vggss
from mmssl.commands._probe_options import (
    AllowMissing,
    Clips,
    Data,
    Device,
    Folds,
    Group,
    Lists,
    MinFiles,
    Out,
    Plot,
    Protocol,
    Role,
    Run,
    Seed,
    SplitName,
    Step,
    numbers,
    perform,
)
from mmssl.commands.probe_davis import davis
from mmssl.commands.probe_jhmdb import jhmdb
from mmssl.commands.probe_retrieval import retrieval

if TYPE_CHECKING:
    from mmssl.downstream.probe.probes import Bench, Result


def knn(
    run: Run,
    data: Data,
    k: Annotated[str, typer.Option(help="Neighbours that vote, separated by commas.")] = "20,200",
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Each clip against all others of other groups, instead of the splits.")
    ] = False,
    protocol: Protocol = None,
    lists: Lists = None,
    split: SplitName = "all",
    role: Role = None,
    clips: Clips = 4,
    group: Group = None,
    folds: Folds = 5,
    min_files: MinFiles = 0,
    allow_missing: AllowMissing = False,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """k nearest neighbours on frozen features: nothing to train, nothing to tune. The first probe to try.

    Weighted votes by cosine (Wu et al. 2018). Every figure stands with its 95 % interval, beside the same encoder with random
    weights, a hand-made baseline (colour histogram, or mean spectrum) and the most frequent class.

    Example: mmssl probe knn runs/first labelled/ --k 20,200
    """
    from mmssl.downstream.probe.probes import probe_knn

    ks = numbers(k, "--k", int)

    def method(bench: Bench) -> Result:
        return probe_knn(bench, ks=ks, leave_one_out=leave_one_out)

    perform(
        run,
        data,
        method,
        protocol=protocol,
        lists=lists,
        split=split,
        role=role,
        views=clips,
        group=group,
        folds=folds,
        min_files=min_files,
        allow_missing=allow_missing,
        out=out,
        plot=plot,
        seed=seed,
        step=step,
        device=device,
    )


def linear(
    run: Run,
    data: Data,
    protocol: Protocol = None,
    lists: Lists = None,
    split: SplitName = "all",
    role: Role = None,
    clips: Clips = 4,
    group: Group = None,
    folds: Folds = 5,
    min_files: MinFiles = 0,
    allow_missing: AllowMissing = False,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """Logistic regression on frozen features.

    Its strength of regularization is chosen on a validation part that is cut from the training part by group, never on the test
    part; then it is fitted again on both. Shares its features with `mmssl probe knn`.

    Example: mmssl probe linear runs/first UCF101/ --split 1
    """
    from mmssl.downstream.probe.probes import probe_linear as method

    perform(
        run,
        data,
        method,
        protocol=protocol,
        lists=lists,
        split=split,
        role=role,
        views=clips,
        group=group,
        folds=folds,
        min_files=min_files,
        allow_missing=allow_missing,
        out=out,
        plot=plot,
        seed=seed,
        step=step,
        device=device,
    )


def attentive(
    run: Run,
    data: Data,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training part; default: 20, and more until there are 500 steps.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips in a step.")] = 64,
    lr: Annotated[
        str, typer.Option(help="Learning rate; of several, separated by commas, the best on the validation part.")
    ] = "3e-4,1e-3",
    weight_decay: Annotated[float, typer.Option(min=0.0, help="Of AdamW.")] = 0.05,
    cells: Annotated[int, typer.Option(min=1, help="Larger grids are averaged down to so many cells on a side.")] = 8,
    protocol: Protocol = None,
    lists: Lists = None,
    split: SplitName = "all",
    role: Role = None,
    clips: Clips = 4,
    group: Group = None,
    folds: Folds = 5,
    min_files: MinFiles = 0,
    allow_missing: AllowMissing = False,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """A learnt query that attends to the frozen encoder's grid, and a linear classifier (V-JEPA, Bardes et al. 2024).

    Reads what the mean over the picture loses. The encoder itself is not trained.

    Example: mmssl probe attentive runs/first labelled/ --epochs 20 --lr 3e-4,1e-3
    """
    from mmssl.downstream.probe.fitting import Recipe
    from mmssl.downstream.probe.probes import probe_attentive

    rates = numbers(lr, "--lr", float)
    recipe = Recipe(epochs or 20, batch, 0.0, weight_decay, least_steps=0 if epochs else 500)

    def method(bench: Bench) -> Result:
        return probe_attentive(bench, recipe, rates, cells=cells)

    perform(
        run,
        data,
        method,
        protocol=protocol,
        lists=lists,
        split=split,
        role=role,
        views=clips,
        group=group,
        folds=folds,
        min_files=min_files,
        allow_missing=allow_missing,
        out=out,
        plot=plot,
        seed=seed,
        step=step,
        device=device,
    )


def finetune(
    run: Run,
    data: Data,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training part; default: 30, and more until there are 500 steps.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips in a step.")] = 32,
    lr: Annotated[
        str, typer.Option(help="Learning rate; of several, separated by commas, the best on the validation part.")
    ] = "1e-3",
    weight_decay: Annotated[float, typer.Option(min=0.0, help="Of AdamW.")] = 0.05,
    layer_decay: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Each layer learns at so much of the rate of the one above it.")
    ] = 1.0,
    protocol: Protocol = None,
    lists: Lists = None,
    split: SplitName = "all",
    role: Role = None,
    clips: Clips = 4,
    group: Group = None,
    folds: Folds = 5,
    min_files: MinFiles = 0,
    allow_missing: AllowMissing = False,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """Train the whole encoder on the labels, with a linear classifier on top.

    "random init" is the same training from scratch. In training one random cut of each clip, mirrored and cropped; in testing the
    mean of the probabilities of --clips cuts.

    Example: mmssl probe finetune runs/first labelled/ --epochs 30 --lr 1e-3 --device cuda
    """
    from mmssl.downstream.probe.fitting import Recipe
    from mmssl.downstream.probe.probes import probe_finetune

    rates = numbers(lr, "--lr", float)
    recipe = Recipe(epochs or 30, batch, 0.0, weight_decay, layer_decay, 0 if epochs else 500)

    def method(bench: Bench) -> Result:
        return probe_finetune(bench, recipe, rates)

    perform(
        run,
        data,
        method,
        protocol=protocol,
        lists=lists,
        split=split,
        role=role,
        views=clips,
        group=group,
        folds=folds,
        min_files=min_files,
        allow_missing=allow_missing,
        out=out,
        plot=plot,
        seed=seed,
        step=step,
        device=device,
    )


probe = typer.Typer(
    help="How good is a representation? On labelled clips, in retrieval, in localization, in tracking.",
    no_args_is_help=True,
)
# Each part of the group is a function, named as its command: those above, and those of the modules beside it.
PARTS = (knn, linear, attentive, finetune, retrieval, soundnet, vggss, toyworld, davis, jhmdb)
for _part in PARTS:
    probe.command(_part.__name__)(_part)
