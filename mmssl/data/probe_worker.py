"""The process that `probe_pool` starts: a line of JSON in, a line of JSON out.

`python -m mmssl.data.probe_worker module:function`. Not for people.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
import traceback

from mmssl.data.probe_pool import READY

MEMORY = 8 << 30  # bytes of address space: a damaged header can ask for any size of picture


def main(function: str) -> None:
    """Answer requests until the input ends. What libraries print goes to stderr, answers alone to stdout."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module, name = function.split(":")
    probe = getattr(importlib.import_module(module), name)
    _limit_memory()
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        _die_after(request["limit"] * 2 + 10)
        try:
            facts = probe(**request["job"])
        except Exception:  # noqa: BLE001 - the border of the process: the parent names it and goes on with other files
            facts = {"fault": traceback.format_exc()}
        _die_after(0)
        print(json.dumps(facts), file=answers, flush=True)


def _die_after(seconds: float) -> None:
    """End this process, even inside C code, should the parent that would kill it be gone. 0 calls it off."""
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(seconds))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main(sys.argv[1])
