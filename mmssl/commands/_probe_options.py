"""The arguments that all probes share, and how their outcome is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmssl.commands._places import new_file

if TYPE_CHECKING:
    from mmssl.downstream.probe.probes import Bench, Result

Run = Annotated[Path, typer.Argument(help="Folder of a trained run.")]
Data = Annotated[
    Path,
    typer.Argument(help="Labelled clips: a folder (of a dataset, or with a folder for each class), a manifest, or a CSV file."),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        help="ucf101, hmdb51, kinetics, ssv2, esc50, audioset, speech_commands, folder or csv; default: what DATA is laid out for."
    ),
]
Lists = Annotated[Path | None, typer.Option(help="Folder of the protocol's lists, or a CSV file, where they do not lie in DATA.")]
SplitName = Annotated[str, typer.Option(help="1, 2, 3 ... or all.")]
Role = Annotated[str | None, typer.Option(help="Which encoder of the run: video, audio ...; default: what the set is about.")]
Clips = Annotated[int, typer.Option(min=1, help="Cuts of each clip, spread over its length.")]
Group = Annotated[
    str | None,
    typer.Option(help="Of your own clips: regular expression on their names; clips that match with the same text stay together."),
]
Folds = Annotated[int, typer.Option(min=2, help="Of your own clips without splits: folds of the cross-validation.")]
MinFiles = Annotated[int, typer.Option(min=0, help="Of your own clips: leave classes with fewer files out.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Be content with the clips that are there, and say so.")]
Out = Annotated[Path | None, typer.Option(help="JSON file for the figures; default: in the run.", callback=new_file)]
Plot = Annotated[Path | None, typer.Option(help="Write a chart of the figures with their intervals (.png).", callback=new_file)]
Seed = Annotated[int, typer.Option(min=0, help="Of folds, validation parts and trained heads.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]


def perform(
    run: Path,
    data: Path,
    method: Callable[[Bench], Result],
    *,
    protocol: str | None,
    lists: Path | None,
    split: str,
    group: str | None,
    folds: int,
    min_files: int,
    allow_missing: bool,
    plot: Path | None,
    seed: int,
    **more: Any,
) -> None:
    """Probe, and print the table, what to know of it, and where it is kept."""
    from rich.console import Console

    from mmssl.downstream.probe.lists_own import Cutting
    from mmssl.downstream.probe.outcome import outcome_table, warnings_of
    from mmssl.downstream.probe.protocols import Request
    from mmssl.types import InputError
    from mmssl.usage import probe_run

    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError(f"--plot names a PNG file and ends in .png, got {plot}")
    cutting = Cutting(folds=folds, group=group, min_files=min_files, seed=seed)
    request = Request(data, protocol, lists, split, allow_missing, cutting)
    found = probe_run(run, request, method, allow_missing=allow_missing, seed=seed, **more)
    console = Console()
    console.print(found["read_as"], highlight=False, markup=False, soft_wrap=True)
    console.print(outcome_table(found))
    for line in warnings_of(found):
        console.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(found["file"], highlight=False, markup=False, soft_wrap=True)
    if plot is not None:
        from mmssl.downstream.probe.chart import write_chart

        console.print(f"chart: {write_chart(found, plot)}", highlight=False, markup=False, soft_wrap=True)


def numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    """Numbers separated by commas. Raises `InputError` for anything else."""
    from mmssl.types import InputError

    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{option} is {text!r}; give numbers separated by commas") from error
