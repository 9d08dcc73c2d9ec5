"""Probing in processes that may hang or die.

libav meets hostile bytes here for the first time, so each file is probed by a worker process: one that hangs is killed when the
time for its file is over, one that crashes is replaced, and the file in hand gets the reason. Workers are plain subprocesses that
exchange lines of JSON, not `multiprocessing`: nothing is pickled, a caller's script needs no `__main__` guard, and no lock or
thread of the parent is inherited.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PROBE = "mmssl.data.probe:probe"
READY = "ready"
STARTUP_SECONDS = 120.0  # imports on a cold, busy disk
BYTES_PER_SECOND = 20e6  # a file larger than `LARGE` gets more time: reading it takes some
LARGE = 100e6
CRASHED = "crashed the decoder"


def time_limit(timeout: float, size: int) -> float:
    """Seconds that a file of `size` bytes may take: `timeout`, and above 100 MB ten more for each 200 MB begun."""
    extra = max(0.0, size - LARGE) / BYTES_PER_SECOND
    return timeout + (10.0 * -(-extra // 10.0))


def probe_all(
    jobs: Sequence[Mapping[str, Any]], *, workers: int, timeout: float, function: str = PROBE
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Probe files and yield (number of the job, its facts) as they come, in any order.

    Args:
        jobs: keyword arguments of `function`, plain JSON values; `size` (bytes) is taken off them and sets the time limit, `extra`
            (seconds) too and adds to it.
        workers: how many processes.
        timeout: seconds for each file, see `time_limit`.
        function: "module:function" that a worker imports and calls. It returns a dictionary of JSON values. Tests put one here
            that hangs or kills its process.

    Facts of a file that hung or crashed hold `reason`, "timed out after ... s" or "crashed the decoder", and `notes` where more is known.

    Raises:
        RuntimeError: workers cannot be started at all, with what they wrote last.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(jobs)):
        todo.put(number)
    done: queue.SimpleQueue[tuple[int, dict[str, Any]] | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def serve(worker: Worker) -> None:
        try:
            while not stop.is_set():
                try:
                    number = todo.get_nowait()
                except queue.Empty:
                    return
                job = dict(jobs[number])
                limit = time_limit(timeout, int(job.pop("size", 0))) + float(job.pop("extra", 0.0))
                done.put((number, worker.ask(job, limit)))
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the caller, whatever it is
            done.put(error)
        finally:
            worker.stop()

    staff = [Worker(function) for _ in range(min(workers, len(jobs)))]
    for worker in staff:
        threading.Thread(target=serve, args=(worker,), daemon=True).start()
    try:
        for _ in range(len(jobs)):
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for worker in staff:
            worker.interrupt()


class Worker:
    """One process that answers one request at a time; started when first asked, and again after it was killed or died."""

    def __init__(self, function: str = PROBE) -> None:
        self._function = function
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def ask(self, job: Mapping[str, Any], limit: float) -> dict[str, Any]:
        """Have one file probed, within `limit` seconds."""
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"limit": limit, "job": dict(job)}) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self._kill()
            return {"reason": f"timed out after {limit:g} s"}
        except BrokenPipeError:
            line = ""
        if not line:
            return self._died(process)
        facts = json.loads(line)
        if "fault" in facts:  # an error of ours, not the file's: shown in full, and no reason to drop the other files
            print(f"probing {job.get('path')} failed:\n{facts['fault']}", file=sys.stderr)
            return {"reason": f"the probe failed: {facts['fault'].strip().splitlines()[-1]}"}
        return facts

    def interrupt(self) -> None:
        """Kill the process from another thread than the one that asks: the question in hand is answered "crashed" to nobody."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End the process."""
        self._kill()
        self._log.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        command = [sys.executable, "-m", "mmssl.data.probe_worker", self._function]
        # The worker finds modules where this process does, also when mmssl is used from a checkout.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
            "PYTHONUTF8": "1",
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's affair
        )
        self._lines = lines = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(self._process, lines), daemon=True).start()
        try:
            greeting = lines.get(timeout=STARTUP_SECONDS)
        except queue.Empty:
            greeting = "nothing"
        if greeting.strip() != READY:
            self._kill()
            raise RuntimeError(
                f"a probing process did not start ({' '.join(command)}); it wrote: {self._last_words() or 'nothing'}"
            )
        return self._process

    def _died(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        self._kill()
        status = process.returncode
        how = f"killed by signal {-status}" if status is not None and status < 0 else f"exit status {status}"
        return {"reason": CRASHED, "notes": [f"the decoder's process ended: {how}"]}

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return  # stuck in the kernel (a dead network disk); it goes when that lets go of it
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # the request that it did not live to read
                process.stdin.close()

    def _last_words(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        return self._log.read().decode(errors="replace").strip()


def _read_lines(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Move a worker's answers into a queue that can be waited on with a limit; an empty line marks its end."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")
