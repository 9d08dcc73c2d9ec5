"""What published retrieval protocols ask: which clips, which captions, how many of each; read from the files that they are given out as.

- MSR-VTT 1k-A: Yu, Kim, Kim, "A Joint Sequence Fusion Model for Video Question Answering and Retrieval", ECCV 2018, arXiv:1808.02559: 1,000
  clips of the test set with one caption each (`MSRVTT_JSFUSION_test.csv`: key, vid_key, video_id, sentence).
- YouCook2: the 3,350 steps of the validation films, one caption each, as in Miech et al., "HowTo100M", ICCV 2019, arXiv:1906.03327, in the
  file of Miech et al., CVPR 2020, arXiv:1912.06430 (`validation_youcook.csv`: end, start, task, text, video_id).
- VGGSound: Chen, Xie, Vedaldi, Zisserman, "VGGSound: A Large-Scale Audio-Visual Dataset", ICASSP 2020, arXiv:2004.14368: the test split
  (`vggsound.csv`, no header: YouTube id, start in seconds, label, split). Of it, five clips of each class (1,545): Gong et al., "Contrastive
  Audio-Visual Masked Autoencoder" (CAV-MAE), ICLR 2023, arXiv:2210.07839 (a JSON list).
- AudioCaps: Kim, Kim, Lee, Kim, "AudioCaps: Generating Captions for Audios in The Wild", NAACL 2019: 975 test clips (495 of validation) with
  five captions each (`test.csv`: audiocap_id, youtube_id, start_time, caption).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mmssl.downstream.spaces import Kind
from mmssl.types import InputError, Span

CLIP = 10.0  # seconds of a clip of VGGSound and of AudioCaps


@dataclass(frozen=True, slots=True)
class Item:
    """One clip of a protocol."""

    id: str
    names: tuple[str, ...]  # what files of the clip alone are called, without suffix
    film: str  # what a file of the whole film is called
    span: Span | None  # of the clip in the film; None: the film is the clip
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Protocol:
    """How many clips and captions there have to be, what is looked for by what, and how its file is read."""

    name: str
    clips: int
    captions: int  # in all; 0: none
    kinds: tuple[Kind, Kind]
    read: Callable[[Path], list[Item]]


def read_msrvtt(path: Path) -> list[Item]:
    """`MSRVTT_JSFUSION_test.csv`."""
    rows = _rows(path, ("video_id", "sentence"))
    return [Item(row["video_id"], (row["video_id"],), row["video_id"], None, (row["sentence"],)) for row in rows]


def read_youcook2(path: Path) -> list[Item]:
    """`validation_youcook.csv`; a clip file may be called `<film>_<start>_<end>`."""
    items = []
    for row in _rows(path, ("video_id", "start", "end", "text")):
        film, span = row["video_id"], Span(_number(row["start"], path), _number(row["end"], path))
        name = f"{film}_{row['start']}_{row['end']}"
        items.append(Item(name, (name,), film, span, (row["text"],)))
    return items


def read_vggsound(path: Path) -> list[Item]:
    """The rows of split `test` of `vggsound.csv`."""
    with _opened(path) as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or any(len(row) != 4 for row in rows):
        raise InputError(f"{path} is no list of VGGSound: its rows are YouTube id, start, label, split")
    return [_clip(row[0], row[1], path) for row in rows if row[3].strip() == "test"]


def read_cavmae(path: Path) -> list[Item]:
    """CAV-MAE's JSON list: `{"data": [{"video_id": ...}, ...]}`."""
    try:
        names = [str(entry["video_id"]) for entry in json.loads(path.read_text(encoding="utf-8"))["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} is no list of CAV-MAE\'s: {{"data": [{{"video_id": ...}}, ...]}} ({error!r})') from error
    return [Item(name, (name,), name, None) for name in names]


def read_audiocaps(path: Path) -> list[Item]:
    """A split of AudioCaps; the captions of a clip are gathered."""
    captions: dict[tuple[str, str], list[str]] = {}
    for row in _rows(path, ("youtube_id", "start_time", "caption")):
        captions.setdefault((row["youtube_id"], row["start_time"]), []).append(row["caption"])
    return [_clip(film, start, path, tuple(texts)) for (film, start), texts in captions.items()]


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("msrvtt-1ka", 1000, 1000, ("text", "video"), read_msrvtt),
        Protocol("youcook2", 3350, 3350, ("text", "video"), read_youcook2),
        Protocol("vggsound", 15446, 0, ("audio", "video"), read_vggsound),
        Protocol("vggsound-5", 1545, 0, ("audio", "video"), read_cavmae),
        Protocol("audiocaps", 975, 4875, ("text", "audio"), read_audiocaps),
        Protocol("audiocaps-val", 495, 2475, ("text", "audio"), read_audiocaps),
    )
}


def find_protocol(name: str) -> Protocol:
    """A protocol by name. Raises `InputError` where there is none of that name."""
    if name not in PROTOCOLS:
        raise InputError(f"there is no retrieval protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _clip(film: str, start: str, path: Path, captions: tuple[str, ...] = ()) -> Item:
    """A clip of ten seconds: files are called by its film and start in one of several ways, or by the film alone."""
    begin = _number(start, path)
    names = (f"{film}_{round(begin):06d}", f"{film}_{start}", f"{film}_{round(begin * 1000)}_{round((begin + CLIP) * 1000)}")
    return Item(names[0], names, film, Span(begin, begin + CLIP), captions)


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, separated by commas or semicolons."""
    with _opened(path) as file:
        head = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",")
        rows = list(reader)
        names = reader.fieldnames or []
    missing = [column for column in columns if column not in names]
    if missing or not rows:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)} or has no rows; its header is {', '.join(names) or 'empty'}"
        )
    for number, row in enumerate(rows, start=2):
        if any(not (row[column] or "").strip() for column in columns):
            raise InputError(f"{path}, line {number}: {', '.join(columns)} must all be filled in")
    return rows


def _opened(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _number(text: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{path}: {text!r} is no number of seconds") from error
