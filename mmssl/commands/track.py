"""`mmssl track`: follow things through a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_folder
from mmssl.commands._tracking import Device, Memory, Objective, Radius, Step, Temperature, Top, WholeFirst, propagation


def track(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run, best of colorize or contrastive_random_walk.")],
    video: Annotated[Path, typer.Argument(help="Any film, or a folder of pictures in the order of their names.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist, or be empty.", callback=new_folder)],
    mask: Annotated[
        Path | None, typer.Option(help="PNG of the first frame's size: 0 background, k object k; palette or grey.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(help="x,y,w,h in pixels of the first frame; repeat it for more objects.")
    ] = None,
    points: Annotated[Path | None, typer.Option(help='JSON of keypoints in the first frame: {"nose": [x, y], ...}.')] = None,
    start: Annotated[float, typer.Option(help="Seconds at which that frame is shown.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Seconds at which to stop; default: the end.")] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second; default: the film's own, at most 60. Of a folder, the rate of its pictures (24)."),
    ] = None,
    memory: Memory = 20,
    radius: Radius = 12.0,
    top: Top = 10,
    temperature: Temperature = 0.05,
    whole_first: WholeFirst = False,
    short_side: Annotated[
        int | None, typer.Option(help="Pixels to which frames are shrunk for the encoder; default: 60 of its cells.")
    ] = None,
    objective: Objective = None,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """Follow objects, boxes or keypoints through a film.

    What is given in one frame is carried on by the look of things, as the run's encoder sees them: nobody says what the things are. Writes
    masks/00000.png ... (palette PNGs as in DAVIS), overlay.mp4 with the film's sound, and track.json with boxes, areas, keypoints and
    confidence of every frame. Films of any length are read in constant memory.

    Example: mmssl track runs/walk film.mp4 tracked/ --box 120,80,60,40
    """
    from rich.console import Console

    from mmssl.tracking import track_run

    found = track_run(
        run,
        video,
        out,
        mask=mask,
        boxes=box or (),
        points=points,
        settings=propagation(memory, radius, top, temperature, whole_first),
        short_side=short_side,
        start=start,
        end=end,
        fps=fps,
        objective=objective,
        step=step,
        device=device,
    )
    console = Console(soft_wrap=True)
    console.print(found.sentence(), highlight=False, markup=False)
    console.print(
        f"{out / 'overlay.mp4'}  and the figures in  {out / 'track.json'}", highlight=False, markup=False, soft_wrap=True
    )
