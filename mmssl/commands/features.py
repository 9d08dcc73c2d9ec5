"""`mmssl features`: embeddings of a folder of clips over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def features(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    folder: Annotated[Path, typer.Argument(help="Folder of clips, or a manifest written by `mmssl index`.")],
    out: Annotated[Path, typer.Argument(help="Folder for the Parquet parts; an interrupted one is gone on with.")],
    modality: Annotated[str, typer.Option(help="Which to embed, separated by commas.")] = "video,audio",
    stride: Annotated[float, typer.Option(help="Seconds from one window to the next.")] = 1.0,
    space: Annotated[
        str, typer.Option(help="encoder: pooled features; joint: the space that picture and sound share.")
    ] = "joint",
    half: Annotated[bool, typer.Option("--half", help="float16 instead of float32.")] = False,
    objective: Annotated[str | None, typer.Option(help="Which objective of the run; default: the first that localizes.")] = None,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Embed every clip of a folder, window by window, into Parquet.

    One row for each window and modality: id, path, modality, start, end, embedding. Files that cannot be read, or lack a
    modality, are counted and listed in failed.json. Ctrl-C loses at most one part; start the same command again to go on.

    Example: mmssl features runs/demo clips/ features/ --modality video,audio --stride 0.5
    """
    from rich.console import Console

    from mmssl.types import InputError
    from mmssl.usage import features_run

    if space not in ("encoder", "joint"):
        raise InputError(f"--space is {space!r}; it is encoder or joint")
    wanted = tuple(dict.fromkeys(part.strip() for part in modality.split(",") if part.strip()))
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
    console.print(f"{found.sources} files{done}, windows: {rows}; in {found.out}", highlight=False, markup=False)
    if found.failed:
        console.print(
            f"{len(found.failed)} files gave nothing or not all; the reasons are in {found.out / 'failed.json'}:", markup=False
        )
        for name, reason in list(found.failed.items())[:5]:
            console.print(f"  {name}: {reason}", highlight=False, markup=False)
