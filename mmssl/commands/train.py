"""`mmssl train`: a config in, a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_folder


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="YAML file: configs/ holds one for each objective, configs/tiny/ the same for two CPU cores; `mmssl tasks` lists them."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change values of the config by path.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: runs/ and the config's name.", callback=new_folder)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in the run folder, bit for bit.")
    ] = False,
) -> None:
    """Train a model on your own folder of clips.

    The folder is indexed on first use; files that cannot serve are counted and shown, never fatal. Ctrl-C saves a checkpoint
    before it leaves. Under `torchrun` the same command trains on several processes (train.parallel=ddp or fsdp).

    Example: mmssl train configs/av_nce.yaml streams.0.data=clips/ train.steps=2000 --out runs/first
    """
    from mmssl.config import load_config
    from mmssl.files import ELSEWHERE, check_folder
    from mmssl.run import start_run

    place = out or Path("runs") / config.stem
    check_folder(place, ELSEWHERE)
    start_run(load_config(config, overrides or []), place, resume=resume)
