"""Stand-ins for `mmssl.data.probe.probe` that do what hostile media files do to a decoder. Named by the file's stem."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def probe(path: str, **_: object) -> dict[str, object]:
    deed = Path(path).stem
    if deed == "hang":
        time.sleep(1000)
    if deed == "spin":
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            pass
    if deed == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "exit":
        os._exit(7)
    if deed == "bug":
        raise RuntimeError("an error of ours")
    if deed == "pid":
        return {"notes": [str(os.getpid())]}
    if deed == "chatty":
        print("a library writes to stdout")
        os.write(1, b"and C code, too\n")
    if deed == "fifo":
        with open(path) as file:  # noqa: PTH123 - blocks until someone writes
            file.read()
    return {"video": [0.0, 1.0], "fps": 25.0, "width": 16, "height": 16, "notes": [deed]}


def starts_badly(**_: object) -> dict[str, object]:
    raise AssertionError("never called")
