"""Which files of a folder are candidates for the index, under which ids, and which subtitle files belong to them.

The rules:
  - A candidate is a file whose suffix, whatever its case, is in `MEDIA_SUFFIXES`. What the file holds decides later: a text
    file called `.mp4` is a candidate, and is rejected with a reason. Everything else is ignored, and counted.
  - Names that begin with a dot (hidden files, unfinished downloads, resource forks) are ignored; hidden folders are not entered.
  - Links are followed. A folder is entered once and a file is listed once, under its first path: own folders come before
    linked ones, then names in order. So loops end, and no clip is held out under one name and trained on under another.
  - An id is the posix path under the root without suffix. Files that would share an id keep their suffixes, all of them.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

EMPTY = "empty file"
_VIDEO = """.3g2 .3gp .asf .avi .divx .dv .f4v .flv .m1v .m2t .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogm .ogv .qt
            .rm .rmvb .ts .vob .webm .wmv .wtv .y4m"""
_AUDIO = ".aac .ac3 .aif .aiff .amr .ape .au .caf .flac .m4a .mka .mp2 .mp3 .oga .ogg .opus .wav .wma .wv"
MEDIA_SUFFIXES = frozenset((_VIDEO + " " + _AUDIO).split())

SUBTITLE_SUFFIXES = (".vtt", ".srt", ".ass", ".ssa", ".align")  # in order of preference


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to probe, or one that needs no probing because `reason` says why it cannot be used."""

    path: str  # posix, relative to the root; what is no UTF-8 in it is written as backslash escapes
    size: int = 0
    mtime_ns: int = 0
    sidecars: tuple[str, ...] = ()  # names of its subtitle files, best first
    stamps: str = ""  # names, sizes and times of change of `sidecars`
    reason: str | None = None


@dataclass(slots=True)
class Found:
    """What lies under a root."""

    candidates: list[Candidate] = field(default_factory=list)
    ignored: int = 0
    unreadable: list[str] = field(default_factory=list)  # folders that could not be listed


def walk(root: Path, *, seen: Callable[[int], None] | None = None, suffixes: Collection[str] = MEDIA_SUFFIXES) -> Found:
    """List the candidates under `root`, files of `suffixes`, in order of path. `seen` is told how many were found, folder by folder."""
    found = Found()
    entered: set[tuple[int, int]] = set()
    files: set[tuple[int, int]] = set()
    own, linked = [root], []
    linked_files: list[tuple[Path, list[str]]] = []
    while own or linked:
        folder = own.pop() if own else linked.pop(0)
        entries = _entries(folder, root, entered, found)
        names = [entry.name for entry in entries if _suffix(entry.name) in SUBTITLE_SUFFIXES]
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                found.ignored += not _is_folder(entry)
            elif _is_folder(entry):
                (linked if entry.is_symlink() else below).append(Path(entry.path))
            elif _suffix(entry.name) not in suffixes:
                found.ignored += 1
            elif entry.is_symlink():
                linked_files.append((Path(entry.path), names))
            else:
                _add(found, Path(entry.path), names, root, files)
        own.extend(reversed(below))
        linked.sort()
        if seen is not None:
            seen(len(found.candidates))
    for path, names in sorted(linked_files):
        _add(found, path, names, root, files)
    found.candidates.sort(key=lambda candidate: candidate.path)
    return found


def assign_ids(paths: Iterable[str]) -> list[str]:
    """An id for each posix path: without its suffix, unless another file would then have the same id.

    >>> assign_ids(["a/x.mp4", "b.mp4", "b.webm"])
    ['a/x', 'b.mp4', 'b.webm']
    """
    paths = list(paths)
    ids = [str(PurePosixPath(path).with_suffix("")) for path in paths]
    while True:
        # Again, because a kept suffix can meet another file's stem: b.mp4 and b.webm beside b.mp4.mkv. Whole paths never meet.
        shared = {name for name, count in Counter(ids).items() if count > 1}
        if not shared:
            return ids
        ids = [path if name in shared else name for path, name in zip(paths, ids, strict=True)]


# What may stand between a media file's stem and the suffix of its subtitles: a language, or one of these words.
_KINDS = frozenset({"captions", "caption", "subtitles", "subtitle", "subs", "cc", "sdh", "hi", "default", "full", "auto", "orig"})
_LAST_KINDS = {"descriptions", "description", "forced"}  # beside the speech, not the speech


def find_sidecars(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The subtitle files among `names` (of one folder, sorted) that belong to the media file `name`, best first.

    They are called `STEM.SUFFIX` or `STEM.TAG.SUFFIX` (`talk.srt`, `talk.en.vtt`, `talk.pt-BR.sdh.ass`; also `talk.mp4.srt`): a tag is a
    language code or a known kind; chapters, metadata and thumbnails are none. Order: speech before descriptions and forced
    ones; no language tag, then English, then other languages by name; fewer tags first; then `SUBTITLE_SUFFIXES`.
    """
    stem, own = PurePosixPath(name).stem, PurePosixPath(name).suffix
    ranked = []
    for place in range(bisect_left(names, stem), len(names)):
        other = names[place]
        if not other.startswith(stem):
            break
        suffix = _suffix(other)
        if suffix not in SUBTITLE_SUFFIXES:
            continue
        middle = other[len(stem) : -len(suffix)].removeprefix(own)
        if middle and not middle.startswith("."):
            continue
        tags = [tag.lower() for tag in middle.split(".")[1:]]
        kinds = _KINDS | _LAST_KINDS
        languages = [tag for tag in tags if tag not in kinds]
        if not all(_is_language(tag) for tag in languages):
            continue
        beside = any(tag in _LAST_KINDS for tag in tags)
        spoken = 0 if not languages else 1 if languages[0].split("-")[0].split("_")[0] in ("en", "eng") else 2
        ranked.append((beside, spoken, languages, len(tags), SUBTITLE_SUFFIXES.index(suffix), len(other), other))
    return tuple(rank[-1] for rank in sorted(ranked))


def _is_language(tag: str) -> bool:
    """ISO 639 code of 2 or 3 letters, with a region or a script where there is one: en, eng, pt-br, zh_hans."""
    code, _, region = tag.replace("_", "-").partition("-")
    return 2 <= len(code) <= 3 and code.isascii() and code.isalpha() and (not region or (region.isascii() and region.isalnum()))


def _entries(folder: Path, root: Path, entered: set[tuple[int, int]], found: Found) -> list[os.DirEntry[str]]:
    try:
        status = folder.stat()
        identity = status.st_dev, status.st_ino
        if identity in entered:
            return []
        entered.add(identity)
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        # No permission, or gone since its parent was listed. Counted and shown; the rest of the corpus is still of use.
        found.unreadable.append(_under(folder, root))
        return []


def _add(found: Found, path: Path, names: list[str], root: Path, files: set[tuple[int, int]]) -> None:
    shown = _under(path, root)
    try:
        status = path.stat()
    except OSError as error:
        found.candidates.append(Candidate(shown, reason=reason_of(error)))
        return
    identity = status.st_dev, status.st_ino
    if identity in files:
        found.ignored += 1
        return
    files.add(identity)
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = "not a regular file (a pipe, a socket or a device)"
    elif not _is_utf8(str(path)):
        reason = "the name is not valid UTF-8; rename the file"
    elif status.st_size == 0:
        reason = EMPTY
    sidecars = find_sidecars(path.name, names) if reason is None else ()
    stamps = "|".join(_stamp(path.with_name(name)) for name in sidecars)
    found.candidates.append(Candidate(shown, status.st_size, status.st_mtime_ns, sidecars, stamps, reason))


def reason_of(error: OSError) -> str:
    """Why a file could not be reached, in words that group."""
    if isinstance(error, FileNotFoundError):
        return "vanished, or a link to nothing"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return f"{path.name}:gone"
    return f"{path.name}:{status.st_size}:{status.st_mtime_ns}"


def _under(path: Path, root: Path) -> str:
    text = str(path)[len(str(root).rstrip(os.sep)) + 1 :].replace(os.sep, "/")  # pathlib's own way is 10 times slower
    return text if _is_utf8(text) else text.encode("utf-8", "backslashreplace").decode()


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False
