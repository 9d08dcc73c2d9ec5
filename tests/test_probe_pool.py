from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmssl.data.probe_pool import CRASHED, probe_all, time_limit

FAKE = "tests.misbehaving_probe:probe"


def run(paths: list[str], **options) -> list[dict]:
    jobs = [{"path": path, "size": 10} for path in paths]
    answers = dict(probe_all(jobs, workers=2, function=FAKE, **{"timeout": 20.0, **options}))
    return [answers[number] for number in range(len(paths))]


def test_a_crash_takes_nothing_else_down():
    answers = run(["a.mp4", "segfault.mp4", "b.mp4", "killed.mp4", "exit.mp4", "c.mp4"])
    assert [answer.get("reason") for answer in answers] == [None, CRASHED, None, CRASHED, CRASHED, None]
    assert [answer["notes"] for answer in answers] == [
        ["a"],
        ["the decoder's process ended: killed by signal 11"],
        ["b"],
        ["the decoder's process ended: killed by signal 9"],
        ["the decoder's process ended: exit status 7"],
        ["c"],
    ]


def test_a_hang_is_killed_when_its_time_is_over(tmp_path):
    fifo = tmp_path / "fifo.mp4"  # opening it blocks for ever: nobody writes
    os.mkfifo(fifo)
    begin = time.monotonic()
    # A starved machine took more than 2 s for an answer that costs nothing.
    answers = run(["a.mp4", "hang.mp4", str(fifo), "spin.mp4", "b.mp4"], timeout=5.0)
    assert [answer.get("reason") for answer in answers] == [None, *["timed out after 5 s"] * 3, None]
    assert time.monotonic() - begin < 60


def test_what_libraries_print_is_no_answer():
    assert [answer["notes"] for answer in run(["chatty.mp4", "a.mp4"])] == [["chatty"], ["a"]]


def test_an_error_of_ours_is_shown_and_costs_one_file(capsys):
    answers = run(["bug.mp4", "a.mp4"])
    assert answers[0]["reason"] == "the probe failed: RuntimeError: an error of ours"
    assert answers[1]["notes"] == ["a"]
    assert "Traceback" in capsys.readouterr().err


def test_a_worker_that_cannot_start_is_reported():
    with pytest.raises(RuntimeError, match=r"did not start .*no_such_function"):
        list(probe_all([{"path": "a"}], workers=1, timeout=1.0, function="tests.misbehaving_probe:no_such_function"))


def test_no_jobs_start_no_worker():
    assert list(probe_all([], workers=2, timeout=1.0, function="no.such.module:probe")) == []


def test_workers_end_when_the_caller_stops_early():
    jobs = [{"path": "pid.mp4"}, *[{"path": "hang.mp4"}] * 5]
    stream = probe_all(jobs, workers=1, timeout=500.0, function=FAKE)
    _, answer = next(stream)
    worker = int(answer["notes"][0])
    time.sleep(0.3)  # the worker hangs in the next file by now
    stream.close()  # Ctrl-C, or an exception of the caller
    deadline = time.monotonic() + 20
    while is_alive(worker):
        assert time.monotonic() < deadline, "the worker outlives its caller"
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_large_files_get_more_time_in_steps_that_group():
    assert time_limit(30.0, 0) == time_limit(30.0, 100_000_000) == 30.0
    assert time_limit(30.0, 100_000_001) == time_limit(30.0, 300_000_000) == 40.0
    assert time_limit(30.0, 10_000_000_000) == 530.0


def test_a_worker_does_without_torch():
    """Its import takes seconds, and its libraries more address space than a worker is allowed."""
    program = "import sys, mmssl.data.probe_worker, mmssl.data.probe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], check=False).returncode == 0
