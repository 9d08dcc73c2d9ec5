"""What a run writes down: metrics.jsonl (one JSON object a line), TensorBoard and, where asked for, Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl.files import write_aside
from mmssl.types import InputError

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """The log of one run folder. One process (the first rank) makes one.

    Args:
        out: the run folder.
        step: the checkpoint's step that the run goes on from: later lines, from before an interruption, are dropped.
        wandb: project name, or None.
    """

    def __init__(self, out: Path, *, step: int, wandb: str | None = None) -> None:
        # Imported here: it takes a second, and only training writes event files.
        from torch.utils.tensorboard import SummaryWriter

        out.mkdir(parents=True, exist_ok=True)
        self.path = out / METRICS_FILE
        self._wandb = _start_wandb(wandb, out) if wandb else None
        drop_lines_after(self.path, step)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(out / "tb"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line, flushed: killing this process loses none. Values that are not finite are written as null."""
        line = {"step": step, **{name: _rounded(value) for name, value in values.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            if math.isfinite(value):
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def sync(self) -> None:
        """Bring all lines to the disk: called before a checkpoint, which must not be ahead of its log."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def drop_lines_after(path: Path, step: int) -> None:
    """Keep only the lines up to and including `step`."""
    if not path.is_file():
        return
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    write_aside(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _rounded(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _start_wandb(project: str, out: Path) -> Any:
    try:
        wandb = importlib.import_module("wandb")  # an extra
    except ImportError as error:
        raise InputError(
            f"train.wandb is {project!r}, but wandb is not installed; install mmssl[wandb], or leave the key out"
        ) from error
    # The id is the folder's address, so that a resumed run goes on in the same curve.
    return wandb.init(
        project=project,
        name=out.name,
        dir=str(out),
        id=hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16],
        resume="allow",
    )
