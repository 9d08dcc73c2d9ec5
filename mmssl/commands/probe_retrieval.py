"""`mmssl probe retrieval`: clips by their captions or their sounds, by published protocols."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmssl.commands._places import new_file

if TYPE_CHECKING:
    from rich.table import Table


def retrieval(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    protocol: Annotated[str, typer.Argument(help="msrvtt-1ka, youcook2, vggsound, vggsound-5, audiocaps or audiocaps-val.")],
    annotations: Annotated[Path, typer.Argument(help="The protocol's own list of clips, CSV or JSON.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the clips, or a manifest written by `mmssl index`.")],
    modality: Annotated[
        str | None, typer.Option(help="Two to compare instead of the protocol's, separated by a comma: text,video.")
    ] = None,
    windows: Annotated[int, typer.Option(help="Windows of each clip whose embeddings are averaged.")] = 4,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Go on without clips that are not there; no figure then bears the protocol's name."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures; default: in the run.", callback=new_file)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    objective: Annotated[
        str | None, typer.Option(help="Which objective of the run; default: the first that joins two modalities.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Find each clip by its caption or its sound among all clips of a test set, and back: recall at 1, 5, 10 and the median rank.

    Files are found by the protocol's names (video7020.mp4; ID_000030.mp4 by YouTube id and start; or whole films called by their id). Every
    clip of the protocol has to be there, or there is no figure. Equal scores are ranked by their average.

    Example: mmssl probe retrieval runs/text msrvtt-1ka MSRVTT_JSFUSION_test.csv videos/
    """
    import json

    from rich.console import Console

    from mmssl.files import ELSEWHERE, check_file, write_aside
    from mmssl.search import retrieval_run

    check_file(out or run / "retrieval.json", ELSEWHERE)
    wanted = [part.strip() for part in (modality or "").split(",") if part.strip()]
    found = retrieval_run(
        run,
        protocol,
        annotations,
        folder,
        modalities=wanted,
        windows=windows,
        allow_missing=allow_missing,
        objective=objective,
        step=step,
        device=device,
    )
    place = out or run / f"retrieval-{protocol if found['protocol'] else f'part-of-{protocol}'}.json"
    text = json.dumps(found, indent=2, ensure_ascii=False)
    write_aside(place, text.encode())
    if as_json:
        print(text)
        return
    console = Console()
    console.print(_table(found))
    for reason, count in found["missing"].items():
        console.print(f"missing: {count}: {reason}", markup=False, highlight=False, style="yellow")
    console.print(f"figures: {place}", markup=False, highlight=False, soft_wrap=True)


def _table(found: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    whole = f"{found['protocol']}: {found['clips']} clips"
    title = whole if found["protocol"] else f"Not {found['of']}: {found['clips']} of its {found['clips_of_protocol']} clips"
    table = Table(
        title=f"{title}, objective {found['objective']}, step {found['step']}", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("")
    for direction in found["retrieval"]:
        table.add_column(direction.replace("_", " "), justify="right")
        table.add_column("chance", justify="right", style="dim")
    for name in ("R@1", "R@5", "R@10", "median_rank"):
        cells = [name.replace("_", " ")]
        for entries in found["retrieval"].values():
            entry, form = (
                entries[name],
                (lambda value: f"{value:.1f}") if name == "median_rank" else (lambda value: f"{value:.1%}"),
            )
            cells += [f"{form(entry['value'])} [{form(entry['low'])}, {form(entry['high'])}]", form(entry["chance"])]
        table.add_row(*cells)
    return table
