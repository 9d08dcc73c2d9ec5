"""kill -9 at any moment, then resume: equal to the uninterrupted run, bit for bit. Real processes, real signals."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from pathlib import Path

import pytest

from mmssl.rng import rng_for
from mmssl.training.checkpoint import checkpoints
from tests import kill_program
from tests.test_trainer import fingerprint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a signal of POSIX systems")


def live(out: Path, *, seconds: float | None = None, point: str | None = None, call: int = 0) -> int:
    """One process that trains in `out`; it is killed after `seconds`. Returns its exit code: 0, or -9."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.kill_program"])
    process = context.Process(target=kill_program.life, args=(out, point, call))
    process.start()
    process.join(seconds if seconds is not None else 120)
    if process.is_alive():
        assert seconds is not None, "training hangs"
        process.kill()
        process.join()
    code = process.exitcode
    process.close()
    assert code in (0, -signal.SIGKILL)
    return code


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    assert live(out) == 0
    return out


@pytest.fixture(scope="module")
def seconds(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long such a life lasts here, in a process that starts as later ones do: moments to kill it are drawn within."""
    del straight  # was first, and started the fork server
    begin = time.monotonic()
    assert live(tmp_path_factory.mktemp("timed")) == 0
    return time.monotonic() - begin


def killed_and_resumed(out: Path, kills: int, seed: int, seconds: float) -> int:
    rng = rng_for(seed, 11)
    killed = sum(live(out, seconds=seconds * float(rng.uniform(0.1, 0.9))) != 0 for _ in range(kills))
    assert live(out) == 0
    return killed


def test_killed_inside_a_save_and_resumed(straight: Path, tmp_path: Path) -> None:
    # Before the first tensor, between tensors and state, before the rename, after it, while an old checkpoint is removed.
    for point, call in (
        ("_fill", 2),
        ("sync", 3),
        ("sync", 5),
        ("sync", 6),
        ("sync", 7),
        ("sync", 15),
        ("_remove", 1),
        ("_remove", 3),
    ):
        assert live(tmp_path, point=point, call=call) == -signal.SIGKILL, (point, call)
    assert live(tmp_path) == 0
    assert fingerprint(tmp_path) == fingerprint(straight)
    assert not [path for path in (tmp_path / "ckpt").iterdir() if path.name.startswith(".")]
    assert len(checkpoints(tmp_path / "ckpt")) == 2


def test_killed_at_random_moments_and_resumed(straight: Path, seconds: float, tmp_path: Path) -> None:
    assert killed_and_resumed(tmp_path, kills=3, seed=0, seconds=seconds) >= 1
    assert fingerprint(tmp_path) == fingerprint(straight)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_and_resumed(straight: Path, seconds: float, tmp_path: Path) -> None:
    killed = 0
    for seed in range(1, 20):  # a run that got to its end has to be followed by a new one
        killed += killed_and_resumed(tmp_path / str(seed), kills=4, seed=seed, seconds=seconds)
        assert fingerprint(tmp_path / str(seed)) == fingerprint(straight)
        if killed >= 20:
            break
    assert killed >= 20
