"""What test_kill.py runs in processes of their own and kills; no test itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch._dynamo  # imported by the first optimizer step otherwise: the fork server does it once for all
import torch.utils.tensorboard

from mmssl.training import checkpoint
from tests.fakes import fake_trainer

POINTS = ("sync", "_remove", "_fill")
SETTINGS: dict[str, Any] = {"steps": 24, "save_every": 1, "keep": 2, "log_every": 5, "eval_every": 7}


def life(out: Path, point: str | None, call: int) -> None:
    """Train on in `out` until the end, or until call number `call` of a function of the checkpoint module, which is death."""
    torch.set_num_threads(1)
    if point is not None:
        _die_in(point, call)
    fake_trainer(out, **SETTINGS).fit(resume=True)


def _die_in(point: str, call: int) -> None:
    original, calls = getattr(checkpoint, point), 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(checkpoint, point, counted)
