"""How contenders are compared: each in a process of its own, one running at a time, in an order shuffled for every repetition.

Machines are noisy, so no figure stands alone: a contender's time is divided by the reference's time *of the same repetition*, on the
same input, and the median of these ratios is what is reported, with its quartiles. CPU time (user and system, all threads of the
process) comes first, because it is what a number of loader workers divide among themselves; wall time is told beside it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from mmssl.rng import Purpose, rng_for
from mmssl.types import InputError, MediaError

Say = Callable[[str], None]  # takes a line about progress
Work = Callable[[Any], Any]  # one lap: an input in, an output out
PATIENCE = 300.0  # seconds that one lap may take before its contender counts as failed


@dataclass(frozen=True, slots=True)
class Contender:
    """A name and how to make its work: `prepare(**arguments)` runs in the contender's own process, once, before any lap.

    `prepare` is a function of a module (it travels by name). It raises `ImportError` where a library is not installed.
    """

    name: str
    prepare: Callable[..., Work]
    arguments: Mapping[str, Any] = field(default_factory=dict)


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


class Runner:
    """A contender's process.

    Args:
        contender: who runs.
        threads: for torch and OpenCV in that process.
    """

    def __init__(self, contender: Contender, threads: int = 1) -> None:
        self.name = contender.name
        context = multiprocessing.get_context(
            "spawn"
        )  # nothing inherited: libraries load as they would in a program of their own
        self._line, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, contender, threads), daemon=False)
        self._process.start()
        other.close()
        self.problem = self._receive()[0]

    def run(self, given: Any) -> tuple[float, float, int, Any]:
        """One lap: CPU seconds, wall seconds, resident bytes, output. Raises `MediaError` with the contender's own words."""
        self._line.send(given)
        problem, *lap = self._receive()
        if problem:
            raise MediaError(problem)
        return lap[0], lap[1], lap[2], lap[3]

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            with contextlib.suppress(OSError):  # it may end by itself between these two lines
                self._line.send(None)
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._line.close()

    def _receive(self) -> tuple[Any, ...]:
        try:
            if self._line.poll(PATIENCE):
                return self._line.recv()
        except EOFError:
            self._process.join(timeout=10)
            return (f"its process ended with status {self._process.exitcode}",)
        self._process.kill()
        return (f"no answer within {PATIENCE:.0f} s",)


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
            except MediaError as error:
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
    except (MediaError, BrokenPipeError) as error:
        race.failed[f"{runner.name}, {task.name}"] = str(error)
        return False
    race.resident[runner.name] = resident
    if repetition >= 0:
        race.laps.append(Lap(task.name, runner.name, repetition, cpu, wall))
    return True


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as listing:  # noqa: PTH123  # read thousands of times; Path would cost more than the reading
            return int(listing.read().split()[1]) * 4096
    except FileNotFoundError:
        return 0


def _serve(line: Connection, contender: Contender, threads: int) -> None:
    """The life of a contender's process: prepare, then laps until told to stop."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        work = contender.prepare(**contender.arguments)
    except (ImportError, InputError, RuntimeError, OSError) as error:
        line.send((f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",))
        return
    line.send(("",))
    while (given := line.recv()) is not None:
        line.send(_timed(work, given))


def _timed(work: Work, given: Any) -> tuple[Any, ...]:
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        output = work(given)
    # A contender is somebody else's code: whatever it raises is its result, told in its row, and the others go on.
    except Exception as error:  # noqa: BLE001
        return (f"{type(error).__name__}: {str(error).strip()[:300]}",)
    return "", time.process_time() - cpu, time.perf_counter() - wall, resident_bytes(), output
