"""Jobs that end: each looks at its clock and at its visitor's wish wherever it reports progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmssl.types import InputError


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The visitor pressed Cancel, or left."""


class Job:
    """One piece of work. `tick` is called from inside of it, often.

    Args:
        seconds: after which it is ended.
    """

    def __init__(self, seconds: float) -> None:
        self._limit = seconds
        self._deadline = time.monotonic() + seconds
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End it at its next tick. May be called from any thread."""
        self._cancelled.set()

    def tick(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: as `cancel` asked.
            InputError: the time is over.
        """
        if self._cancelled.is_set():
            raise Cancelled
        if time.monotonic() > self._deadline:
            raise InputError(
                f"the job took longer than {self._limit / 60:g} min, which is this page's limit; give a shorter or smaller film, or start the page "
                "with a larger --max-minutes"
            )


class Jobs:
    """The jobs under way, by visitor."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[str, set[Job]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def job(self, visitor: str) -> Iterator[Job]:
        """A new job, which `cancel` finds until the block ends."""
        job = Job(self._seconds)
        with self._lock:
            self._running.setdefault(visitor, set()).add(job)
        try:
            yield job
        finally:
            with self._lock:
                self._running[visitor].discard(job)
                if not self._running[visitor]:
                    del self._running[visitor]

    def cancel(self, visitor: str | None = None) -> int:
        """End all jobs of a visitor, or of everyone; how many there were."""
        with self._lock:
            visitors = list(self._running) if visitor is None else [visitor]
            jobs = [job for name in visitors for job in self._running.get(name, ())]
        for job in jobs:
            job.cancel()
        return len(jobs)
