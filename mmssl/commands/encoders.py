"""`mmssl encoders`: which encoders there are, how large they are, what they take and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def encoders(
    pattern: Annotated[str, typer.Argument(help="Which: `resnet`, `video_*`, `*:tiny`; default: all.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the encoders in their sizes: input, width, grid, parameters, operations for one input, names of published weights.

    The networks are built as shapes alone; nothing is fetched. A config asks for one by name and size.

    Example: mmssl encoders "video_*"
    """
    import json

    from rich.console import Console

    from mmssl.encoder_catalogue import list_encoders

    with Console(stderr=True).status("building shapes (a few seconds) ..."):
        found = list_encoders(pattern)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show(Console(), found)


def _show(console: Console, found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(header_style="dim", box=None, padding=(0, 2, 0, 0))
    for column in ("encoder", "size", "takes"):
        table.add_column(column, no_wrap=True)
    for column in ("width", "grid", "params", "FLOPs"):
        table.add_column(column, justify="right", no_wrap=True)
    before = ""
    for entry in found:
        shown = f"[bold]{entry['name']}[/bold]" if entry["name"] != before else ""
        numbers = (
            str(entry["dim"]),
            "x".join(map(str, entry["grid"])),
            f"{entry['parameters'] / 1e6:.1f}M",
            f"{entry['flops'] / 1e9:.2f}G",
        )
        table.add_row(shown, entry["size"] or "", _short(entry), *numbers)
        before = entry["name"]
    console.print(table)
    named = {entry["size"]: ", ".join(entry["weights"]) for entry in found if entry["weights"] and entry["modality"] != "text"}
    for size, weights in named.items():
        console.print(f"[dim]weights of {size}:[/dim] {weights}", highlight=False)
    if any(entry["modality"] == "text" for entry in found):
        console.print(
            "[dim]Texts: with a vocabulary of 8000; weights by their name on the Hugging Face hub.[/dim]", highlight=False
        )
    console.print("[dim]FLOPs of one input, 2 for each multiplication and addition. In a config: {name: NAME, size: SIZE}.[/dim]")


def _short(entry: dict[str, Any]) -> str:
    takes = entry["input"]
    match entry["modality"]:
        case "frame":
            return f"{takes['size']}x{takes['size']}"
        case "audio":
            return f"{takes['seconds']:g} s, {takes['rate'] / 1000:g} kHz"
        case "text":
            return f"{takes['tokens']} tokens"
    return f"{takes['frames']}x{takes['size']}x{takes['size']}, {takes['fps']:g}/s"
