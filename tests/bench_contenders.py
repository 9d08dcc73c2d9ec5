"""Contenders for the tests of the race. They import next to nothing, because each starts a process of its own."""

from __future__ import annotations

import os
import time

from mmssl.bench.runner import Work


def prepare_burner(*, rounds: int) -> Work:
    def work(given: int) -> int:
        for _ in range(rounds):
            sum(range(100_000))
        return given * 10

    return work


def prepare_sleeper() -> Work:
    def work(given: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    return work


def prepare_absent() -> Work:
    import no_such_decoder  # noqa: F401  # pyright: ignore[reportMissingImports]

    raise AssertionError


def prepare_faulty() -> Work:
    def work(given: int) -> int:
        raise ValueError(f"cannot do {given}")

    return work


def prepare_dying() -> Work:
    def work(given: int) -> int:
        os._exit(3)

    return work
