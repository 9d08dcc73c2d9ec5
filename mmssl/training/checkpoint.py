"""Checkpoints that are whole or absent: `ckpt/0000040/{model.safetensors, ema.safetensors, optim/moments.safetensors, state.json}`.

Written into a hidden folder, fsynced, renamed. Tensors are safetensors and the rest is JSON: nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from mmssl.files import sync
from mmssl.training.errors import RunError
from mmssl.types import InputError

MODEL, EMA, OPTIMIZER, STATE = "model.safetensors", "ema.safetensors", "optim/moments.safetensors", "state.json"
FORMAT = 1


def checkpoints(root: Path) -> list[Path]:
    """All whole checkpoints under `root` (a run's `ckpt/`), oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if re.fullmatch(r"\d{7,}", path.name) and (path / STATE).is_file()]
    return sorted(found, key=lambda path: int(path.name))


def checkpoint_path(root: Path, step: int) -> Path:
    """Where the checkpoint of `step` stands, or would."""
    return root / f"{step:07d}"


def find_checkpoint(root: Path, step: int | None = None) -> Path:
    """The newest checkpoint, or that of `step`. Raises `InputError` where it is not there."""
    found = {int(path.name): path for path in checkpoints(root)}
    if not found:
        raise InputError(f"{root} holds no checkpoint")
    if step is None:
        return found[max(found)]
    if step not in found:
        raise InputError(f"{root} holds no checkpoint of step {step}; there are {', '.join(map(str, found))}")
    return found[step]


def write_checkpoint(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write one checkpoint, then remove all but the newest `keep`.

    Args:
        root: the run's `ckpt/`.
        step: optimizer steps taken.
        tensors: file name inside the checkpoint -> name -> whole tensor.
        state: JSON values.
        keep: how many checkpoints stay.

    Raises:
        RunError: it cannot be written (a full disk, say). Nothing partial stays, and older checkpoints are untouched.
    """
    final = checkpoint_path(root, step)
    part = root / f".{final.name}.{os.getpid()}.part"
    try:
        _fill(part, tensors, {"format": FORMAT, "step": step, **state})
        if final.exists():  # the same step of the same run: a resumed run that comes by again
            _remove(final)
        part.rename(final)
        sync(root)
    except (OSError, safetensors.SafetensorError) as error:  # safetensors wraps the system's errors in its own
        shutil.rmtree(part, ignore_errors=True)
        raise RunError(_not_written(root, step, tensors, error)) from error
    for old in checkpoints(root)[:-keep]:
        _remove(old)
    return final


def clean(root: Path) -> None:
    """Remove what an interrupted write or removal left behind."""
    for path in root.glob(".*.part") if root.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON values of a checkpoint. Raises `InputError` where they are not ours."""
    try:
        state = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint / STATE} cannot be read: {error}; {_next_move(checkpoint)}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise InputError(f"{checkpoint / STATE} is of format {found}, this version of mmssl reads format {FORMAT}")
    return state


def read_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """All tensors of one file of a checkpoint.

    Raises:
        InputError: the file is missing, cut short, or no safetensors file (a pickle is refused, never opened).
    """
    try:
        return safetensors.torch.load_file(path, device=device)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}); pickled checkpoints are refused. {_next_move(_folder(path))}"
        ) from error


def check_fit(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, finite: set[str] | None = None) -> None:
    """Raise `InputError` unless `found` (read from `path`) has the names and shapes of `wanted`, and finite values.

    `finite` names the tensors whose values must be finite; None: all. (A buffer may rightly hold an infinity.)
    """
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        parts = [f"{word} {_some(names)}" for word, names in (("lacks", missing), ("has the unknown", extra)) if names]
        raise InputError(f"{path} does not fit this config: it {' and '.join(parts)}; use the config of the run that wrote it")
    wrong = [f"{k} is {tuple(found[k].shape)}, not {tuple(v.shape)}" for k, v in wanted.items() if found[k].shape != v.shape]
    if wrong:
        raise InputError(f"{path} does not fit this config: {_some(wrong)}; use the config of the run that wrote it")
    bad = [k for k, v in found.items() if (finite is None or k in finite) and v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise InputError(f"{path} holds values that are not finite, in {_some(bad)}; {_next_move(_folder(path))}")


def to_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies as safetensors wants them: on the host, contiguous, none sharing memory."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _fill(part: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    part.mkdir(parents=True)
    for name, content in tensors.items():
        path = part / name
        path.parent.mkdir(exist_ok=True)
        safetensors.torch.save_file(to_file(content), path)
        sync(path)
        if path.parent != part:
            sync(path.parent)
    (part / STATE).write_text(json.dumps(state, indent=1))
    sync(part / STATE)
    sync(part)


def _remove(checkpoint: Path) -> None:
    hidden = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old.part")
    checkpoint.rename(hidden)  # first, so that a half-removed folder never looks like a checkpoint
    shutil.rmtree(hidden, ignore_errors=True)


def _not_written(root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], error: Exception) -> str:
    size = sum(t.numel() * t.element_size() for content in tensors.values() for t in content.values()) / 1e6
    older = checkpoints(root)
    kept = f"the last good one is {older[-1]}" if older else "there is none yet"
    try:
        free = f", {shutil.disk_usage(root).free / 1e6:.1f} MB are free"
    except OSError:
        free = ""
    return (
        f"the checkpoint of step {step} could not be written to {root}: {error} (it needs {size:.1f} MB{free}); {kept}. "
        f"Make room, then run the same command with --resume"
    )


def _next_move(checkpoint: Path) -> str:
    others = [path for path in checkpoints(checkpoint.parent) if path != checkpoint]
    if others:
        return f"remove {checkpoint} to go on from {others[-1].name}"
    return "there is no other checkpoint in this run, so begin a new one"


def _folder(path: Path) -> Path:
    return next((parent for parent in path.parents if re.fullmatch(r"\d{7,}", parent.name)), path.parent)


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
