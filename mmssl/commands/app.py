"""`mmssl app`: search, localization and tracking in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def app(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    search: Annotated[Path | None, typer.Option(help="Folder of an index to search, made by `mmssl search index`.")] = None,
    track: Annotated[
        Path | None, typer.Option(help="Another run for tracking, best of colorize or contrastive_random_walk.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; the default serves this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0: any that is free.")] = 7860,
    max_mb: Annotated[float, typer.Option(help="Megabytes of an upload, at most.")] = 200.0,
    max_seconds: Annotated[float, typer.Option(help="Seconds that an upload lasts, at most.")] = 120.0,
    max_minutes: Annotated[float, typer.Option(help="Minutes that a job may take.")] = 10.0,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Serve a page in the browser: search by dropping a file, heatmap films, and tracking of what you paint.

    The page is for this machine alone: there is no password. It loads nothing from the internet, and shows no file but those of the index and those that
    were uploaded; uploads and results are deleted when it stops (Ctrl-C). A tab whose run is missing says which would do.

    Example: mmssl app runs/demo --search clips.search
    """
    import importlib.util

    from rich.console import Console

    from mmssl.types import InputError

    if importlib.util.find_spec("gradio") is None:
        raise InputError(
            'the page needs gradio, which is not installed; install mmssl\'s extra: pip install "mmssl[app]" (or uv sync --extra app)'
        )

    from mmssl.app.gate import is_loopback
    from mmssl.app.limits import Limits
    from mmssl.app.models import load_models
    from mmssl.app.server import serve

    console = Console(soft_wrap=True)
    limits = Limits(max_mb, max_seconds, max_minutes)
    models = load_models(run, search=search, track=track, device=device)
    if not is_loopback(host):
        Console(stderr=True, soft_wrap=True).print(
            f"warning: --host {host} opens the page to the network. It has no password: everyone who reaches this machine can use its models, "
            "upload files and see every file of the index.",
            style="bold yellow",
            markup=False,
            highlight=False,
        )

    def told(address: str) -> None:
        console.print(f"open {address}  (Ctrl-C stops it)", markup=False, highlight=False, soft_wrap=True)

    serve(models, title=run.resolve().name, limits=limits, host=host, port=port, on_start=told)
