"""Where a command writes: looked at before it begins, so that hours of work do not end in a place that takes nothing."""

from __future__ import annotations

from pathlib import Path

import typer

from mmssl.files import check_file, check_folder


def new_file(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """For `callback=` of an argument or option that names a file to write. Raises `InputError` if it cannot be written."""
    if value is not None:
        check_file(value, _instead(parameter))
    return value


def new_folder(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """The same for a folder to write to."""
    if value is not None:
        check_folder(value, _instead(parameter))
    return value


def _instead(parameter: typer.CallbackParam) -> str:
    options = [name for name in parameter.opts if name.startswith("-")]
    return f"name another place with {options[0]}" if options else f"name another place as {(parameter.name or '').upper()}"
