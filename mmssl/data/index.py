"""A folder of media, or of text, -> a manifest. Incremental, atomic, resumable; every file is accounted for and none is fatal.

What a file is made of is probed by guarded worker processes (`probe_pool`, `probe`); which files count, and under which ids, is
`walk`'s affair; rows and sources are `manifest`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from mmssl.data.cache import cache_folder
from mmssl.data.documents import TEXT_SUFFIXES
from mmssl.data.index_texts import text_table
from mmssl.data.manifest import SCHEMA, Manifest, Scan, manifest_from_rows, read_manifest, read_rows, write_manifest
from mmssl.data.probe import PROBE_VERSION
from mmssl.data.probe_pool import PROBE, probe_all
from mmssl.data.shards import look_up
from mmssl.data.walk import MEDIA_SUFFIXES, Candidate, Found, assign_ids, walk
from mmssl.types import InputError

Kind = Literal["auto", "media", "text"]
BATCH_ROWS = 512  # rows that are held as Python objects before they become an Arrow table
SAVE_SECONDS = 60.0  # how often finished rows are put aside while probing goes on
PREPARED = "manifest.parquet"  # what `mmssl prepare` calls the manifest of its folder
MOTION = "+motion"  # at the end of what made a row
MOTION_BYTES_PER_SECOND = (
    5e5  # a file gets more time where its picture is decoded: 4 Mbit a second, a tenth of what one core does
)
# Reasons that lie in the moment and not in the file: such rows are probed again next time.
PASSING = ("vanished", "permission denied", "cannot be read")


def index_folder(
    root: Path,
    out: Path | None = None,
    *,
    workers: int | None = None,
    timeout: float = 30.0,
    loudness: bool = True,
    motion: bool = False,
    fresh: bool = False,
    progress: bool = True,
    function: str = PROBE,
    kind: Kind = "auto",
    members: Mapping[str, Path] | None = None,
) -> Manifest:
    """Index the media files under `root` into the manifest `out`, and return it.

    A folder without any media file, but with text files that are not empty, is a corpus of text: see `mmssl.data.documents`. Text files
    beside media are ignored, unless `kind` says "text"; subtitles are never documents.

    Rows of the manifest that is there already are kept where a file's size, its time of change, its subtitle files, the probe's
    version and `loudness` are the same; those with a motion profile serve also where none is asked for. An interrupted run continues where it was: finished rows are put aside every minute, in a
    file beside `out` that goes when the manifest is written.

    Args:
        root: the folder. Never written to, unless `out` lies in it.
        out: the manifest; by default a file in the user's cache folder (`default_manifest`).
        workers: how many probing processes; by default one for each core that this process may use.
        timeout: seconds that one file may take (more above 100 MB, see `probe_pool.time_limit`; more where motion is measured).
        loudness: measure `Source.loudness`, which decodes all of the sound.
        motion: measure `Source.motion`, which decodes all of the picture: two to five times slower.
        fresh: probe everything, whatever the manifest says.
        progress: show a progress bar on stderr, if that is a terminal.
        function: what probes a file, see `probe_pool.probe_all`; for tests.
        kind: "media", "text", or "auto": text where there is no media.
        members: id -> path under `root`, of films in shards (`mmssl.data.shards`), which are not looked for: index these and nothing else.

    Raises:
        InputError: `root` is no folder, or `out` cannot be written to.
    """
    root = _folder(Path(root))
    out = Path(out) if out is not None else default_manifest(root, kind)
    with _lock(out), _bar(progress) as bar:
        found, of_text = _look(root, kind, bar.found) if members is None else (_members(root, members), False)
        ids = assign_ids(candidate.path for candidate in found.candidates) if members is None else list(members)
        old = None if fresh else _rows_of(out)
        if of_text:
            _write_if_changed(out, text_table(root, found.candidates, ids, old, bar.probed), root, found)
            return read_manifest(out)
        aside = out.with_name(f".{out.stem}.unfinished.parquet")
        if not fresh and aside.exists() and (rescued := _rows_of(aside)) is not None:
            old = rescued if old is None else pa.concat_tables([old, rescued])
        made_by = f"{PROBE_VERSION}{'+loudness' if loudness else ''}{MOTION if motion else ''}"
        kept, todo = _split(found.candidates, old, made_by)
        rows = RowStore(_kept_rows(old, ids, kept), aside, root)
        run = Run(root, found.candidates, ids, made_by, todo, loudness, motion, workers or available_cores(), timeout, function)
        try:
            _probe_into(rows, run, bar.probed)
        finally:
            rows.save_aside()  # also on Ctrl-C; removed below once the manifest holds all of it
        _write_if_changed(out, rows.table(), root, found)
        aside.unlink(missing_ok=True)
    return read_manifest(out)


def open_corpus(path: Path | str, *, motion: bool = False, progress: bool = True, kind: Kind = "auto") -> Manifest:
    """A corpus by the path that a config gives: a `.parquet` manifest as it is, or a folder, indexed into the user's cache folder.

    A folder is indexed on first use; later uses look for files that were added, changed or removed, and probe only those. Motion
    profiles are measured with `motion`, and without it not shown even where they are known: what a run sees, and its digest, must not
    depend on what another run had measured. `kind` is as in `index_folder`.

    Raises:
        InputError: neither a manifest nor a folder, or no file in it can be used (with the reasons), or a manifest without the motion
            profiles that are asked for.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".parquet" and not path.is_dir():
        manifest = read_manifest(path)
        if motion and len(manifest) and not manifest.has_motion:
            raise InputError(
                f"{path} holds no motion profiles, which the views of this run need; make it again with `mmssl index {manifest.root} "
                f"--motion --out {path}`"
            )
    else:
        manifest = index_folder(path, motion=motion, progress=progress, kind=kind)
    if not motion:
        manifest = manifest.without_motion()
    if not len(manifest):
        if manifest.rejected:
            listed = "; ".join(f"{reason}: {count}" for reason, count in manifest.reasons.most_common(5))
            what = "text" if kind == "text" else "media"
            raise InputError(f"none of the {len(manifest.rejected)} {what} files of {path} can be used ({listed})")
        if kind == "text":
            raise InputError(f"there are no text files in {path}; suffixes that count: {' '.join(sorted(TEXT_SUFFIXES))}")
        shards = path / PREPARED
        hint = f"; if its films are in shards, give {shards}" if shards.is_file() else f"; suffixes that count: {suffixes()}"
        raise InputError(f"there are no media files in {path} ({manifest.scan.ignored} other files){hint}")
    return manifest


def default_manifest(root: Path, kind: Kind = "auto") -> Path:
    """Where the manifest of a folder is kept when no other place is given."""
    root = root.resolve()
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", root.name).strip("-") or "root"
    return (
        cache_folder()
        / "manifests"
        / f"{name[:40]}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}{'-text' * (kind == 'text')}.parquet"
    )


def suffixes() -> str:
    """The suffixes of media files, for messages."""
    return " ".join(sorted(MEDIA_SUFFIXES))


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of probing: what to probe, and how."""

    root: Path
    candidates: Sequence[Candidate]
    ids: Sequence[str]
    kind: str  # what made a row: the probe's version and what it measured
    todo: Sequence[int]
    loudness: bool
    motion: bool
    workers: int
    timeout: float
    function: str


class RowStore:
    """Finished rows: few as Python objects, the others in Arrow tables; put aside on disk from time to time."""

    def __init__(self, kept: pa.Table, aside: Path, root: Path) -> None:
        self._tables = [kept]
        self._fresh: list[Mapping[str, Any]] = []
        self._aside, self._root = aside, root
        self._saved_rows = kept.num_rows
        self._saved_at = time.monotonic()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one finished row."""
        self._fresh.append(row)
        if len(self._fresh) >= BATCH_ROWS:
            self._pack()
        # The longer the table, the rarer its copies: in all they cost a fraction of the probing.
        if time.monotonic() - self._saved_at > SAVE_SECONDS and len(self) > 1.2 * self._saved_rows:
            self.save_aside()

    def __len__(self) -> int:
        return sum(table.num_rows for table in self._tables) + len(self._fresh)

    def table(self) -> pa.Table:
        """All rows."""
        self._pack()
        return pa.concat_tables(self._tables)

    def save_aside(self) -> None:
        """Write what is finished, for a run that continues this one; nothing where nothing is new."""
        if len(self) > self._saved_rows:
            write_manifest(self._aside, self.table(), root=self._root)
            self._saved_rows, self._saved_at = len(self), time.monotonic()

    def _pack(self) -> None:
        if self._fresh:
            self._tables.append(manifest_from_rows(self._fresh))
            self._fresh = []


def _kept_rows(old: pa.Table | None, ids: Sequence[str], kept: Mapping[int, int]) -> pa.Table:
    """Rows of an older manifest that still hold, under the ids that their files have now. `kept`: candidate -> row of `old`."""
    if old is None or not kept:
        return SCHEMA.empty_table()
    table = old.take(pa.array(list(kept.values()), type=pa.int64())).replace_schema_metadata(None)
    return table.set_column(0, "id", pa.array([ids[number] for number in kept], type=pa.string()))


def _split(candidates: Sequence[Candidate], old: pa.Table | None, kind: str) -> tuple[dict[int, int], list[int]]:
    """(candidate -> row of `old` that still holds, candidates to probe)."""
    known: dict[tuple[object, ...], int] = {}
    if old is not None:
        columns = [old[name].to_pylist() for name in ("path", "size", "mtime_ns", "sidecars", "probe", "reason")]
        for row, (*key, reason) in enumerate(zip(*columns, strict=True)):
            if reason is None or not reason.startswith(PASSING):
                known[tuple(key)] = row
    kept, todo = {}, []
    for number, candidate in enumerate(candidates):
        same = candidate.path, candidate.size, candidate.mtime_ns, candidate.stamps
        row = known.get((*same, kind.removesuffix(MOTION) + MOTION), known.get((*same, kind)))  # with motion serves without, too
        if row is not None and candidate.reason is None:
            kept[number] = row
        else:
            todo.append(number)
    return kept, todo


def _probe_into(rows: RowStore, run: Run, probed: Callable[[int, int], None]) -> None:
    jobs: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number in run.todo:
        candidate = run.candidates[number]
        if candidate.reason is not None:
            rows.add(_row(candidate, run.ids[number], run.kind, {"reason": candidate.reason}))
            continue
        path = run.root / candidate.path
        jobs.append(
            {
                "path": str(path),
                "sidecars": [str(path.with_name(name)) for name in candidate.sidecars],
                "loudness": run.loudness,
                "size": candidate.size,
                **({"motion": True, "extra": candidate.size / MOTION_BYTES_PER_SECOND} if run.motion else {}),
            }
        )
        numbers.append(number)
    probed(0, len(jobs))
    for done, (job, facts) in enumerate(
        probe_all(jobs, workers=run.workers, timeout=run.timeout, function=run.function), start=1
    ):
        number = numbers[job]
        rows.add(_row(run.candidates[number], run.ids[number], run.kind, facts))
        probed(done, len(jobs))


def _row(candidate: Candidate, name: str, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    video, audio = facts.get("video"), facts.get("audio")
    return {
        "id": name,
        "path": candidate.path,
        "reason": facts.get("reason"),
        "notes": facts.get("notes", []),
        "fps": facts.get("fps", 0.0),
        "width": facts.get("width", 0),
        "height": facts.get("height", 0),
        "video_start": video[0] if video else None,
        "video_end": video[1] if video else None,
        "audio_start": audio[0] if audio else None,
        "audio_end": audio[1] if audio else None,
        "cues": [{"start": start, "end": end, "text": text} for start, end, text in facts.get("cues", ())],
        "cues_from": facts.get("cues_from", ""),
        "loudness": np.asarray(facts.get("loudness", []), dtype=np.float32),
        "motion": np.asarray(facts.get("motion", []), dtype=np.float32),
        "size": candidate.size,
        "mtime_ns": candidate.mtime_ns,
        "sidecars": candidate.stamps,
        "probe": kind,
    }


def _write_if_changed(out: Path, table: pa.Table, root: Path, found: Found) -> None:
    """Leave a manifest that says the same alone: processes that have it open tell by its time of change that it is still theirs."""
    scan = Scan(ignored=found.ignored, unreadable=tuple(found.unreadable))
    table = table.sort_by("id")
    try:
        present = read_manifest(out)
    except InputError:
        present = None
    same = present is not None and present.scan == scan and present.root == root
    if not (same and read_rows(out).replace_schema_metadata(None).equals(table.replace_schema_metadata(None))):
        write_manifest(out, table, root=root, scan=scan)


def _rows_of(path: Path) -> pa.Table | None:
    """Rows of an older manifest; None where there is none that can be read (it will be overwritten)."""
    try:
        return read_rows(path).replace_schema_metadata(None)
    except InputError:
        return None


def _look(root: Path, kind: Kind, seen: Callable[[int], None]) -> tuple[Found, bool]:
    """The candidates, and whether they are text."""
    found = walk(root, seen=seen, suffixes=TEXT_SUFFIXES if kind == "text" else MEDIA_SUFFIXES)
    if kind == "auto" and not found.candidates:
        texts = walk(root, suffixes=TEXT_SUFFIXES)
        if any(candidate.reason is None for candidate in texts.candidates):
            return texts, True
    return found, kind == "text"


def _members(root: Path, members: Mapping[str, Path]) -> Found:
    places = {path: look_up(root / path) for path in members.values()}
    return Found([Candidate(path.as_posix(), place.size, place.mtime_ns) for path, place in places.items()])


def _folder(root: Path) -> Path:
    root = root.expanduser()
    if not root.exists():
        raise InputError(f"there is no folder {root}")
    if not root.is_dir():
        raise InputError(f"{root} is a file; give the folder that holds it")
    return root.resolve()


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    """One process at a time indexes into a manifest: the ranks of a run all open the same corpus, and one of them does the work."""
    try:
        import fcntl
    except ImportError:  # Windows: they would all index, and the last one's equal manifest stays
        yield
        return
    place = cache_folder() / "locks" / f"{hashlib.sha256(os.fsencode(out.absolute())).hexdigest()[:16]}.lock"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = place.open("w")
    except OSError:  # a read-only home: no other process could share a manifest in it either
        yield
        return
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class _Bar:
    """How far indexing has come, on stderr."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._task = shown.add_task("looking for media files", total=None)

    def found(self, count: int) -> None:
        self._shown.update(self._task, completed=count)

    def probed(self, done: int, total: int) -> None:
        self._shown.update(self._task, description="probing", completed=done, total=total)


@contextlib.contextmanager
def _bar(progress: bool) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not (progress and console.is_terminal)) as shown:
        yield _Bar(shown)
