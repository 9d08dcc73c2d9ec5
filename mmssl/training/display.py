"""What a person sees of a running run: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

SILENCE = 15.0  # seconds between two lines where there is no terminal
_TOP = ("loss", "lr", "grad_norm")


class Display:
    """Shows log lines and says sentences. Makes no difference to the run.

    Args:
        steps: of the whole run.
        console: where to; None shows nothing (ranks other than the first).
    """

    def __init__(self, steps: int, console: Console | None) -> None:
        self._steps, self._console = steps, console
        self._values: dict[str, float] = {}
        self._spoken = float("-inf")
        self._progress = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[pace]}"), console=console
        )
        self._task = self._progress.add_task("steps", total=steps, pace="")
        live = console is not None and console.is_terminal
        self._live = Live(console=console, auto_refresh=False, transient=False) if live else None

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """The log line of `step`."""
        self._values.update(values)
        if self._console is None:
            return
        if self._live is not None:
            self._progress.update(self._task, completed=step, pace=pace(step, self._steps, self._values))
            self._live.update(Group(self._progress, _table(self._values)), refresh=True)
        elif time.monotonic() - self._spoken >= SILENCE or step == self._steps:
            self._spoken = time.monotonic()
            self._console.print(line(step, self._steps, self._values), highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One sentence."""
        if self._console is not None:
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """One sentence that should not be overlooked."""
        if self._console is not None:
            self._console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True, markup=False)


def line(step: int, steps: int, values: Mapping[str, float]) -> str:
    """One plain line for one log line.

    >>> line(20, 40, {"loss": 0.5, "l3/accuracy": 0.8, "l3/accuracy/chance": 0.5})
    'step 20/40  loss 0.5000  l3/accuracy 0.800 (chance 0.500)'
    """
    parts = [f"step {step}/{steps}"]
    parts += [f"{name} {values[name]:.4f}" for name in ("loss",) if name in values]
    for name, value in values.items():
        if f"{name}/chance" in values and not name.startswith("eval/"):
            parts.append(f"{name} {value:.3f} (chance {values[f'{name}/chance']:.3f})")
    told = pace(step, steps, values)
    return "  ".join([*parts, told] if told else parts)


def pace(step: int, steps: int, values: Mapping[str, float]) -> str:
    """Rate, waiting, memory and what is left, as far as they are known."""
    parts = []
    if "speed/clips_per_second" in values:
        parts.append(f"{values['speed/clips_per_second']:.1f} clips/s")
    if "speed/data_wait" in values:
        parts.append(f"{values['speed/data_wait']:.0%} waiting for data")
    if "speed/memory_gb" in values:
        parts.append(f"{values['speed/memory_gb']:.2f} GB")
    if "speed/seconds_per_step" in values and step < steps:
        parts.append(f"{_duration(values['speed/seconds_per_step'] * (steps - step))} left")
    return ", ".join(parts)


def _table(values: Mapping[str, float]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("", "train", "held out", "chance"):
        table.add_column(title, justify="left" if not title else "right")
    names = dict.fromkeys(name.removeprefix("eval/") for name in values)
    for name in names:
        if name.endswith("/chance") or name.startswith(("speed/", "rows", "skipped", "replaced")):
            continue
        chance = values.get(f"{name}/chance", values.get(f"eval/{name}/chance"))
        cells = [values.get(name), values.get(f"eval/{name}"), chance]
        style = "bold" if chance is not None or name in _TOP[:1] else None
        table.add_row(name, *("" if cell is None else f"{cell:.4g}" for cell in cells), style=style)
    for name in ("skipped", "replaced"):
        if values.get(name):
            table.add_row(f"{name} so far", f"{values[name]:.0f}", "", "", style="yellow")
    return table


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s" if minutes else f"{left} s"
