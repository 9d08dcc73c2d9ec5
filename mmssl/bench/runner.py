"""A contender's process: prepared once, then given one input after the other, timing itself.

Imports nothing of mmssl, so that a contender loads only what it needs itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[[Any], Any]  # one lap: an input in, an output out
PATIENCE = 300.0  # seconds that one lap may take before its contender counts as failed
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class ContenderError(Exception):
    """A contender cannot run, in its own words."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A name and how to make its work: `prepare(**arguments)` runs in the contender's own process, once, before any lap.

    `prepare` is a function of a module (it travels by name). It raises `ImportError` where a library is not installed.
    """

    name: str
    prepare: Callable[..., Work]
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Runner:
    """A contender's process.

    Args:
        contender: who runs.
        threads: for the libraries in that process.
    """

    def __init__(self, contender: Contender, threads: int = 1) -> None:
        self.name = contender.name
        context = multiprocessing.get_context(
            "spawn"
        )  # nothing inherited: libraries load as they would in a program of their own
        self._line, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, contender), daemon=False)
        with _threads(threads):
            self._process.start()
        other.close()
        self.problem = self._receive()[0]

    def run(self, given: Any) -> tuple[float, float, int, Any]:
        """One lap: CPU seconds, wall seconds, resident bytes, output. Raises `ContenderError` with the contender's own words."""
        with contextlib.suppress(BrokenPipeError):  # it has ended; `_receive` tells how
            self._line.send(given)
        problem, *lap = self._receive()
        if problem:
            raise ContenderError(problem)
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


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    # By the environment that the new process inherits: the libraries read it when they are loaded.
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as listing:  # noqa: PTH123  # read thousands of times; Path would cost more than the reading
            return int(listing.read().split()[1]) * 4096
    except FileNotFoundError:
        return 0


def _serve(line: Connection, contender: Contender) -> None:
    """The life of a contender's process: prepare, then laps until told to stop."""
    try:
        work = contender.prepare(**contender.arguments)
    # A contender is somebody else's code: whatever it raises is its result, told in its row, and the others go on.
    except Exception as error:  # noqa: BLE001
        line.send((_words(error),))
        return
    line.send(("",))
    while (given := line.recv()) is not None:
        line.send(_timed(work, given))


def _timed(work: Work, given: Any) -> tuple[Any, ...]:
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        output = work(given)
    except Exception as error:  # noqa: BLE001  # as above
        return (_words(error),)
    return "", time.process_time() - cpu, time.perf_counter() - wall, resident_bytes(), output


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"
