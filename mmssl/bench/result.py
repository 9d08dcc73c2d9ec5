"""What a suite hands back: rows of figures, the targets held against them, and the machine; as a table or as JSON."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmssl.bench.race import Race, Say, Spread, quietly

PACKAGES = ("mmssl", "torch", "torchvision", "av", "decord", "torchcodec", "opencv-python-headless", "numpy")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose."""

    reps: int = 7
    quick: bool = False
    media: Path | None = None
    seed: int = 0
    say: Say = quietly


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that was promised, and what was measured here. `met` is None where it could not be measured."""

    what: str
    limit: str
    measured: str
    met: bool | None


@dataclass(slots=True)
class Result:
    """One suite's outcome. `rows` are flat: column -> value, the same columns in every row of a suite."""

    suite: str
    about: str  # what was done, in a sentence or two
    rows: list[dict[str, Any]]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: machine())

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not a number is null."""
        return _finite(asdict(self))

    def show(self, console: Console) -> None:
        """Tables for people."""
        console.print(f"[bold]mmssl bench {self.suite}[/bold]: {escape(self.about)}")
        console.print(f"[dim]{escape(', '.join(f'{key} {value}' for key, value in self.machine.items()))}[/dim]")
        console.print(_table(self.rows))
        for target in self.targets:
            mark = {True: "[green]met[/green]", False: "[red]missed[/red]", None: "[yellow]not measured[/yellow]"}[target.met]
            console.print(f"{mark}: {escape(target.what)}: {escape(target.measured)} (target: {escape(target.limit)})")
        for note in self.notes:
            console.print(f"[dim]{escape(note)}[/dim]")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    """Narrow enough for a terminal of 80 columns: a first column that repeats becomes headings, columns without any value go, quartiles stand
    behind their ratio."""
    names = [name for name in (rows[0] if rows else ()) if any(row[name] not in ("", None) for row in rows)]
    firsts = [row[names[0]] for row in rows] if names else []
    grouped = len(names) > 2 and len(set(firsts)) < len(firsts)
    shown = [name for name in (names[1:] if grouped else names) if name != "quartiles"]
    table = Table(header_style="dim", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    spread = names[names.index("quartiles") - 1] if "quartiles" in names else None
    for name in shown:
        text = isinstance(rows[0][name], str)
        table.add_column(
            name.replace("/", " /").replace(" ratio", "\nratio"),
            justify="left" if text else "right",
            no_wrap=(text and name != "problem") or name == spread,
            overflow="fold",
        )
    before: object = None
    for first, row in zip(firsts, rows, strict=True):
        if grouped and first != before:
            table.add_section()
            table.add_row(f"[bold]{escape(str(first))}[/bold]")
        before = first
        cells = {name: _cell(row[name]) for name in shown}
        if spread is not None and row["quartiles"]:
            cells[spread] += f" ({row['quartiles']})"
        table.add_row(*cells.values())
    return table


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        model = next((line.split(":")[1].strip() for line in listing.read_text().splitlines() if "model name" in line), model)
    found: dict[str, Any] = {"processor": model, "cores": cores(), "load": _load(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def race_rows(
    race: Race, tasks: Sequence[str], contenders: Sequence[str], *, reference: str, task: str, unit: str
) -> list[dict[str, Any]]:
    """A row for each task and contender: CPU and wall milliseconds, and ratios to the reference with their quartiles."""
    rows: list[dict[str, Any]] = []
    for name in tasks:
        for contender in contenders:
            cpu = race.ratio(name, contender, reference)
            rows.append(
                {
                    task: name,
                    "contender": contender,
                    f"CPU ms/{unit}": race.milliseconds(name, contender).median,
                    f"wall ms/{unit}": race.milliseconds(name, contender, "wall").median,
                    "CPU ratio": cpu.median,
                    "quartiles": f"{cpu.low:.2f}..{cpu.high:.2f}" if not math.isnan(cpu.median) else "",
                    "wall ratio": race.ratio(name, contender, reference, "wall").median,
                    "problem": race.failed.get(contender) or race.failed.get(f"{contender}, {name}") or "",
                }
            )
    return rows


def at_least(what: str, limit: float, ratio: Spread) -> Target:
    """A target on a ratio: its median must reach the limit."""
    if math.isnan(ratio.median):
        return Target(what, f"at least {limit:g}", "not measured here", None)
    measured = f"{ratio.median:.2f} (quartiles {ratio.low:.2f}..{ratio.high:.2f})"
    return Target(what, f"at least {limit:g}", measured, ratio.median >= limit)


def at_most(what: str, limit: str, value: float, shown: str, *, met: bool) -> Target:
    """A target on anything that should stay small."""
    if math.isnan(value):
        return Target(what, limit, "not measured here", None)
    return Target(what, limit, shown, met)


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}" if abs(value) >= 100 else f"{value:.2f}"
    return escape(str(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
