"""`mmssl prepare`: a corpus re-encoded once, for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_folder


def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder of films.")],
    out: Annotated[
        Path, typer.Argument(help="Folder for the small films; new, empty, or one that this command began.", callback=new_folder)
    ],
    short_side: Annotated[
        int, typer.Option(help="Pixels of the picture's shorter side: a little more than the crops need.")
    ] = 128,
    rate: Annotated[int, typer.Option(help="Samples of sound a second.")] = 16000,
    quality: Annotated[
        int, typer.Option(help="Constant rate factor: 0 lossless, 18 hardly to be told, 6 more is half. JPEG is as coarse.")
    ] = 18,
    pictures: Annotated[str, typer.Option(help="h264: groups of 8; jpeg: each picture by itself, faster and larger.")] = "h264",
    flow: Annotated[
        bool, typer.Option("--flow", help="Compute optical flow once, for requests of the same step and method.")
    ] = False,
    flow_step: Annotated[float, typer.Option(help="Seconds that a field of flow spans.")] = 0.08,
    flow_method: Annotated[str, typer.Option(help="dis, or raft or raft_small where their weights are at hand.")] = "dis",
    shards: Annotated[
        int | None, typer.Option(min=1, help="Gather films in tar files of about so many megabytes. Default: each is a file.")
    ] = None,
    motion: Annotated[bool, typer.Option("--motion", help="Measure motion profiles for the new manifest.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Encoding processes. Default: one for each core.")] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that one film may take; larger ones get more.")] = 120.0,
) -> None:
    """Re-encode a corpus once so that training reads it faster: small pictures, groups of 8 without B-frames or JPEG, mono sound, optical flow.

    Every moment keeps its time, captions and ids stay. OUT/manifest.parquet goes where a config asks for data. The same command
    again writes what is new or changed; after an interruption it continues.

    Example: mmssl prepare clips/ small/ --short-side 160 --pictures jpeg --flow --shards 500
    """
    from rich.console import Console

    from mmssl.data.prepare import MANIFEST, FlowForm, Form
    from mmssl.data.prepare import prepare as run

    found = run(
        folder,
        out,
        form=Form(short_side=short_side, rate=rate, quality=quality, pictures=pictures),  # type: ignore[arg-type]  # it checks
        flow=FlowForm(step=flow_step, method=flow_method) if flow else None,
        shard_bytes=None if shards is None else shards * 1_000_000,
        motion=motion,
        workers=workers,
        timeout=timeout,
    )
    console = Console()
    share = (
        f", {found.bytes_after / found.bytes_before:.0%} of the {found.bytes_before / 1e6:.1f} MB before"
        if found.bytes_before
        else ""
    )
    console.print(f"{found.done} films written, {found.kept} were there already; {found.bytes_after / 1e6:.1f} MB{share}")
    for reason, count in found.rejected.most_common():
        console.print(f"{count} left out: {reason}", markup=False, style="yellow")
    console.print(f"manifest: {out / MANIFEST}", markup=False, soft_wrap=True)
