"""The published lists of the sound datasets: ESC-50, AudioSet and Speech Commands.

ESC-50: Piczak, ACM Multimedia 2015, `esc50.csv`, five folds. AudioSet: Gemmeke et al., ICASSP 2017, `balanced_train_segments.csv`,
`eval_segments.csv`, several labels a clip. Speech Commands v2 with its 35 words: Warden 2018, arXiv:1804.03209, `validation_list.txt`, `testing_list.txt`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mmssl.downstream.probe.labelled import Item, Listing, Split
from mmssl.downstream.probe.lists_video import read_lines, read_table, wrong_sizes
from mmssl.types import InputError

ESC50_FOLD, ESC50_FOLDS = 400, 5
AUDIOSET_SIZES = {"balanced": 22_160, "unbalanced": 2_041_789, "eval": 20_371}
SPEECH_SIZES = (84_843, 9_981, 11_005)  # to learn from, to choose by, to test on; 35 words
NOISE = "_background_noise_"

_SPEAKER = re.compile(r"^([0-9a-f]+)_nohash_\d+$")


def esc50(folder: Path, ids: Sequence[str]) -> Listing:
    """Five folds, each tested once; a group is the recording that clips were cut from (`src_file`)."""
    del ids
    rows = list(read_table(folder / "esc50.csv", ("filename", "fold", "category", "src_file")))
    classes = tuple(sorted({row["category"] for row in rows}))
    number_of = {name: number for number, name in enumerate(classes)}
    items = tuple(Item(row["filename"], (number_of[row["category"]],), row["src_file"]) for row in rows)
    folds = sorted({row["fold"] for row in rows})
    parts = {fold: tuple(place for place, row in enumerate(rows) if row["fold"] == fold) for fold in folds}
    whole = range(len(items))
    splits = tuple(
        Split(fold, tuple(place for place in whole if rows[place]["fold"] != fold), part) for fold, part in parts.items()
    )
    rest = ESC50_FOLD * (ESC50_FOLDS - 1)
    problems = wrong_sizes("ESC-50", splits, {str(n + 1): (rest, ESC50_FOLD) for n in range(ESC50_FOLDS)}, len(classes), 50)
    return Listing("esc50", "ESC-50", classes, items, splits, problems=problems)


def audioset(folder: Path, ids: Sequence[str]) -> Listing:
    """AudioSet: learnt from the balanced part (the unbalanced one where only that is listed), tested on the evaluation part.

    Clips are called after their YouTube ID: ID.wav, YID.wav, or either with start and end behind it.
    """
    del ids
    names = _audioset_names(folder)
    number_of = {label: number for number, label in enumerate(names)}
    part = "balanced" if (folder / "balanced_train_segments.csv").is_file() else "unbalanced"
    items: list[Item] = []
    counts: list[int] = []
    for path in (folder / f"{part}_train_segments.csv", folder / "eval_segments.csv"):
        if not path.is_file():
            raise InputError(f"{folder} has no {path.name}; AudioSet is learnt from one list of segments and tested on another")
        rows = _segments(path)
        for name, start, end, labels in rows:
            unknown = [label for label in labels if label not in number_of]
            if unknown:
                raise InputError(
                    f"{path}: segment {name} has the label {unknown[0]}, which class_labels_indices.csv does not know"
                )
            items.append(Item(f"{name}_{start:06d}_{end:06d}", tuple(number_of[label] for label in labels), name))
        counts.append(len(rows))
    cut = counts[0]
    splits = (Split("1", tuple(range(cut)), tuple(range(cut, len(items)))),)
    sizes = {"1": (AUDIOSET_SIZES[part], AUDIOSET_SIZES["eval"])}
    problems = wrong_sizes("AudioSet", splits, sizes, len(names), 527)
    notes = (f"learnt from the {part} part",)
    return Listing(
        "audioset", "AudioSet", tuple(names.values()), tuple(items), splits, multi_label=True, problems=problems, notes=notes
    )


def speech_commands(folder: Path, ids: Sequence[str]) -> Listing:
    """Speech Commands v2, all 35 words: what neither list names is learnt from. A group is a speaker."""
    chosen = [[PurePosixPath(line).with_suffix("") for line in read_lines(folder / name)] for name in LISTS]
    validation, test = ({path.as_posix() for path in part} for part in chosen)
    below = {tail: identity for identity in ids if (tail := "/".join(identity.split("/")[-2:])).count("/") == 1}
    words = {tail.split("/")[0] for tail in (*validation, *test)}  # other folders are not of the set
    learnt = [tail for tail in sorted(below) if tail.split("/")[0] in words and tail not in validation and tail not in test]
    every = [*learnt, *sorted(validation), *sorted(test)]
    classes = tuple(sorted(words))
    number_of = {name: number for number, name in enumerate(classes)}

    def group(tail: str) -> str:
        found = _SPEAKER.match(tail.split("/")[1])
        return found.group(1) if found else tail

    items = tuple(Item(tail, (number_of[tail.split("/")[0]],), group(tail)) for tail in every)
    ends = (len(learnt), len(learnt) + len(validation), len(every))
    split = Split("1", tuple(range(ends[0])), tuple(range(ends[1], ends[2])), tuple(range(ends[0], ends[1])))
    title = "Speech Commands v2"
    problems = list(wrong_sizes(title, (split,), {"1": (SPEECH_SIZES[0], SPEECH_SIZES[2])}, len(classes), 35))
    if len(validation) != SPEECH_SIZES[1]:
        problems.append(f"validation_list.txt names {len(validation)} clips, {title} has {SPEECH_SIZES[1]}")
    return Listing("speech_commands", title, classes, items, (split,), problems=tuple(problems))


LISTS = ("validation_list.txt", "testing_list.txt")


def _audioset_names(folder: Path) -> dict[str, str]:
    path = folder / "class_labels_indices.csv"
    if not path.is_file():
        raise InputError(f"{folder} has no class_labels_indices.csv, which names the 527 classes of AudioSet")
    return {row["mid"]: row["display_name"] for row in read_table(path, ("index", "mid", "display_name"))}


def _segments(path: Path) -> list[tuple[str, int, int, list[str]]]:
    """(YouTube ID, start, end in whole seconds, labels) of each line that is no comment."""
    rows = []
    for number, row in enumerate(csv.reader(read_lines(path), skipinitialspace=True), start=1):
        if row and row[0].startswith("#"):
            continue
        if len(row) != 4 or not row[3]:
            raise InputError(f"{path}, line {number}: a segment is YTID, start, end and labels, got {', '.join(row)!r}")
        try:
            rows.append((row[0], round(float(row[1])), round(float(row[2])), row[3].split(",")))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}; start and end are seconds") from error
    return rows
