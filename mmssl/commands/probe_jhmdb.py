"""`mmssl probe jhmdb`: joints followed through JHMDB, by PCK."""

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


def jhmdb(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    root: Annotated[Path, typer.Argument(help="JHMDB as downloaded: Rename_Images, joint_positions, splits.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for jhmdb.json and .csv; default: the run.", callback=new_folder)
    ] = None,
    baselines: Baselines = True,
    allow_missing: AllowMissing = False,
    memory: Memory = 20,
    radius: Radius = 12.0,
    top: Top = 10,
    temperature: Temperature = 0.05,
    whole_first: WholeFirst = False,
    objective: Objective = None,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """Follow the joints of JHMDB's test videos (split 1) from their first frames: PCK at 0.1 to 0.5.

    Distances are measured in sizes of the person as in the published evaluations, frames squeezed to 320 x 320 as there. Only all 268 videos bear the
    benchmark's name: anything else is refused, or, with --allow-missing, said.

    Example: mmssl probe jhmdb runs/walk JHMDB/
    """
    from rich.console import Console

    from mmssl.downstream.probe.tracking_tables import jhmdb_table
    from mmssl.tracking import jhmdb_run

    figures, path = jhmdb_run(
        run,
        root,
        out=out,
        baselines=baselines,
        settings=propagation(memory, radius, top, temperature, whole_first),
        allow_missing=allow_missing,
        objective=objective,
        step=step,
        device=device,
    )
    console = Console(soft_wrap=True)
    console.print(jhmdb_table(figures))
    for problem in figures.jhmdb.problems:
        console.print(f"Not the benchmark: {problem}.", highlight=False, markup=False)
    console.print(f"{path}  and each video in  {path.with_suffix('.csv')}", highlight=False, markup=False, soft_wrap=True)
