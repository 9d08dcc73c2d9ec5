"""Live progress over the passes that a film takes: which pass of how many, pictures done, time left. On stderr, so that stdout stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# Told what is done at each step: the pass in words, pictures done of it, and of how many (0 where nobody knows). What it raises ends the work.
Watch = Callable[[str, float, float], object]


class Passes:
    """One bar, started anew for each pass."""

    def __init__(self, bar: Progress, names: tuple[str, ...], watch: Watch | None = None) -> None:
        self._bar, self._names, self._number, self._watch = bar, names, 0, watch
        self._task: TaskID = bar.add_task("", total=None)
        self._text, self._done, self._total = "", 0.0, 0.0

    def begin(self, name: str, total: float) -> None:
        """The next pass; `total` pictures, 0 where nobody knows."""
        self._number += 1
        text = f"{name} ({self._number} of {len(self._names)})"
        self._bar.reset(self._task, total=round(total) or None, description=text)
        self._text, self._done, self._total = text, 0.0, total
        self._tell()

    def advance(self, pictures: int = 1) -> None:
        """Some pictures were done."""
        self._bar.update(self._task, advance=pictures)
        self._done += pictures
        self._tell()

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch(self._text, self._done, self._total)


@contextmanager
def passes(*names: str, show: bool, watch: Watch | None = None) -> Iterator[Passes]:
    """A bar for the named passes, gone when they are done; `watch` is told the same."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show, transient=True) as bar:
        yield Passes(bar, names, watch)
