"""`mmssl tasks`: which objectives there are, what each asks, what it needs, and how to train it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def tasks(
    name: Annotated[str | None, typer.Argument(help="An objective, for everything about it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List the objectives: what each asks of the data, which encoders it needs, and its configs.

    With a name: its explanation, its source, every option with its default, and the commands that train it.

    Example: mmssl tasks avts
    """
    import json

    from rich.console import Console

    from mmssl.catalogue import describe, describe_all

    found = [describe(name)] if name else describe_all()
    if as_json:
        print(json.dumps(found[0] if name else found, indent=2))
    elif name:
        _show_one(Console(), found[0])
    else:
        _show_all(Console(), found)


def _show_all(console: Console, found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(header_style="dim", box=None, padding=(0, 2, 0, 0))
    table.add_column("objective", no_wrap=True)
    table.add_column("encoders", no_wrap=True)
    table.add_column("what it is")
    for entry in found:
        table.add_row(f"[bold]{entry['name']}[/bold]", " + ".join(entry["encoders"]), entry["what"])
    console.print(table)
    console.print("\n[dim]mmssl tasks NAME tells more; mmssl train configs/tiny/NAME.yaml trains one on the toy world.[/dim]")


def _show_one(console: Console, entry: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{entry['name']}[/bold]\n")
    console.print(escape(_flowing(entry["explanation"])), highlight=False)
    needs = ", ".join(f"{role} ({' or '.join(modalities)})" for role, modalities in entry["encoders"].items())
    console.print(f"\n[bold]Encoders[/bold] {needs}\n")
    table = Table(header_style="dim", box=None, padding=(0, 2, 0, 0))
    for column in ("option", "default"):
        table.add_column(column, overflow="fold")
    for option, default in entry["options"].items():
        table.add_row(option, escape(default))
    console.print(table)
    console.print(f"\n{escape(_flowing(entry['arguments']))}\n", highlight=False)
    for config in entry["configs"]:
        console.print(f"mmssl train {config} streams.0.data=clips/ --out runs/{entry['name']}", highlight=False, soft_wrap=True)


def _flowing(text: str) -> str:
    """Paragraphs without their line breaks, so that the terminal breaks them; indented lines (formulas, arguments) stay."""
    return re.sub(r"(?<!\n)\n(?![\n ])", " ", text)
