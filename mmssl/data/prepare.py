"""A corpus re-encoded once for training: small pictures, short groups or JPEG, mono sound, its own manifest; optical flow computed once; files or shards.

`prepare` may be stopped and started again at any time: each film is written whole or not at all, and what is done is noted in
`OUT/prepared.jsonl` with what it was made from (`mmssl.data.prepared`). Ids, captions and times are those of the source.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.data.flow import METHODS, check_method
from mmssl.data.index import available_cores, index_folder
from mmssl.data.manifest import FLOW_FIELDS, NO_VALUE, Manifest, manifest_from_rows, read_manifest, read_rows, write_manifest
from mmssl.data.prepared import CAPTIONS, FILM, FLOW, MANIFEST, NOTES, PreparedFolder, weight
from mmssl.data.probe_pool import probe_all
from mmssl.data.reencode import FULL
from mmssl.data.stored_flow import VERSION as FLOW_VERSION
from mmssl.files import write_aside
from mmssl.types import Cue, InputError, Source

FUNCTION = "mmssl.data.prepare_film:prepare_film"
VERSION = 2  # of what is written: raised when the same settings give another file
BYTES_PER_SECOND = 2e5  # of a source: slower than any core encodes small pictures
FLOW_SECONDS = {"dis": 0.1, "raft_small": 3.0, "raft": 10.0}  # of time allowed for a picture of 128 pixels, on a slow core

Pictures = Literal["h264", "jpeg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What films become."""

    short_side: int = 128  # pixels
    rate: int = 16_000  # samples a second
    quality: int = 18  # constant rate factor of H.264; JPEG is quantised as coarsely
    pictures: Pictures = "h264"

    def __post_init__(self) -> None:
        if not 16 <= self.short_side <= 2160 or not 8_000 <= self.rate <= 48_000 or not 0 <= self.quality <= 51:
            raise InputError(
                f"short side {self.short_side}, rate {self.rate}, quality {self.quality}; the short side must be 16 to 2160 pixels, the rate "
                "8000 to 48000 samples a second, the quality 0 (lossless) to 51"
            )
        if self.pictures not in get_args(Pictures):
            raise InputError(f"pictures are {self.pictures!r}; known: {', '.join(get_args(Pictures))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowForm:
    """Which optical flow is stored. Requests of another step or method are computed, as if none were."""

    step: float = 0.08  # seconds: that of the flow views where neither config nor encoder says otherwise
    method: str = "dis"

    def __post_init__(self) -> None:
        if not 0.0 < self.step <= 10.0 or self.method not in METHODS:
            raise InputError(
                f"flow of step {self.step} s by {self.method!r}; the step must be above 0 and at most 10 s, the method {', '.join(METHODS)}"
            )

    def stamp(self) -> dict[str, Any]:
        """What stored flow was made by."""
        return {**asdict(self), "flow_version": FLOW_VERSION}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of it."""

    manifest: Manifest
    done: int  # films written by this run
    kept: int  # films that were there already
    rejected: Counter[str]  # why the others cannot serve, and how many
    bytes_before: int  # of the films that serve
    bytes_after: int  # of films and stored flow


def prepare(
    folder: Path,
    out: Path,
    *,
    form: Form = Form(),
    flow: FlowForm | None = None,
    shard_bytes: int | None = None,
    motion: bool = False,
    workers: int | None = None,
    timeout: float = 120.0,
    progress: bool = True,
) -> Prepared:
    """Re-encode the films of `folder` into `out`, and write `out/manifest.parquet`.

    Args:
        folder: of films; indexed first, as `mmssl index` does.
        out: new, empty, or one that this function began. Not within `folder`.
        form: what films become. Films of another form in `out` are written anew.
        flow: compute optical flow, which then answers the `Flow` requests of its step and method. None: none, but what is stored stays.
        shard_bytes: gather films in tar files of about so many bytes (`mmssl.data.shards`); None: each film is a file. Films that are there move.
        motion: measure motion profiles for the new manifest.
        workers: encoding processes; by default one for each core.
        timeout: seconds that one film may take, and more for larger ones, and for flow.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        InputError: `folder` is no folder, or `out` holds other things or lies in it; the weights of a method of flow are not at hand.
        OSError: the disk is full. Films that were written stay, and the same call goes on from there.
    """
    folder, out = _apart(folder, out)
    if flow is not None:
        check_method(flow.method)
    source = index_folder(folder, workers=workers, progress=progress)
    with PreparedFolder(out) as there:
        stamps = {film.id: _stamp(film, form) for film in source}
        fields = {film.id: None if flow is None or not film.has_video else flow.stamp() for film in source}
        _leave_shards(there, stamps, fields, shard_bytes)
        todo = [film for film in source if not _done(there, film.id, stamps, fields)]
        jobs = [_job(there, film, form, stamps[film.id], fields[film.id]) for film in todo]
        with _bar(progress, len(todo)) as step:
            for number, facts in probe_all(jobs, workers=workers or available_cores(), timeout=timeout, function=FUNCTION):
                film = todo[number]
                _conclude(there, film, stamps[film.id], fields[film.id], facts)
                loose = there.loose(stamps) if shard_bytes else {}
                if shard_bytes and sum(loose.values()) >= shard_bytes:
                    there.pack(loose)
                step()
        if shard_bytes:
            for ids in _lots(there.loose(stamps), shard_bytes):
                there.pack(ids)
        there.settle(stamps)
    manifest = _write_manifest(there, source, sharded=bool(shard_bytes), motion=motion, workers=workers, progress=progress)
    good = [film for film in source if there.notes[film.id].get("reason") is None]
    return Prepared(
        manifest,
        done=sum(there.notes[film.id].get("reason") is None for film in todo),
        kept=len(source) - len(todo),
        rejected=manifest.reasons,
        bytes_before=sum(film.path.stat().st_size for film in good),
        bytes_after=sum(weight(there.notes[film.id]) for film in good),
    )


def _apart(folder: Path, out: Path) -> tuple[Path, Path]:
    folder, out = Path(folder).expanduser().resolve(), Path(out).expanduser().resolve()
    if out == folder or folder in out.parents or out in folder.parents:
        raise InputError(f"{out} and {folder} lie in one another; prepare into a folder of its own")
    if out.exists() and not (out / NOTES).is_file() and any(out.iterdir()):
        raise InputError(f"{out} holds other things and was not made by `mmssl prepare`; give a new folder")
    return folder, out


def _done(there: PreparedFolder, name: str, stamps: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return name in stamps and there.holds(name, stamps[name], fields[name]) and there.holds_flow(name, fields[name])


def _leave_shards(there: PreparedFolder, stamps: Mapping[str, Any], fields: Mapping[str, Any], shard_bytes: int | None) -> None:
    """Take the films that hold out of shards that do not serve as they are: some film in them has to be made anew or is gone from the
    source, or no shards are wanted, or they are small and more films come."""
    more = any(not _done(there, name, stamps, fields) for name in stamps)
    for shard, ids in there.shards().items():
        whole = all(_done(there, name, stamps, fields) for name in ids)
        if shard_bytes is None or not whole or (more and (there.out / shard).stat().st_size < shard_bytes / 2):
            there.unpack(shard, [name for name in ids if name in stamps and there.holds(name, stamps[name], fields[name])])


def _lots(weights: Mapping[str, int], shard_bytes: int) -> Iterator[list[str]]:
    """Films in order, cut where a shard is full."""
    lot: list[str] = []
    for name in weights:
        lot.append(name)
        if sum(weights[name] for name in lot) >= shard_bytes:
            yield lot
            lot = []
    if lot:
        yield lot


def _job(
    there: PreparedFolder, film: Source, form: Form, stamp: Mapping[str, Any], flow: Mapping[str, Any] | None
) -> dict[str, Any]:
    size = film.path.stat().st_size
    pictures = film.video.seconds * film.fps if film.video is not None else 0.0
    scale = (form.short_side / Form().short_side) ** 2
    return {
        "path": str(film.path),
        "target": str(there.file(film.id, FILM)),
        "film": None
        if there.holds(film.id, stamp, flow)
        else {**asdict(form), "video": film.has_video, "audio": None if film.audio is None else list(film.audio)},
        "flow": None
        if flow is None
        else {"target": str(there.file(film.id, FLOW)), "step": flow["step"], "method": flow["method"]},
        "size": size,
        "extra": size / BYTES_PER_SECOND + (0.0 if flow is None else pictures * scale * FLOW_SECONDS[flow["method"]]),
    }


def _conclude(
    there: PreparedFolder, film: Source, stamp: Mapping[str, Any], flow: Mapping[str, Any] | None, facts: dict[str, Any]
) -> None:
    """Note what became of a film, and write its captions. Raises `OSError` where the disk was full: that is no film's fault, and the rest would fail, too."""
    if facts.get("reason") == FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(there.file(film.id, FILM)))
    made = facts.pop("flow", None)
    before = there.notes.get(film.id, {}) if "bytes" not in facts else {}  # only its flow was computed
    stored = None if flow is None else {**flow, "bytes": 0, "fields": 0, **(made or {})}
    if facts.get("reason") is None:
        _write_cues(there.file(film.id, CAPTIONS), film.cues)
    there.note({**before, "id": film.id, **stamp, **facts, "flow": stored})


def _stamp(film: Source, form: Form) -> dict[str, Any]:
    """What a film was made from."""
    found = film.path.stat()
    cues = [list(cue) for cue in film.cues]
    return {"version": VERSION, **asdict(form), "size": found.st_size, "mtime_ns": found.st_mtime_ns, "cues": cues}


def _write_cues(path: Path, cues: tuple[Cue, ...]) -> None:
    """Captions beside the film, for those who index the folder anew; the manifest holds them exactly."""
    if not cues:
        path.unlink(missing_ok=True)
        return
    blocks = [f"{n}\n{_clock(cue.start)} --> {_clock(cue.end)}\n{cue.text}\n" for n, cue in enumerate(cues, start=1)]
    write_aside(path, "\n".join(blocks).encode())


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"


def _write_manifest(
    there: PreparedFolder, source: Manifest, *, sharded: bool, motion: bool, workers: int | None, progress: bool
) -> Manifest:
    """What was written, as the index finds it, with the source's captions; and why the others were not."""
    out, notes = there.out, there.notes
    place = out / MANIFEST
    good = [name for name in notes if notes[name].get("reason") is None]
    members = {name: there.path(name, FILM).relative_to(out) for name in good} if sharded else None
    index_folder(out, place, motion=motion, workers=workers, progress=progress, members=members)
    films = {film.id: film for film in source}
    rows = [row for row in read_rows(place).to_pylist() if row["id"] in films and notes[row["id"]].get("reason") is None]
    for row in rows:
        row["cues"] = [cue._asdict() for cue in films[row["id"]].cues]
        flow = notes[row["id"]].get("flow") or {}
        row |= {name: NO_VALUE[name] for name in (*(spec.name for spec in FLOW_FIELDS), "flow_path")}
        if flow.get("fields") and there.has(row["id"], FLOW):
            path = there.path(row["id"], FLOW).relative_to(out)
            row |= {"flow_method": flow["method"], "flow_step": flow["step"], "flow_path": path.as_posix()}
    failed = {name: str(note["reason"]) for name, note in notes.items() if note.get("reason") is not None}
    rows += [{"id": name, "path": f"{name}{FILM}", "reason": reason} for name, reason in (source.rejected | failed).items()]
    write_manifest(place, manifest_from_rows(rows), root=out)
    return read_manifest(place)


@contextmanager
def _bar(progress: bool, total: int) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (TextColumn("re-encoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (progress and console.is_terminal)) as shown:
        task = shown.add_task("films", total=total)
        yield lambda: shown.advance(task)
