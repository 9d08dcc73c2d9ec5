"""How contenders are compared: each in a process of its own, one running at a time, in an order shuffled for every repetition.

Machines are noisy, so no figure stands alone: a contender's time is divided by the reference's time *of the same repetition*, on the
same input, and the median of these ratios is what is reported, with its quartiles. CPU time (user and system, all threads of the
process) comes first, because it is what a number of loader workers divide among themselves; wall time is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from mmssl.bench.runner import Contender, ContenderError, Runner
from mmssl.rng import Purpose, rng_for

Say = Callable[[str], None]  # takes a line about progress


class Task(NamedTuple):
    """What everybody does: the input of each repetition, and how many units (clips, rows) one input holds."""

    name: str
    inputs: Sequence[Any]
    units: int = 1


class Lap(NamedTuple):
    """One contender, one input: seconds of CPU and of wall time, for the whole input."""

    task: str
    contender: str
    repetition: int
    cpu: float
    wall: float


def quietly(text: str) -> None:
    """A `Say` for nobody."""
    del text


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Race:
    """All laps, and what kept contenders from running."""

    laps: list[Lap] = field(default_factory=list)
    units: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # "contender" or "contender, task" -> why
    resident: dict[str, int] = field(default_factory=dict)  # contender -> bytes resident after its last lap

    def milliseconds(self, task: str, contender: str, clock: str = "cpu") -> Spread:
        """Of one unit. NaN where there is no lap."""
        return spread([1000 * getattr(lap, clock) / self.units[task] for lap in self.laps if lap[:2] == (task, contender)])

    def ratio(self, task: str, contender: str, reference: str, clock: str = "cpu") -> Spread:
        """The contender's time over the reference's of the same repetition: above 1, the reference is faster."""
        times = {(lap.contender, lap.repetition): getattr(lap, clock) for lap in self.laps if lap.task == task}
        return spread(
            [
                value / times[reference, repetition]
                for (name, repetition), value in times.items()
                if name == contender and times.get((reference, repetition))
            ]
        )


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles; NaN where there are no values."""
    found = np.asarray(list(values), dtype=np.float64)
    if not len(found):
        return Spread(float("nan"), float("nan"), float("nan"))
    low, median, high = np.quantile(found, [0.25, 0.5, 0.75])
    return Spread(float(median), float(low), float(high))


class Field:
    """All contenders, started; a context manager that ends their processes. Those that cannot be had are in `failed`."""

    def __init__(self, contenders: Sequence[Contender], *, threads: int = 1, say: Say = quietly) -> None:
        self.runners: list[Runner] = []
        self.failed: dict[str, str] = {}
        self._say = say
        for contender in contenders:
            say(f"starting {contender.name}")
            runner = Runner(contender, threads)
            if runner.problem:
                self.failed[contender.name] = runner.problem
                runner.close()
            else:
                self.runners.append(runner)

    def __enter__(self) -> Field:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for runner in self.runners:
            runner.close()

    def outputs(self, given: Any) -> dict[str, Any]:
        """What each contender makes of one input, untimed; those that fail are left out."""
        found: dict[str, Any] = {}
        for runner in self.runners:
            try:
                found[runner.name] = runner.run(given)[3]
            except ContenderError as error:
                self.failed[runner.name] = str(error)
        return found

    def race(self, tasks: Sequence[Task], *, seed: int = 0) -> Race:
        """Every contender through every input, after one lap that is not counted."""
        race = Race(units={task.name: task.units for task in tasks}, failed=dict(self.failed))
        order = rng_for(seed, Purpose.EVALUATE, "bench")
        for task in tasks:
            able = [runner for runner in self.runners if _lap(race, runner, task, -1)]
            for repetition in range(len(task.inputs)):
                self._say(f"{task.name}: repetition {repetition + 1} of {len(task.inputs)}")
                for place in order.permutation(len(able)):
                    _lap(race, able[place], task, repetition)
        race.laps = [lap for lap in race.laps if f"{lap.contender}, {lap.task}" not in race.failed]
        return race


def _lap(race: Race, runner: Runner, task: Task, repetition: int) -> bool:
    if f"{runner.name}, {task.name}" in race.failed:
        return False
    try:
        cpu, wall, resident, _ = runner.run(task.inputs[max(0, repetition)])
    except ContenderError as error:
        race.failed[f"{runner.name}, {task.name}"] = str(error)
        return False
    race.resident[runner.name] = resident
    if repetition >= 0:
        race.laps.append(Lap(task.name, runner.name, repetition, cpu, wall))
    return True
