"""`mmssl probe davis`: objects followed through DAVIS, by the official definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_folder
from mmssl.commands._tracking import (
    AllowMissing,
    Baselines,
    Device,
    Memory,
    Objective,
    Radius,
    Step,
    Temperature,
    Top,
    WholeFirst,
    propagation,
)


def davis(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    root: Annotated[Path, typer.Argument(help="DAVIS as downloaded: JPEGImages/480p, Annotations/480p, ImageSets.")],
    year: Annotated[int, typer.Option(help="2017: each object by itself, 30 sequences; 2016: one object, 20 sequences.")] = 2017,
    out: Annotated[
        Path | None, typer.Option(help="Folder for davis-YEAR.json and .csv; default: the run.", callback=new_folder)
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the masks found, TRACKER/SEQUENCE/00000.png, as the official tools read them.", callback=new_folder
        ),
    ] = None,
    baselines: Baselines = True,
    allow_missing: AllowMissing = False,
    memory: Memory = 20,
    radius: Radius = 12.0,
    top: Top = 10,
    temperature: Temperature = 0.05,
    whole_first: WholeFirst = False,
    short_side: Annotated[
        int | None, typer.Option(help="Pixels to which frames are shrunk for the encoder; default: as they are.")
    ] = None,
    objective: Objective = None,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """Follow the objects of DAVIS val from their first frame's masks: J, F, J&F, recall and decay.

    Definitions are those of the official tools; the first and the last frame do not count. Only exactly the benchmark's sequences bear its name: anything else
    is refused, or, with --allow-missing, said.

    Example: mmssl probe davis runs/walk DAVIS/ --year 2017
    """
    from typing import cast

    from rich.console import Console

    from mmssl.downstream.probe.davis import VAL, Year
    from mmssl.downstream.probe.tracking_tables import davis_table
    from mmssl.tracking import davis_run
    from mmssl.types import InputError

    if year not in VAL:
        raise InputError(f"--year is {year}; DAVIS val is of {' or '.join(map(str, VAL))}")
    figures, path = davis_run(
        run,
        root,
        year=cast(Year, year),
        out=out,
        masks_out=masks,
        baselines=baselines,
        settings=propagation(memory, radius, top, temperature, whole_first),
        short_side=short_side,
        allow_missing=allow_missing,
        objective=objective,
        step=step,
        device=device,
    )
    console = Console(soft_wrap=True)
    console.print(davis_table(figures))
    for problem in figures.davis.problems:
        console.print(f"Not the benchmark: {problem}.", highlight=False, markup=False)
    console.print(f"{path}  and each object in  {path.with_suffix('.csv')}", highlight=False, markup=False, soft_wrap=True)
