"""`mmssl features`: embeddings of a folder of clips or texts over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_folder


def features(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    folder: Annotated[Path, typer.Argument(help="Folder of clips or texts, or a manifest written by `mmssl index`.")],
    out: Annotated[
        Path, typer.Argument(help="Folder for the Parquet parts; an interrupted one is gone on with.", callback=new_folder)
    ],
    modality: Annotated[
        str | None, typer.Option(help="video, audio, text or flow, separated by commas; default: all that the objective reads.")
    ] = None,
    stride: Annotated[float, typer.Option(help="Seconds from one window to the next.")] = 1.0,
    space: Annotated[
        str,
        typer.Option(
            help="joint: the space that the objective's modalities share; encoder: pooled features; auto: joint if any."
        ),
    ] = "auto",
    half: Annotated[bool, typer.Option("--half", help="float16 instead of float32.")] = False,
    objective: Annotated[
        str | None, typer.Option(help="Which objective of the run; default: the first that has the modalities.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Embed every clip of a folder, window by window, into Parquet; texts and captions sentence by sentence.

    One row for each window and modality: id, path, modality, start, end, embedding. Files that cannot be read, or lack a
    modality, are counted and listed in failed.json. Ctrl-C loses at most one part; start the same command again to go on.
    Works with runs of every objective.

    Example: mmssl features runs/demo clips/ features/ --modality video,audio --stride 0.5
    """
    from rich.console import Console

    from mmssl.usage import features_run

    wanted = tuple(dict.fromkeys(part.strip() for part in (modality or "").split(",") if part.strip()))
    found = features_run(
        run,
        folder,
        out,
        modalities=wanted,
        stride=stride,
        space=space,
        half=half,
        objective=objective,
        step=step,
        device=device,
    )
    console = Console(soft_wrap=True)
    rows = ", ".join(f"{count} of {role}" for role, count in found.rows.items())
    done = f" ({found.skipped} were done before)" if found.skipped else ""
    what = f"{'joint space' if found.space == 'joint' else 'encoders'} of {found.objective}"
    console.print(
        f"{found.sources} files{done}, {what}, windows: {rows}; in {found.out}", highlight=False, markup=False, soft_wrap=True
    )
    if found.by_cells and len(found.rows) > 1:
        console.print(
            f"{found.objective} compares a picture by its best part, which one vector of a picture does not hold: cosines of these pictures "
            "with these sounds say little. `mmssl search` keeps the parts; docs/features.md says more.",
            markup=False,
        )
    if found.failed:
        console.print(
            f"{len(found.failed)} files gave nothing or not all; the reasons are in {found.out / 'failed.json'}:", markup=False
        )
        for name, reason in list(found.failed.items())[:5]:
            console.print(f"  {name}: {reason}", highlight=False, markup=False)
