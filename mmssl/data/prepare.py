"""A corpus re-encoded once for training: small pictures, short groups, mono sound, its own manifest.

`prepare` may be stopped and started again at any time: each film is written whole or not at all, and what is done is noted in
`OUT/prepared.jsonl` with what it was made from. Ids, captions and times are those of the source.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.data.index import PASSING, available_cores, index_folder
from mmssl.data.manifest import Manifest, manifest_from_rows, read_manifest, read_rows, write_manifest
from mmssl.data.probe_pool import probe_all
from mmssl.files import write_aside
from mmssl.types import Cue, InputError, Source

REENCODE = "mmssl.data.reencode:reencode"
NOTES, MANIFEST = "prepared.jsonl", "manifest.parquet"
VERSION = 1  # of what is written: raised when the same settings give another file
BYTES_PER_SECOND = 2e5  # of a source: slower than any core encodes small pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What films become."""

    short_side: int = 128  # pixels
    rate: int = 16_000  # samples a second
    quality: int = 18  # constant rate factor of H.264

    def __post_init__(self) -> None:
        if not 16 <= self.short_side <= 2160 or not 8_000 <= self.rate <= 48_000 or not 0 <= self.quality <= 51:
            raise InputError(
                f"short side {self.short_side}, rate {self.rate}, quality {self.quality}; the short side must be 16 to 2160 pixels, the rate "
                "8000 to 48000 samples a second, the quality 0 (lossless) to 51"
            )


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of it."""

    manifest: Manifest
    done: int  # films written by this run
    kept: int  # films that were there already
    rejected: Counter[str]  # why the others cannot serve, and how many
    bytes_before: int  # of the films that serve
    bytes_after: int


def prepare(
    folder: Path,
    out: Path,
    *,
    form: Form = Form(),
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
        motion: measure motion profiles for the new manifest.
        workers: encoding processes; by default one for each core.
        timeout: seconds that one film may take, and more for larger ones.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        InputError: `folder` is no folder, or `out` holds other things or lies in it.
    """
    folder, out = Path(folder).expanduser().resolve(), Path(out).expanduser().resolve()
    if out == folder or folder in out.parents or out in folder.parents:
        raise InputError(f"{out} and {folder} lie in one another; prepare into a folder of its own")
    if out.exists() and not (out / NOTES).is_file() and any(out.iterdir()):
        raise InputError(f"{out} holds other things and was not made by `mmssl prepare`; give a new folder")
    source = index_folder(folder, workers=workers, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    for part in out.rglob(".*.part.mp4"):  # of a run that was killed
        part.unlink()
    notes = _read_notes(out / NOTES)
    stamps = {film.id: _stamp(film, form) for film in source}
    todo = [film for film in source if not _holds(notes.get(film.id), stamps[film.id], _target(out, film.id))]
    kept = len(source) - len(todo)
    with (out / NOTES).open("a", encoding="utf-8") as file, _bar(progress, len(todo)) as step:
        jobs = [_job(film, out, form) for film in todo]
        for number, facts in probe_all(jobs, workers=workers or available_cores(), timeout=timeout, function=REENCODE):
            film = todo[number]
            notes[film.id] = {"id": film.id, **stamps[film.id], **facts}
            if facts.get("reason") is None:
                _write_cues(_target(out, film.id).with_suffix(".srt"), film.cues)
            print(json.dumps(notes[film.id], ensure_ascii=False), file=file, flush=True)
            step()
    notes = {film.id: notes[film.id] for film in source}
    write_aside(out / NOTES, "".join(json.dumps(note, ensure_ascii=False) + "\n" for note in notes.values()).encode())
    manifest = _write_manifest(out, source, notes, motion=motion, workers=workers, progress=progress)
    good = [film for film in source if notes[film.id].get("reason") is None]
    return Prepared(
        manifest,
        done=sum(notes[film.id].get("reason") is None for film in todo),
        kept=kept,
        rejected=manifest.reasons,
        bytes_before=sum(film.path.stat().st_size for film in good),
        bytes_after=sum(int(notes[film.id]["bytes"]) for film in good),
    )


def _target(out: Path, name: str) -> Path:
    return out / f"{name}.mp4"


def _job(film: Source, out: Path, form: Form) -> dict[str, Any]:
    size = film.path.stat().st_size
    return {
        "path": str(film.path),
        "target": str(_target(out, film.id)),
        **asdict(form),
        "video": film.has_video,
        "audio": None if film.audio is None else list(film.audio),
        "size": size,
        "extra": size / BYTES_PER_SECOND,
    }


def _stamp(film: Source, form: Form) -> dict[str, Any]:
    """What a film was made from."""
    found = film.path.stat()
    cues = [list(cue) for cue in film.cues]
    return {"version": VERSION, **asdict(form), "size": found.st_size, "mtime_ns": found.st_mtime_ns, "cues": cues}


def _holds(note: Mapping[str, Any] | None, stamp: Mapping[str, Any], target: Path) -> bool:
    if note is None or any(note.get(key) != value for key, value in stamp.items()):
        return False
    reason = note.get("reason")
    return target.is_file() if reason is None else not reason.startswith((*PASSING, "timed out"))


def _read_notes(path: Path) -> dict[str, dict[str, Any]]:
    notes: dict[str, dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            notes[note["id"]] = note
    return notes


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
    out: Path, source: Manifest, notes: Mapping[str, Mapping[str, Any]], *, motion: bool, workers: int | None, progress: bool
) -> Manifest:
    """What was written, as the index finds it, with the source's captions; and why the others were not."""
    place = out / MANIFEST
    index_folder(out, place, motion=motion, workers=workers, progress=progress)
    table = read_rows(place).replace_schema_metadata(None)
    films = {film.id: film for film in source}
    rows = [row for row in table.to_pylist() if row["id"] in films and notes[row["id"]].get("reason") is None]
    for row in rows:
        row["cues"] = [cue._asdict() for cue in films[row["id"]].cues]
    failed = {name: str(note["reason"]) for name, note in notes.items() if note.get("reason") is not None}
    rows += [{"id": name, "path": f"{name}.mp4", "reason": reason} for name, reason in (source.rejected | failed).items()]
    write_manifest(place, pa.concat_tables([manifest_from_rows(rows)]), root=out)
    return read_manifest(place)


@contextmanager
def _bar(progress: bool, total: int) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (TextColumn("re-encoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (progress and console.is_terminal)) as shown:
        task = shown.add_task("films", total=total)
        yield lambda: shown.advance(task)
