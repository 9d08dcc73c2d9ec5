"""`mmssl report`: one page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_file


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="Page to write. Default: report.html in the run.", callback=new_file)] = None,
    clips: Annotated[
        int, typer.Option(min=2, help="Held-out sources for the figures, where they were not measured before.")
    ] = 300,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Write one self-contained HTML page of a run.

    Figures on held-out clips against chance, localization and retrieval examples, training curves, data left out and why,
    speed, config and versions. Everything is inside the page: it opens without a network and can be sent as it is. Evaluates
    the run first, where `mmssl evaluate` has not.

    Example: mmssl report runs/demo
    """
    from rich.console import Console

    from mmssl.usage import report_run

    written = report_run(run, out, clips=clips, step=step, device=device)
    Console(soft_wrap=True).print(str(written), highlight=False, markup=False)
