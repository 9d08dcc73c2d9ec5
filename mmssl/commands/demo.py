"""`mmssl demo`: everything once, on the embedded default corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_folder


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the toy world, the run, the heatmap video and the report.", callback=new_folder)
    ] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="How long it may take in all; the training gets what is left.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of the initial weights and of all draws.")] = 0,
) -> None:
    """Learn which things make which sounds, from videos alone, in minutes: no labels, no downloads, no GPU needed.

    Makes a toy world of short videos, indexes it, trains two audio-visual objectives together, evaluates them on clips that were kept
    back, draws a heatmap video of one, and writes a report. Ends by saying what was learnt, against chance, and how to do the same
    with your own folder. Started again in the same folder, it goes on where it stopped.

    Example: mmssl demo --out demo --minutes 8
    """
    from mmssl.demo import run_demo

    run_demo(out, minutes=minutes, seed=seed)
