"""`mmssl bench`: how fast it is here, against what else there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SUITES = ("decode", "audio", "augment", "loader", "step")


def bench(
    suite: Annotated[str, typer.Argument(help=f"One of: {', '.join(SUITES)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    reps: Annotated[int, typer.Option(min=1, help="Repetitions; more make the medians steadier.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter media and smaller models: to see that it works.")] = False,
    media: Annotated[
        Path | None, typer.Option(envvar="MMSSL_MEDIA", help="A folder of real clips to decode beside the made ones.")
    ] = None,
) -> None:
    """Measure one part of mmssl against its rivals on this machine.

    The media are made on first use. Each contender has a process of its own; they take turns in an order shuffled for every
    repetition; figures are medians, and ratios are formed within a repetition. CPU time is the one to trust on a shared machine.

    Example: mmssl bench decode --reps 7 --json > decode.json
    """
    import importlib
    import json

    from rich.console import Console

    from mmssl.bench.result import Settings
    from mmssl.types import InputError

    if suite not in SUITES:
        raise InputError(f"there is no benchmark {suite!r}; choose one of {', '.join(SUITES)}")
    room = importlib.import_module(f"mmssl.bench.{suite}")
    talk = Console(stderr=True)
    with talk.status("making or finding the media ...") as status:
        result = room.run(Settings(reps=reps, quick=quick, media=media, say=status.update))
    if as_json:
        print(json.dumps(result.as_json(), indent=2))
    else:
        result.show(Console())
