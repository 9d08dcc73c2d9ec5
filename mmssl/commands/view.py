"""`mmssl view`: look at what the objectives of a config get."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_file


def view(
    config: Annotated[Path, typer.Argument(help="YAML file of a run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change values of the config by path.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the picture goes (PNG).", callback=new_file)] = Path("view.png"),
    rows: Annotated[int, typer.Option(help="Rows drawn for each kind of cut.")] = 8,
    step: Annotated[int, typer.Option(help="Show the batch of this training step.")] = 0,
) -> None:
    """Draw a contact sheet of real training rows: frames, spectrograms, captions, labels, and what augmentation makes of them.

    These are the very rows that `mmssl train` with the same config sees at that step.

    Example: mmssl view configs/av_nce.yaml streams.0.data=clips/ --out view.png
    """
    from mmssl.config import load_config
    from mmssl.run import view_batch

    path = view_batch(load_config(config, overrides or []), out, step=step, rows=rows)
    typer.echo(f"wrote {path}")
