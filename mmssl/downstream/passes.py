"""Live progress over the passes that a film takes: which pass of how many, pictures done, time left. On stderr, so that stdout stays clean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Passes:
    """One bar, started anew for each pass."""

    def __init__(self, bar: Progress, names: tuple[str, ...]) -> None:
        self._bar, self._names, self._number = bar, names, 0
        self._task: TaskID = bar.add_task("", total=None)

    def begin(self, name: str, total: float) -> None:
        """The next pass; `total` pictures, 0 where nobody knows."""
        self._number += 1
        text = f"{name} ({self._number} of {len(self._names)})"
        self._bar.reset(self._task, total=round(total) or None, description=text)

    def advance(self, pictures: int = 1) -> None:
        """Some pictures were done."""
        self._bar.update(self._task, advance=pictures)


@contextmanager
def passes(*names: str, show: bool) -> Iterator[Passes]:
    """A bar for the named passes, gone when they are done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as bar:
        yield Passes(bar, names)
