"""Labels of one's own: folders that are classes, or a CSV file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmssl.downstream.probe.folds import cross_validation
from mmssl.downstream.probe.labelled import Item, Listing, Split, check_splits
from mmssl.downstream.probe.lists_video import read_table
from mmssl.types import InputError

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "test": "test",
}
_UCF_NAME = re.compile(r"_g\d+_c\d+(?:\.\w+)?$")


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a set without splits of its own is cut."""

    folds: int = 5
    group: str | None = None  # regular expression on names: the first group, or all of what matches, names the group
    min_files: int = 0  # classes with fewer groups are left out
    seed: int = 0


def folder_classes(root: Path, ids: Sequence[str], cutting: Cutting) -> Listing:
    """`root/CLASS/.../clip`, or `root/train/CLASS/.../clip` beside `root/test` (and `root/val`). Ids are paths below the root.

    Raises:
        InputError: clips lie in no folder, or the classes cannot be cut into parts.
    """
    parted = {PurePosixPath(name).parts[0].lower() for name in ids} <= set(PARTS)
    depth = 2 if parted else 1  # folders above a clip that have a meaning
    stray = [name for name in ids if len(PurePosixPath(name).parts) <= depth]
    if stray:
        raise InputError(
            f"{len(stray)} of the {len(ids)} clips of {root} lie in no folder of a class ({', '.join(stray[:3])}); put each into a folder "
            f"named after its class, or give a CSV file with the columns path and label"
        )
    rows = []
    for name in ids:
        parts = PurePosixPath(name).parts
        rows.append((name, (parts[depth - 1],), PARTS[parts[0].lower()] if parted else "", ""))
    return _listing("folder", root.name, rows, cutting, multi_label=False)


def csv_classes(path: Path, root: Path, cutting: Cutting) -> Listing:
    """A CSV file with the columns `path` and `label`, or `labels` (several, separated by |); if wanted `split` (train, val, test) and `group`.

    Paths are relative to the file's own folder, or to `root`, or absolute.

    Raises:
        InputError: a column or a value is missing, a split has another name, or the classes cannot be cut into parts.
    """
    first = next(iter(read_table(path, ("path",))), None)
    if first is None:
        raise InputError(f"{path} names no clip; below the line of columns each line is one clip")
    multi_label = "labels" in first and "label" not in first
    column = "labels" if multi_label else "label"
    rows = []
    for number, row in enumerate(read_table(path, ("path", column)), start=2):
        labels = tuple(label.strip() for label in row[column].split("|")) if multi_label else (row[column].strip(),)
        part = (row.get("split") or "").strip().lower()
        if part and part not in PARTS:
            raise InputError(f"{path}, row {number}: split is {part!r}; it is train, val or test")
        rows.append((_below(path, row["path"].strip(), root), labels, PARTS.get(part, ""), (row.get("group") or "").strip()))
    twice = [name for name, count in Counter(row[0] for row in rows).items() if count > 1]
    if twice:
        raise InputError(f"{path} names {twice[0]} more than once; give each clip one line (several labels: column labels, a|b)")
    if len({bool(row[2]) for row in rows}) > 1:
        raise InputError(f"{path} gives a split for some clips and none for others; give one for each, or leave the column away")
    return _listing("csv", path.name, rows, cutting, multi_label=multi_label)


def csv_root(path: Path) -> Path:
    """The folder that holds all clips that a CSV file names."""
    folders = [(path.absolute().parent / row["path"].strip()).parent for row in read_table(path, ("path",))]
    if not folders:
        raise InputError(f"{path} names no clip; below the line of columns each line is one clip")
    shared = folders[0].resolve()
    for folder in folders[1:]:
        while not folder.resolve().is_relative_to(shared):
            shared = shared.parent
    return shared


def _below(table: Path, name: str, root: Path) -> str:
    place = table.absolute().parent / name
    whole = place.parent.resolve() / place.name  # a clip may itself be a link to elsewhere: the index calls it by its name here
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else name


def _listing(
    protocol: str, title: str, rows: list[tuple[str, tuple[str, ...], str, str]], cutting: Cutting, *, multi_label: bool
) -> Listing:
    """`rows`: name, labels, part ("" where the set is not parted) and group ("" where none is given) of each clip."""
    names = [row[0] for row in rows]
    groups = [given or made for (_, _, _, given), made in zip(rows, _groups(names, cutting.group), strict=True)]
    notes = _hints(names, cutting.group, any(row[3] for row in rows))
    kept, left_out = _large_enough(rows, groups, cutting.min_files)
    if left_out:
        shown = ", ".join(left_out[:8]) + (f" and {len(left_out) - 8} more" if len(left_out) > 8 else "")
        notes.append(f"left out, having fewer than {cutting.min_files} files or groups: {shown}")
    classes = tuple(sorted({label for place in kept for label in rows[place][1]}))
    number_of = {label: number for number, label in enumerate(classes)}
    items = tuple(
        Item(names[place], tuple(number_of[label] for label in rows[place][1] if label in number_of), groups[place])
        for place in kept
    )
    if len(classes) < 2 and not multi_label:
        raise InputError(
            f"{title} has {len(classes)} class{'es' * (not classes)}{f' with {cutting.min_files} files or groups' * bool(left_out)} "
            f"({', '.join(classes) or 'none'}); a probe needs at least 2. Of a folder, give the one that holds the folders of the classes"
        )
    parts = [rows[place][2] for place in kept]
    if any(parts):
        splits = (Split("1", _places(parts, "train"), _places(parts, "test") or _places(parts, "val"), _validation(parts)),)
    else:
        splits = cross_validation(items, classes, folds=cutting.folds, seed=cutting.seed)
    listing = Listing(protocol, title, classes, items, splits, multi_label=multi_label, notes=tuple(notes))
    check_splits(listing)
    return listing


def _places(parts: Sequence[str], wanted: str) -> tuple[int, ...]:
    return tuple(place for place, part in enumerate(parts) if part == wanted)


def _validation(parts: Sequence[str]) -> tuple[int, ...]:
    return _places(parts, "val") if "test" in parts else ()  # without a test part, what is called validation is tested on


def _groups(names: Sequence[str], pattern: str | None) -> list[str]:
    if pattern is None:
        return list(names)
    try:
        search = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group {pattern!r} is not a regular expression: {error}") from error
    found = []
    for name in names:
        match = search.search(name)
        if match is None:
            raise InputError(f"--group {pattern!r} does not match {name!r}; each clip needs a group")
        found.append(match.group(1) if search.groups else match.group(0))
    return found


def _hints(names: Sequence[str], pattern: str | None, given: bool) -> list[str]:
    if pattern is None and not given and all(_UCF_NAME.search(name) for name in names):
        return [
            "files are parted one by one, though their names tell groups (g01) that were cut from one video and look alike: figures will be too "
            "good. Keep them together with --group '([^/]+_g[0-9]+)_c'"
        ]
    return []


def _large_enough(
    rows: Sequence[tuple[str, tuple[str, ...], str, str]], groups: Sequence[str], least: int
) -> tuple[list[int], list[str]]:
    """Positions of the rows that stay, and the classes that are left out."""
    members: dict[str, set[str]] = {}
    for (_, labels, _, _), group in zip(rows, groups, strict=True):
        for label in labels:
            members.setdefault(label, set()).add(group)
    small = sorted(label for label, of in members.items() if len(of) < least)
    return [place for place, row in enumerate(rows) if not set(row[1]) <= set(small)], small
