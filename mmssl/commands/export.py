"""`mmssl export`: a trained run into a folder for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl.commands._places import new_folder

if TYPE_CHECKING:
    from rich.console import Console

    from mmssl.export.folder import Export


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run, or one that was exported before.")],
    out: Annotated[Path, typer.Argument(help="New folder.", callback=new_folder)],
    role: Annotated[list[str] | None, typer.Option(help="Encoder to take, may be repeated; default: all of the run.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors (always written), torch (.pt2), onnx; may be repeated."),
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence for the card, such as apache-2.0; default: none is claimed.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="Whose joint embedding the programs give; default: the first that has one.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
) -> None:
    """Write the encoders of a run as a Hugging Face style folder with a model card, checked against the run.

    Loadable by `mmssl.from_pretrained` and by every command that takes a run; where the architecture is theirs, by transformers too. With
    `--format onnx` or `--format torch` also as programs that need no mmssl, whose outputs are compared with the encoder's.

    Example: mmssl export runs/demo my-model --format onnx --license apache-2.0
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("loading ...") as status:
        from mmssl.export.folder import export_run

        made = export_run(
            run,
            out,
            roles=_split(role),
            formats=_split(formats) or ["safetensors"],
            license=license,
            objective=objective,
            step=step,
            on_part=lambda part: status.update(f"{part} ..."),
        )
    _show(Console(soft_wrap=True), made, license)


def _split(values: list[str] | None) -> list[str]:
    parts = [part.strip() for value in values or [] for part in value.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def _show(console: Console, made: Export, license: str | None) -> None:
    from rich.table import Table

    if made.programs:
        table = Table(
            title="Programs: largest difference from the encoder, also as a share of the largest value",
            title_justify="left",
            header_style="dim",
            box=None,
            padding=(0, 2, 0, 0),
        )
        for column in ("file", "free axes", "output", "max abs", "max rel"):
            table.add_column(column)
        for program in made.programs:
            for number, difference in enumerate(program["check"]["differences"]):
                first = (program["file"], ", ".join(program["free_axes"].values())) if number == 0 else ("", "")
                table.add_row(*first, difference["output"], f"{difference['max_abs']:.1e}", f"{difference['max_rel']:.1e}")
        console.print(table)
    for role, found in made.theirs.items():
        if isinstance(found, dict):
            console.print(
                f"{role}: transformers' {found['class']} in {made.folder / found['folder']}, largest difference {found['max_abs']:.1e}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
    kept = f" with {', '.join(made.objectives)}" if made.objectives else ""
    console.print(
        f"{made.folder}: {', '.join(made.roles)}{kept}, {made.size / 1e6:.1f} MB; the card is README.md",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if license is None:
        console.print(
            "The card claims no licence: choose one (--license, or edit README.md) before you pass it on.", highlight=False
        )
