"""`mmssl localize`: which part of the picture makes the sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_file


def localize(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    video: Annotated[Path, typer.Argument(help="Any film with picture and sound.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="Heatmap film to write (.mp4), with .npz and .json beside it; or a .json, without film.", callback=new_file
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the .json on stdout, and nothing else.")] = False,
    sources: Annotated[int, typer.Option(help="Look for so many sources and give each a map and a colour; 0: one map.")] = 0,
    classes: Annotated[
        Path | None, typer.Option(help="A map for each class of sounds: a folder of examples, dog/bark.wav, bell/ring.wav ...")
    ] = None,
    smooth: Annotated[float, typer.Option(help="Average maps and scores over so many seconds; 0: not at all.")] = 0.0,
    steady: Annotated[float, typer.Option(help="The same for scores alone: claims flicker less, maps stay sharp.")] = 0.5,
    stereo: Annotated[
        str, typer.Option(help="ignore: the mean of the channels; use: a hand-made prior from their levels.")
    ] = "ignore",
    objective: Annotated[str | None, typer.Option(help="Which objective of the run; default: the first that localizes.")] = None,
    fps: Annotated[float, typer.Option(help="Maps a second; the film itself keeps its own rate, up to 30.")] = 10.0,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Show where a sound comes from: a heatmap over the film, with its original sound, and boxes and times as JSON.

    Colours lie on one scale for the whole film. Where nothing in view seems to make the sound, the film and the last line
    say so. Files of any length are read in constant memory.

    Example: mmssl localize runs/demo holiday.mp4 heat.mp4
    """
    import shutil
    import sys

    from rich.console import Console

    from mmssl.types import InputError
    from mmssl.usage import localize_run

    if stereo not in ("ignore", "use"):
        raise InputError(f"--stereo is {stereo!r}; it is ignore or use")
    found = localize_run(
        run,
        video,
        out,
        objective=objective,
        fps=fps,
        smooth=smooth,
        steady=steady,
        stereo=stereo == "use",
        sources=sources,
        classes=classes,
        step=step,
        device=device,
    )
    if as_json:
        with found.findings.open(encoding="utf-8") as file:  # piece by piece: hours of film are many megabytes
            shutil.copyfileobj(file, sys.stdout)
        return
    console = Console(soft_wrap=True)
    console.print(found.sentence(), highlight=False, markup=False)
    beside = f"; the maps in  {found.maps}" if found.maps else ""
    film = f"{found.film}  and  " if found.film else ""
    console.print(f"{film}{found.findings}{beside}", highlight=False, markup=False, soft_wrap=True)
