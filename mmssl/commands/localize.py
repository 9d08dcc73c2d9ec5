"""`mmssl localize`: which part of the picture makes the sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def localize(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    video: Annotated[Path, typer.Argument(help="Any film with picture and sound.")],
    out: Annotated[Path, typer.Argument(help="Heatmap film to write (.mp4); the maps go beside it (.npz).")],
    objective: Annotated[str | None, typer.Option(help="Which objective of the run; default: the first that localizes.")] = None,
    fps: Annotated[float, typer.Option(help="Maps a second; the film itself keeps its own rate, up to 30.")] = 10.0,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Show where a sound comes from: a heatmap over the film, with its original sound.

    Colours lie on one scale for the whole film. Where nothing in view seems to make the sound, the film and the last line
    say so. Files of any length are read in constant memory.

    Example: mmssl localize runs/demo holiday.mp4 heat.mp4
    """
    from rich.console import Console

    from mmssl.usage import localize_run

    found = localize_run(run, video, out, objective=objective, fps=fps, step=step, device=device)
    console = Console(soft_wrap=True)
    console.print(found.sentence(), highlight=False, markup=False)
    console.print(f"{found.film}  and the maps in  {found.maps}", highlight=False, markup=False)
