"""`mmssl doctor`: what is here, what works, what is missing and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mmssl.commands._checkup import Checkup


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show versions, devices, decoders and folders, and say what is missing and how to get it.

    Every codec is tried for real, on a tiny clip that is made for the purpose, and so is every decoding backend. The status is 0
    whatever is found: nothing in the list of what is missing keeps the default set-up from working unless it says so.

    Example: mmssl doctor --json > doctor.json
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from mmssl.commands._checkup import check_up

    console = Console()
    if as_json:
        print(json.dumps(asdict(check_up()), indent=2))
        return
    with console.status("looking around (a few seconds) ..."):
        found = check_up()
    _show(console, found)


def _show(console: Console, found: Checkup) -> None:
    _show_versions(console, found)
    _show_machine(console, found)
    _show_decoders(console, found)
    _show_advice(console, found)


def _show_versions(console: Console, found: Checkup) -> None:
    table = _table("Versions", "what", "version")
    for name, version in found.versions.items():
        table.add_row(name, version or "[dim]not installed[/dim]")
    console.print(table)


def _show_machine(console: Console, found: Checkup) -> None:
    machine = found.machine
    table = _table("Machine", "what", "found")
    flags = ", ".join(machine["flags"]) or "none of those that matter"
    table.add_row("processor", f"{machine['processor']}, {machine['cores']} cores to use")
    table.add_row("instructions", f"{flags}; torch uses {machine['torch_capability']}")
    table.add_row("memory", _size(machine["memory_bytes"]))
    table.add_row("shared memory", _size(machine["shared_memory_bytes"]))
    for number, device in enumerate(found.devices):
        table.add_row(f"cuda:{number}", f"{device['name']}, {_size(device['memory_bytes'])}, compute {device['capability']}")
    if not found.devices:
        table.add_row("GPU", "none that torch can use; everything runs on the CPU")
    cache, here = found.folders["cache"], found.folders["here"]
    table.add_row("cache", f"{escape(cache['path'])}: {_size(cache['size_bytes'])} used, {_size(cache['free_bytes'])} free")
    table.add_row("this folder", f"{_size(here['free_bytes'])} free")
    console.print(table)


def _show_decoders(console: Console, found: Checkup) -> None:
    colours = {"works": "green", "listed": "yellow", "fails": "red", "absent": "red"}
    table = _table("Decoders, each tried on a clip made just now", "what", "outcome", "detail")
    for codec in found.codecs:
        colour = colours[codec["outcome"]]
        table.add_row(f"{codec['name']} ({codec['kind']})", f"[{colour}]{codec['outcome']}[/{colour}]", escape(codec["detail"]))
    for name, backend in found.backends.items():
        outcome = "[green]works[/green]" if backend["works"] else "[yellow]not here[/yellow]"
        table.add_row(f"backend {name}", outcome, escape(backend["detail"]))
    console.print(table)


def _show_advice(console: Console, found: Checkup) -> None:
    if not found.advice:
        console.print("[green]Nothing is missing.[/green]")
        return
    table = _table("Missing or in the way", "what", "effect", "how to mend it")
    for advice in found.advice:
        table.add_row(escape(advice.what), escape(advice.effect), escape(advice.remedy))
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", expand=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    return table


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.1f} MiB"
