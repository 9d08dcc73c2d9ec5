"""`evaluation.json` of a run: held-out figures with intervals, and the calibration that localization uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmssl.downstream.calibration import Calibration
from mmssl.files import write_aside
from mmssl.types import InputError

EVALUATION_FILE = "evaluation.json"


def evaluation_path(run: Path, data: str | None = None) -> Path:
    """Where the evaluation of a run on its held-out sources lies, or on other data by name."""
    return run / (EVALUATION_FILE if data is None else f"evaluation-{data}.json")


def write_evaluation(path: Path, content: dict[str, Any]) -> Path:
    """Write an evaluation, whole or not at all."""
    write_aside(path, json.dumps(content, indent=2, allow_nan=False).encode())
    return path


def read_evaluation(run: Path, data: str | None = None) -> dict[str, Any] | None:
    """A run's evaluation on its held-out sources, or on other data by name; None where `mmssl evaluate` has not been run.

    Raises:
        InputError: the file is damaged.
    """
    path = evaluation_path(run, data)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); run mmssl evaluate {run} again") from error
    if not isinstance(content, dict) or not isinstance(content.get("objectives"), dict):
        raise InputError(f"{path} is no evaluation of a run; run mmssl evaluate {run} again")
    return content


def read_calibration(run: Path, objective: str) -> Calibration | None:
    """The calibration of one objective of a run; None where it was not measured."""
    values = ((read_evaluation(run) or {}).get("objectives", {}).get(objective) or {}).get("calibration")
    return None if values is None else Calibration.from_json(values, str(run / EVALUATION_FILE))
