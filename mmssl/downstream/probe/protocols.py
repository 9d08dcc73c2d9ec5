"""Which protocol a folder is laid out for, and its files beside its lists: exactly the clips that the lists name, or a loud failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from mmssl.data.index import open_corpus
from mmssl.data.manifest import Manifest
from mmssl.downstream.probe.labelled import Labelled, Listing, keep, refuse_missing
from mmssl.downstream.probe.lists_audio import LISTS, NOISE, audioset, esc50, speech_commands
from mmssl.downstream.probe.lists_own import Cutting, csv_classes, csv_root, folder_classes
from mmssl.downstream.probe.lists_video import hmdb51, kinetics, kinetics_lists, ssv2, ssv2_lists, ucf101
from mmssl.types import InputError

Stream = Literal["video", "audio"]
DEPTH = 2  # folders below DATA in which lists are looked for
OWN = ("folder", "csv")


@dataclass(frozen=True, slots=True)
class Protocol:
    """A published protocol: how its lists are recognized and read, and which stream it is about."""

    there: Callable[[Path], bool]  # whether a folder holds its lists
    read: Callable[[Path, Sequence[str]], Listing]
    stream: Stream


PROTOCOLS: dict[str, Protocol] = {
    "ucf101": Protocol(lambda folder: (folder / "trainlist01.txt").is_file(), ucf101, "video"),
    "hmdb51": Protocol(lambda folder: any(folder.glob("*_test_split1.txt")), hmdb51, "video"),
    "kinetics": Protocol(lambda folder: set(kinetics_lists(folder)) == {"train", "val"}, kinetics, "video"),
    "ssv2": Protocol(lambda folder: len(ssv2_lists(folder)) == 3, ssv2, "video"),
    "esc50": Protocol(lambda folder: (folder / "esc50.csv").is_file(), esc50, "audio"),
    "audioset": Protocol(lambda folder: (folder / "eval_segments.csv").is_file(), audioset, "audio"),
    "speech_commands": Protocol(lambda folder: all((folder / name).is_file() for name in LISTS), speech_commands, "audio"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be probed on."""

    data: Path  # folder or manifest of clips, or a CSV file
    protocol: str | None = None  # None: the one that the folder is laid out for
    lists: Path | None = None  # folder of a protocol's lists, or a CSV file, where they do not lie with the clips
    split: str = "all"
    allow_missing: bool = False
    cutting: Cutting = field(default_factory=Cutting)


@dataclass(frozen=True, slots=True)
class Found:
    """A protocol and where its lists are."""

    protocol: str
    lists: Path  # a folder, or the CSV file
    sentence: str  # how it was recognized


def recognize(request: Request) -> Found:
    """Which protocol to use.

    Raises:
        InputError: the protocol is unknown, or its lists are not there.
    """
    known = (*PROTOCOLS, *OWN)
    if request.protocol is not None and request.protocol not in known:
        raise InputError(f"there is no protocol {request.protocol!r}; known: {', '.join(known)}")
    place = request.lists or request.data
    if not place.exists():
        raise InputError(f"there is no {place}; give a folder of clips, a manifest, or a CSV file")
    if place.suffix.lower() == ".csv" and place.is_file():
        if request.protocol not in (None, "csv"):
            raise InputError(f"{place} is a file; protocol {request.protocol} needs the folder of its lists")
        return Found("csv", place, f"read as csv: {place.name}")
    if request.protocol == "csv":
        raise InputError(f"{place} is no CSV file; protocol csv needs one with the columns path and label")
    if request.protocol == "folder":
        return Found("folder", place, "read as folder: each folder is a class")
    for folder in _folders(place):
        for name, protocol in PROTOCOLS.items():
            if request.protocol in (None, name) and protocol.there(folder):
                return Found(name, folder, f"read as {name}: its lists are in {folder}; --protocol says otherwise")
    if request.protocol is not None:
        raise InputError(
            f"{place} holds no lists of {request.protocol} (looked {DEPTH} folders deep); put them there, or say where they are with --lists"
        )
    return Found("folder", place, "read as folder: no lists of a known protocol, so each folder is a class")


def open_labelled(request: Request, stream: Stream | None) -> tuple[Labelled, Found, Stream]:
    """The labelled set that a request means, with its files.

    Args:
        request: what to probe on.
        stream: picture or sound; None: what the protocol is about, of one's own sets the picture where the clips have one.

    Returns:
        the set, cut down to the chosen splits; how it was recognized; and the stream.

    Raises:
        InputError: see `recognize`; clips are missing, unreadable or without the stream; no such split.
    """
    found = recognize(request)
    root = csv_root(found.lists) if request.data.suffix.lower() == ".csv" else request.data
    corpus = open_corpus(root)
    ids = [name for name in (*corpus.ids, *corpus.rejected) if NOISE not in PurePosixPath(name).parts]
    if found.protocol == "csv":
        listing = csv_classes(found.lists, corpus.root, request.cutting)
    elif found.protocol == "folder":
        listing = folder_classes(corpus.root, sorted(ids), request.cutting)
    else:
        listing = PROTOCOLS[found.protocol].read(found.lists, ids)
    if listing.problems and not request.allow_missing:
        raise InputError(
            f"{found.lists} does not hold the lists of {listing.title} as they were published: {'; '.join(listing.problems)}. Get the "
            f"original lists, or add --allow-missing for figures of what is there"
        )
    listing = _chosen(listing, request.split)
    if stream is None:
        stream = PROTOCOLS[found.protocol].stream if found.protocol in PROTOCOLS else _stream_of(corpus)
    return _with_files(listing, corpus, stream, request.allow_missing), found, stream


def _with_files(listing: Listing, corpus: Manifest, stream: Stream, allow_missing: bool) -> Labelled:
    finder = _Finder((*corpus.ids, *corpus.rejected))
    row = {name: place for place, name in enumerate(corpus.ids)}
    sources, kept, missing = [], [], {}
    for place, item in enumerate(listing.items):
        name = finder.find(item.name)
        if name is None:
            missing[item.name] = "no such file, or one more link to a file that is there"
        elif name in corpus.rejected:
            missing[item.name] = corpus.rejected[name]
        else:
            source = corpus[row[name]]
            if (source.video if stream == "video" else source.audio) is None:
                missing[item.name] = "no picture" if stream == "video" else "no sound"
            else:
                sources.append(source)
                kept.append(place)
    expected = len(listing.items)
    if not kept:
        why = next(iter(missing.values()))
        raise InputError(
            f"none of the {expected} clips of {listing.title} can be used under {corpus.root} ({why}); is it the right folder?"
        )
    refuse_missing(listing, missing, expected, allow_missing=allow_missing)
    return Labelled(keep(listing, kept) if missing else listing, tuple(sources), expected, missing)


def _chosen(listing: Listing, split: str) -> Listing:
    """The listing with one of its splits, or all, and the clips that these need."""
    names = [each.name for each in listing.splits]
    short = [name.removeprefix("fold ") for name in names]
    if split != "all" and split not in (*names, *short):
        raise InputError(f"{listing.title} has no split {split!r}; it has {', '.join(short)}, or all")
    splits = tuple(each for each, name in zip(listing.splits, short, strict=True) if split in ("all", name, each.name))
    used = sorted({place for each in splits for part in (each.train, each.validation, each.test) for place in part})
    return keep(replace(listing, splits=splits), used)


def _stream_of(corpus: Manifest) -> Stream:
    return "video" if any(corpus[place].has_video for place in range(len(corpus))) else "audio"


class _Finder:
    """Names as lists give them -> ids of a corpus, whatever lies above them and whether or not they have a suffix."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._whole = {name.casefold(): name for name in ids}
        self._tails: dict[str, list[str]] = {}
        for name in ids:
            parts = name.casefold().split("/")
            for length in (1, 2):
                if length <= len(parts):
                    self._tails.setdefault("/".join(parts[-length:]), []).append(name)

    def find(self, name: str) -> str | None:
        """The id; None where there is none. Raises `InputError` where several files could be meant."""
        folded = name.casefold().strip("/")
        bare = PurePosixPath(folded).with_suffix("").as_posix() if PurePosixPath(folded).suffix else folded
        for candidate in (folded, bare):
            if candidate in self._whole:
                return self._whole[candidate]
        for candidate in _also_called(folded, bare):
            there = self._tails.get(candidate, [])
            if len(there) > 1:
                raise InputError(
                    f"{name} could be any of {', '.join(sorted(there)[:3])}; give the folder that holds only one of them as DATA"
                )
            if there:
                return there[0]
        return None


def _also_called(folded: str, bare: str) -> Iterator[str]:
    """Ends of paths under which a clip may lie: with its class folder, without it, or trimmed from a longer video."""
    for name in (folded, bare):
        parts = name.split("/")
        yield "/".join(parts[-2:])
        yield parts[-1]
    head, _, end = bare.rpartition("_")
    video, _, start = head.rpartition("_")
    if (
        len(start) == 6 and len(end) == 6 and start.isdigit() and end.isdigit()
    ):  # ID_000030_000040, as Kinetics and AudioSet are kept
        seconds = int(start), int(end)
        yield from (f"{video}_{start}_{end}" for start, end in (seconds, (seconds[0] * 1000, seconds[1] * 1000)))
        yield from (f"{video}_{seconds[0]:.3f}_{seconds[1]:.3f}", f"{video}_{seconds[0] * 1000}", f"{video}_{seconds[0]}", video)
        yield from (f"y{video}", f"y{video}_{seconds[0]}_{seconds[1]}", f"y{bare}")


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those below it, the nearest first."""
    level = [root] if root.is_dir() else [root.parent]
    for depth in range(DEPTH + 1):
        yield from level
        if depth < DEPTH:
            level = [Path(entry.path) for folder in level for entry in sorted(_below(folder), key=lambda entry: entry.name)]


def _below(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror or error}") from error
