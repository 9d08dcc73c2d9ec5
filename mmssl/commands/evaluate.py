"""`mmssl evaluate`: held-out figures of a run, with intervals, against chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    data: Annotated[
        Path | None, typer.Argument(help="A folder or manifest to evaluate on; default: what the run held out.")
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Sources used, at most.")] = 300,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Measure what a run has learnt, on sources that it never saw.

    Correspondence accuracy, retrieval among 100 both ways, and, where the truth is known, localization beside baselines that
    hear nothing. Every figure has its 95 % interval over sources. Thresholds come from training sources only. Writes
    evaluation.json into the run (into RUN/evaluation-NAME.json for other data).

    Example: mmssl evaluate runs/demo --clips 300
    """
    from rich.console import Console

    from mmssl.downstream.evaluation_table import evaluation_tables
    from mmssl.usage import evaluate_run

    found = evaluate_run(run, data, clips=clips, step=step, device=device)
    console = Console()
    for table in evaluation_tables(found):
        console.print(table)
