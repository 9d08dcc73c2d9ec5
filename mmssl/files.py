"""Files and folders that are whole or absent: write aside, fsync, rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mmssl.types import InputError

ELSEWHERE = "name a place of yours with --out"


def write_aside(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises `OSError` (a full disk, say) with the old file untouched and the partial one removed.
    """

    def fill(part: Path) -> None:
        part.write_bytes(content)

    make_aside(path, fill)


def make_aside(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` make a file beside `path` (same suffix, so that tools that go by suffix work), then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        fill(part)
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


def make_folder_aside(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` fill a new folder beside `path`, then put it in place, where nothing or an empty folder may be. A `fill` that fails leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process long dead whose number came round again
        part.mkdir()
        fill(part)
        for inside in (part, *part.rglob("*")):
            sync(inside)
        if path.is_dir():
            path.rmdir()  # refuses where there is something in it
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync(path.parent)


def check_file(file: Path, instead: str) -> None:
    """Before hours of work rather than behind them: may `file` be written? Makes nothing.

    Raises `InputError`, which ends in `instead`, if it is a folder, or lies where nothing can be written.
    """
    _check_room(file, file.absolute().parent, instead)
    if file.is_dir():
        raise InputError(f"{file} cannot be written: it is a folder; {instead}")


def check_folder(folder: Path, instead: str) -> None:
    """The same for a folder, which may be there or not. Raises `InputError` if it is a file, or nothing can be written there."""
    _check_room(folder, folder.absolute(), instead)


def _check_room(named: Path, folder: Path, instead: str) -> None:
    """Can `folder` be written to, or made?"""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        why = None if there.is_dir() else f"{there} is a file"
    except PermissionError as error:  # it lies in a folder that may not be looked into
        there, why = Path(error.filename), None
    if why is None and not os.access(there, os.W_OK | os.X_OK):
        why = f"{there} is not yours to write to, or read-only"
    if why is not None:
        raise InputError(f"{named} cannot be written: {why}; {instead}")


def full_disk(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that the disk is full, or somebody's share of it. libav's errors bear the system's numbers, too."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
