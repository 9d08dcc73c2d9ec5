"""The folder that `mmssl prepare` makes: which films are in it, made from what, and where: as files of their own or in shards.

`prepared.jsonl` notes each film when it is whole; the last note of an id counts. What the notes do not know of was left by a run that was killed, and
goes when the folder is opened again. Films move into a shard, or out of one, in an order that a kill at any moment leaves sound:

    in:   the shard is written aside, synced and named; the notes say so, synced; the films' own files are removed
    out:  the films' own files are written aside and named; the notes say so, synced; the shard is removed

So at any moment each film has one place that counts, the one in the notes, and the bytes are there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from mmssl.data.index import PASSING, PREPARED
from mmssl.data.shards import Member, extract, write_shard
from mmssl.files import write_aside

NOTES, MANIFEST = "prepared.jsonl", PREPARED
FILM, FLOW, CAPTIONS = ".mp4", ".flow", ".srt"  # ".flow" is an MP4 film, too, but none that the index should find
FLOW_REASON = "its flow cannot be computed"
PARTS = (FILM, FLOW, CAPTIONS, ".tar", ".jsonl")


class PreparedFolder:
    """An opened folder, to be used in `with`; leftovers of a killed run are removed.

    Args:
        out: the folder, which is made where there is none.

    `notes`: id -> what is known of a film. Change it by `note`, `pack` and `unpack`.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self.notes = read_notes(out / NOTES)
        for part in out.rglob(".*.part.*"):
            if part.suffix in PARTS:
                part.unlink()
        known = {note["shard"] for note in self.notes.values() if "shard" in note}
        for shard in out.glob("films-*.tar"):
            if shard.name not in known:
                shard.unlink()
        for name, note in self.notes.items():
            if "shard" in note:
                self._remove_files(name)
        self._file = (out / NOTES).open("a", encoding="utf-8")
        if not _ends_whole(out / NOTES):  # the part of a line that a killed run left must not spoil the next one
            self._file.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def settle(self, ids: Iterable[str]) -> None:
        """Write the notes of `ids` anew, each once and in this order. Nothing can be noted afterwards."""
        self._file.close()
        self.notes = {name: self.notes[name] for name in ids}
        write_aside(self.out / NOTES, "".join(map(_line, self.notes.values())).encode())

    def file(self, name: str, suffix: str) -> Path:
        """Where a film's own file is, or would be."""
        return self.out / f"{name}{suffix}"

    def note(self, note: Mapping[str, Any]) -> None:
        """Note a film. What lay in a shard under its id no longer counts."""
        self.notes[note["id"]] = dict(note)
        self._file.write(_line(note))
        self._file.flush()

    def holds(self, name: str, stamp: Mapping[str, Any], flow: Mapping[str, Any] | None) -> bool:
        """Whether a film was made from what `stamp` says, and is there, or cannot be made for a reason that lasts."""
        note = self.notes.get(name)
        if note is None or any(note.get(key) != value for key, value in stamp.items()):
            return False
        reason = note.get("reason")
        if reason is None:
            return self.has(name, FILM)
        return not reason.startswith((*PASSING, "timed out")) and not (
            reason.startswith(FLOW_REASON) and not _same(flow, note.get("flow"))
        )

    def holds_flow(self, name: str, flow: Mapping[str, Any] | None) -> bool:
        """Whether flow of a film is stored as wanted, or none is wanted. It holds no longer than the film."""
        note = self.notes.get(name, {})
        if flow is None or note.get("reason") is not None:
            return True
        return _same(flow, note.get("flow")) and (not note["flow"]["fields"] or self.has(name, FLOW))

    def member(self, name: str, suffix: str) -> Member | None:
        """A film's file in a shard; None where it has none there."""
        note = self.notes[name]
        place = note["files"].get(suffix) if "shard" in note else None
        return Member(self.out / note["shard"], place[0], place[1], f"{name}{suffix}") if place else None

    def has(self, name: str, suffix: str) -> bool:
        """Whether a film's file is where the notes say."""
        if "shard" not in self.notes[name]:
            return self.file(name, suffix).is_file()
        member = self.member(name, suffix)
        if member is None or not member.shard.is_file():
            return False
        return member.shard.stat().st_size >= member.offset + member.size

    def path(self, name: str, suffix: str) -> Path:
        """The path of a film's file, wherever it lies."""
        member = self.member(name, suffix)
        return self.file(name, suffix) if member is None else member.path

    def shards(self) -> dict[str, list[str]]:
        """Shard -> ids of the films in it."""
        found: dict[str, list[str]] = {}
        for name, note in self.notes.items():
            if "shard" in note:
                found.setdefault(note["shard"], []).append(name)
        return found

    def loose(self, ids: Iterable[str]) -> dict[str, int]:
        """Of `ids` those films that serve and lie in files of their own -> how many bytes they have."""
        notes = {name: self.notes[name] for name in ids if name in self.notes}
        return {name: weight(note) for name, note in notes.items() if note.get("reason") is None and "shard" not in note}

    def pack(self, ids: Iterable[str]) -> None:
        """Move films from files of their own into a new shard."""
        ids = list(ids)
        numbers = [int(path.stem.removeprefix("films-")) for path in self.out.glob("films-*.tar")]
        shard = self.out / f"films-{max(numbers, default=-1) + 1:05d}.tar"
        files = [(name, suffix) for name in ids for suffix in (FILM, CAPTIONS, FLOW) if self.file(name, suffix).is_file()]
        members = write_shard(shard, [(self.file(name, suffix), f"{name}{suffix}") for name, suffix in files])
        places: dict[str, dict[str, list[int]]] = {name: {} for name in ids}
        for (name, suffix), member in zip(files, members, strict=True):
            places[name][suffix] = [member.offset, member.size]
        for name in ids:
            self.note({**self.notes[name], "shard": shard.name, "files": places[name]})
        self._sync()
        for name in ids:
            self._remove_files(name)

    def unpack(self, shard: str, keep: Iterable[str]) -> None:
        """Move the films `keep` out of a shard into files of their own; the others of that shard are forgotten."""
        gone = set(self.shards()[shard])
        for name in keep:
            for suffix in self.notes[name]["files"]:
                member = self.member(name, suffix)
                if member is not None and self.has(name, suffix):  # a shard may have lost its end
                    extract(member, self.file(name, suffix))
            gone.discard(name)
            self.note({key: value for key, value in self.notes[name].items() if key not in ("shard", "files")})
        for name in gone:  # a note without a stamp holds nothing
            self.note({"id": name, "reason": "was in a shard that is no more"})
        self._sync()
        (self.out / shard).unlink(missing_ok=True)

    def _remove_files(self, name: str) -> None:
        for suffix in (FILM, FLOW, CAPTIONS):
            self.file(name, suffix).unlink(missing_ok=True)
        folder = self.file(name, FILM).parent
        with contextlib.suppress(OSError):  # not empty yet
            while folder != self.out:
                folder.rmdir()
                folder = folder.parent

    def _sync(self) -> None:
        os.fsync(self._file.fileno())


def read_notes(path: Path) -> dict[str, dict[str, Any]]:
    """Id -> the last note of it; none where there is no such file."""
    notes: dict[str, dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            notes[note["id"]] = note
    return notes


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        return file.read() in (b"", b"\n")


def weight(note: Mapping[str, Any]) -> int:
    """Bytes of a film and of its stored flow."""
    return int(note["bytes"]) + int((note.get("flow") or {}).get("bytes", 0))


def _same(flow: Mapping[str, Any] | None, noted: Mapping[str, Any] | None) -> bool:
    return flow is not None and noted is not None and all(noted.get(key) == value for key, value in flow.items())


def _line(note: Mapping[str, Any]) -> str:
    return json.dumps(note, ensure_ascii=False) + "\n"
