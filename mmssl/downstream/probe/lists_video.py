"""The published lists of the action datasets: UCF101, HMDB51, Kinetics and Something-Something.

UCF101: Soomro, Zamir and Shah 2012, arXiv:1212.0402, three splits, `trainlist01.txt`, `testlist01.txt`. HMDB51: Kuehne et al., ICCV 2011,
three splits, `brush_hair_test_split1.txt` and 152 more. Kinetics: Kay et al. 2017, arXiv:1705.06950, `train.csv`, `val.csv`; the figures of the literature
are on its validation part. Something-Something v2: Goyal et al., ICCV 2017, arXiv:1706.04261, `something-something-v2-train.json` and so on;
likewise tested on its validation part, since the labels of its test part are not public.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mmssl.downstream.probe.labelled import Item, Listing, Split
from mmssl.types import InputError

UCF101_SIZES = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}  # split: clips to learn from, to test on; 13,320 in each
HMDB51_SIZES = (3570, 1530)  # 70 and 30 of each of 51 classes, in each split
KINETICS_SIZES = {400: (246_534, 19_906)}  # rows of the CSV files as first published; of later editions several are in use
SSV2_SIZES, SSV2_CLASSES = (168_913, 24_777), 174

_UCF_GROUP = re.compile(r"_(g\d+)_c\d+$")
_HMDB_TAIL = re.compile(r"_[fuhl]_[cn]m_np\d+_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+$")
_KINETICS = re.compile(r"(?:kinetics[-_]?\d*[-_])?(train|val|validate|validation)\.csv", re.IGNORECASE)


def ucf101(folder: Path, ids: Sequence[str]) -> Listing:
    """The three splits of UCF101. A group is the video that clips were cut from: `v_Diving_g07_c03` belongs to Diving's group g07."""
    del ids
    parts = {}
    for number in (1, 2, 3):
        train, test = (folder / f"{part}list{number:02d}.txt" for part in ("train", "test"))
        if train.is_file() and test.is_file():
            parts[number] = [[line.split()[0] for line in read_lines(path)] for path in (train, test)]
    names = list(dict.fromkeys(name for part in parts.values() for names in part for name in names))
    wrong = [name for name in names if name.count("/") != 1]
    if wrong:
        raise InputError(f"{folder} lists {wrong[0]!r}; a line of UCF101's lists begins with Class/v_Class_g01_c01.avi")
    class_of = {name: name.partition("/")[0] for name in names}
    classes = tuple(sorted(set(class_of.values())))
    number_of = {name: number for number, name in enumerate(classes)}

    def group(name: str) -> str:
        found = _UCF_GROUP.search(PurePosixPath(name).stem)
        return f"{class_of[name]}/{found.group(1)}" if found else name

    items = tuple(Item(name, (number_of[class_of[name]],), group(name)) for name in names)
    place = {name: number for number, name in enumerate(names)}
    splits = tuple(_split(str(number), part[0], part[1], place) for number, part in parts.items())
    problems = wrong_sizes("UCF101", splits, {str(number): size for number, size in UCF101_SIZES.items()}, len(classes), 101)
    return Listing("ucf101", "UCF101", classes, items, splits, problems=problems)


def hmdb51(folder: Path, ids: Sequence[str]) -> Listing:
    """The three splits of HMDB51: 70 clips of each class to learn from, 30 to test on, the others in neither. A group is a film's name."""
    del ids
    rows: dict[int, list[tuple[str, str, str]]] = {}  # split: class, clip, 0 1 or 2
    for path in sorted(folder.glob("*_test_split[123].txt")):
        name, _, number = path.stem.rpartition("_test_split")
        for line in read_lines(path):
            words = line.split()
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise InputError(f"{path} has the line {line!r}; a line of HMDB51's lists is a file name and 0, 1 or 2")
            rows.setdefault(int(number), []).append((name, words[0], words[1]))
    used = {f"{name}/{clip}": name for part in rows.values() for name, clip, role in part if role != "0"}
    classes = tuple(sorted({name for part in rows.values() for name, _, _ in part}))
    number_of = {name: number for number, name in enumerate(classes)}
    items = tuple(
        Item(path, (number_of[name],), f"{name}/{_HMDB_TAIL.sub('', PurePosixPath(path).stem)}") for path, name in used.items()
    )
    place = {item.name: number for number, item in enumerate(items)}
    splits = tuple(
        _split(
            str(number),
            [f"{name}/{clip}" for name, clip, role in part if role == "1"],
            [f"{name}/{clip}" for name, clip, role in part if role == "2"],
            place,
        )
        for number, part in sorted(rows.items())
    )
    problems = wrong_sizes("HMDB51", splits, {str(number): HMDB51_SIZES for number in (1, 2, 3)}, len(classes), 51)
    return Listing("hmdb51", "HMDB51", classes, items, splits, problems=problems)


def kinetics_lists(folder: Path) -> dict[str, Path]:
    """ "train" and "val" -> the CSV files of Kinetics in a folder; fewer where they are not there."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.csv")):
        name = _KINETICS.fullmatch(path.name)
        if name and {"label", "youtube_id"} <= set(_header(path)):
            found["train" if name.group(1).lower() == "train" else "val"] = path
    return found


def kinetics(folder: Path, ids: Sequence[str]) -> Listing:
    """Kinetics-400, 600 or 700, by its number of classes. Clips are called ID.mp4 or ID_000012_000022.mp4; a group is a video's ID."""
    del ids
    lists = kinetics_lists(folder)
    rows = {part: list(read_table(path, ("label", "youtube_id", "time_start", "time_end"))) for part, path in lists.items()}
    classes = tuple(sorted({row["label"] for part in rows.values() for row in part}))
    number_of = {name: number for number, name in enumerate(classes)}
    items: dict[str, Item] = {}
    names: dict[str, list[str]] = {part: [] for part in ("train", "val")}
    for part, table in rows.items():
        for row in table:
            start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
            name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            items[name] = Item(name, (number_of[row["label"]],), row["youtube_id"])
            names[part].append(name)
    place = {name: number for number, name in enumerate(items)}
    splits = (_split("1", names["train"], names["val"], place),)
    title = f"Kinetics-{len(classes)}"
    notes: list[str] = [f"tested on the validation part of {title}, as is usual"]
    size = KINETICS_SIZES.get(len(classes))
    if size is None:
        notes.append(f"how many clips {title} has is known from these lists only: {len(names['train'])} and {len(names['val'])}")
    problems = wrong_sizes(title, splits, {} if size is None else {"1": size}, len(classes), len(classes))
    if len(classes) not in (400, 600, 700):
        problems = (*problems, f"{folder} lists {len(classes)} classes, editions of Kinetics have 400, 600 or 700")
    return Listing("kinetics", title, classes, tuple(items.values()), splits, problems=problems, notes=tuple(notes))


def ssv2_lists(folder: Path) -> dict[str, Path]:
    """ "labels", "train", "validation" -> the JSON files of Something-Something v2 in a folder, under either of their published names."""
    found: dict[str, Path] = {}
    for part in ("labels", "train", "validation"):
        for name in (f"something-something-v2-{part}.json", f"{part}.json"):
            if (folder / name).is_file():
                found.setdefault(part, folder / name)
    return found


def ssv2(folder: Path, ids: Sequence[str]) -> Listing:
    """Something-Something v2: clips are called by their number; "from left to right" is another class in a mirror."""
    del ids
    lists = ssv2_lists(folder)
    labels, train, validation = (_read_json(lists[part]) for part in ("labels", "train", "validation"))
    if not isinstance(labels, dict):
        raise InputError(f"{lists['labels']} must hold an object of label: number, it holds {type(labels).__name__}")
    classes = tuple(sorted(labels, key=lambda name: int(labels[name])))
    number_of = {name: number for number, name in enumerate(classes)}
    items: list[Item] = []
    names: list[list[str]] = []
    for part, rows in (("train", train), ("validation", validation)):
        names.append([])
        for row in rows:
            try:
                name, label = str(row["id"]), str(row["template"]).replace("[", "").replace("]", "")
            except (KeyError, TypeError) as error:
                raise InputError(f"{lists[part]} has the entry {row!r}; entries have an id and a template") from error
            if label not in number_of:
                raise InputError(f"{lists[part]}: the template of clip {name}, {label!r}, is none of {lists['labels']}")
            items.append(Item(name, (number_of[label],), name))
            names[-1].append(name)
    place = {item.name: number for number, item in enumerate(items)}
    splits = (_split("1", names[0], names[1], place),)
    problems = wrong_sizes("Something-Something v2", splits, {"1": SSV2_SIZES}, len(classes), SSV2_CLASSES)
    notes = ("tested on the validation part, as is usual: the test part has no public labels",)
    return Listing(
        "ssv2", "Something-Something v2", classes, tuple(items), splits, mirrored=False, problems=problems, notes=notes
    )


def wrong_sizes(
    title: str, splits: Sequence[Split], published: dict[str, tuple[int, int]], classes: int, expected_classes: int
) -> tuple[str, ...]:
    """What the lists have another number of than was published, in sentences."""
    found = [f"the lists name {classes} classes, {title} has {expected_classes}"] if classes != expected_classes else []
    there = {split.name: split for split in splits}
    for name, size in published.items():
        if name not in there:
            found.append(f"the lists of split {name} of {title} are not there")
            continue
        for what, part, count in zip(("learn from", "test on"), (there[name].train, there[name].test), size, strict=True):
            if len(part) != count:
                found.append(f"the lists of split {name} name {len(part)} clips to {what}, {title} has {count}")
    return tuple(found)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises `InputError` where it is not text."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error


def read_table(path: Path, columns: Sequence[str]) -> Iterable[dict[str, str]]:
    """The rows of a CSV file with a header that has these columns. Raises `InputError` where it has not, or a row lacks a value."""
    lines = read_lines(path)
    reader = csv.DictReader(lines, skipinitialspace=True)
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise InputError(
            f"{path} has no column {', '.join(lacking)}; its first line must name the columns {', '.join(columns)} and names "
            f"{', '.join(reader.fieldnames or ()) or 'none'}"
        )
    for number, row in enumerate(reader, start=2):
        short = [name for name in columns if not row.get(name)]
        if short:
            raise InputError(f"{path}, row {number}: there is no {', '.join(short)} in {lines[number - 1]!r}")
        yield row


def _split(name: str, train: Sequence[str], test: Sequence[str], place: dict[str, int]) -> Split:
    return Split(name, tuple(place[clip] for clip in train), tuple(place[clip] for clip in test))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip() for name in file.readline().split(",")]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
