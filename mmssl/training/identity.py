"""What a run is: its resolved config and the data it saw. A resumed run must be the same one, or say what differs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmssl.types import InputError

# These change neither the rows, nor the arithmetic of a step, nor the schedule. The address of the data may change because the
# manifest's sha256 is compared beside it.
MAY_CHANGE = (
    r"train\.(workers|log_every|gradients_every|save_every|eval_every|eval_rows|keep|max_nonfinite|wandb|device|parallel)",
    r"streams\.\d+\.(data|max_replaced)",
)
_REASONS = {"train.steps": "the learning rate depends on it", "train.warmup": "the learning rate depends on it"}
_ABSENT = object()


def check_same_run(saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise `InputError` listing, by key path, every difference that a resumed run may not have."""
    old, new = _flat(saved), _flat(given)
    lines = []
    for path in dict.fromkeys([*old, *new]):
        before, after = old.get(path, _ABSENT), new.get(path, _ABSENT)
        if before != after and not any(re.fullmatch(rf"(.*\.)?{p}", path) for p in MAY_CHANGE):
            reason = next((f" ({text})" for key, text in _REASONS.items() if path == key or path.endswith("." + key)), "")
            lines.append(f"  {path}: {_shown(before)} in the checkpoint, {_shown(after)} now{reason}")
    if lines:
        raise InputError(
            f"--resume goes on with the same run, but {len(lines)} value{'s differ' if len(lines) > 1 else ' differs'}:\n"
            + "\n".join(lines)
            + "\nrestore them, or start a new run with another --out"
        )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, Sequence) and not isinstance(values, str):
        items = [(str(place), value) for place, value in enumerate(values)]
    else:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else key))
    return flat


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)
