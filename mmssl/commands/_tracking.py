"""Options that all commands that track have, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmssl.downstream.propagate import Propagation

Memory = Annotated[int, typer.Option(help="Latest frames that are looked at, beside the first.")]
Radius = Annotated[float, typer.Option(help="How far things may go, in cells of the encoder; inf for anywhere.")]
Top = Annotated[int, typer.Option(help="Cells that a label is mixed from.")]
Temperature = Annotated[float, typer.Option(help="Of that mixture; lower trusts the most alike more.")]
WholeFirst = Annotated[bool, typer.Option("--whole-first", help="Look at all of the first frame, whatever the radius.")]
Objective = Annotated[str | None, typer.Option(help="Which objective of the run; default: the first that tracks.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Evaluate what is there; never called by the benchmark's name.")
]
Baselines = Annotated[
    bool, typer.Option(help="Measure what stays where it is, optical flow, and the encoder before training, too.")
]


def propagation(memory: int, radius: float, top: int, temperature: float, whole_first: bool) -> Propagation:
    """The settings that these options stand for. Raises `InputError` for a value out of range."""
    from mmssl.downstream.propagate import Propagation

    return Propagation(
        top_k=top,
        radius=None if radius == float("inf") else radius,
        context=memory,
        temperature=temperature,
        whole_first=whole_first,
    )
