"""Make a store follow a corpus: embed what is new or has changed, delete what is gone, step by step, so that an interrupted run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmssl.data.manifest import Manifest, read_rows
from mmssl.downstream.search.ann import Ann
from mmssl.downstream.search.embedding import Stretch, embed_sources
from mmssl.downstream.search.store import (
    CELLS,
    FILES,
    FILES_SCHEMA,
    Store,
    create_store,
    holds_store,
    open_store,
    schema_of,
    write_about,
    writing,
)
from mmssl.downstream.spaces import CELLS as KEPT_CELLS
from mmssl.downstream.spaces import KINDS, JointSpace, Kind
from mmssl.types import InputError, Source, Span

STEP_VECTORS, STEP_SECONDS = 8192, 30.0  # a step is committed after so many vectors, or so long: what an interruption costs


@dataclass(frozen=True, slots=True)
class Origin:
    """What a store is made by, and of what."""

    run: Path
    step: int  # of the checkpoint
    root: Path  # of the corpus
    mmssl: str  # version


@dataclass(slots=True)
class Synced:
    """What came of it: files, and rows of each table."""

    db: Path
    files: int = 0  # of the corpus
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    gone: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # id -> why a file gave nothing, or not all
    rejected: dict[str, int] = field(default_factory=dict)  # why files of the folder are not of the corpus, and how many


def sync(
    space: JointSpace,
    manifest: Manifest,
    db: Path,
    origin: Origin,
    *,
    kinds: Sequence[Kind] = (),
    stride: float = 1.0,
    cells: int = KEPT_CELLS,
    ann: Ann = "auto",
    on_plan: Callable[[int], None] = lambda _: None,
    on_source: Callable[[], None] = lambda: None,
) -> Synced:
    """Make the store `db` hold the windows of a corpus, no more and no less.

    Args:
        space: the encoders.
        manifest: the corpus.
        db: folder, new or of a store of the same space and corpus.
        origin: kept in the store.
        kinds: modalities to store; none: all that the space joins and a file of the corpus has.
        stride: seconds from one window to the next.
        cells: kept of each picture where the objective scores by cells.
        ann: approximate index.
        on_plan: told how many files there are to embed; `on_source` is called after each.

    Raises:
        InputError: modalities that the space does not join, or a store that another model, corpus or stride made.
    """
    wanted: list[Kind] = [kind for kind in KINDS if kind in (kinds or space.kinds)]
    for kind in kinds:
        space.check(kind)
    if not stride > 0.0:
        raise InputError(f"--stride is {stride:g} s; give seconds above 0")
    if cells < 1:
        raise InputError(f"--cells is {cells}; at least one cell of a picture is kept")
    about = about_of(space, manifest, origin, wanted, stride, cells)
    store = _claimed(db, about)
    with writing(store):
        now = identities(manifest)
        before = store.files()
        gone = [name for name in before if name not in now]
        changed = [name for name in before if name in now and before[name] != now[name]]
        store.forget(sorted({*gone, *changed, *(name for name in store.announced() if name not in before)}))
        todo = [name for name in manifest.ids if before.get(name) != now[name]]
        on_plan(len(todo))
        fill(store, space, manifest.select(todo) if todo else (), wanted, manifest.root, now, on_source=on_source)
        store.settle(ann, fresh=not before)
        rows = {name: store.count(name) for name in store.names}
        unchanged = len(now) - len(todo)
        return Synced(
            db,
            len(now),
            unchanged,
            len(todo) - len(changed),
            len(changed),
            len(gone),
            rows,
            store.notes(),
            dict(manifest.reasons),
        )


def about_of(
    space: JointSpace, manifest: Manifest, origin: Origin, kinds: Sequence[Kind], stride: float, cells: int
) -> dict[str, Any]:
    """What `search.json` says."""
    return {
        "mmssl": origin.mmssl,
        "run": str(origin.run.resolve()),
        "step": origin.step,
        "objective": space.name,
        "digest": space.digest,
        "dim": space.dim,
        "kinds": list(kinds),
        "seconds": {kind: space.cuts[kind].seconds for kind in kinds},
        "stride": stride,
        "cells": cells,
        "root": str(manifest.root.resolve()),
    }


def check_same(store: Store, about: Mapping[str, Any], *, otherwise: str) -> None:
    """Raise `InputError` where a model's embeddings cannot be compared with the store's. `otherwise`: the next move."""
    old = store.about
    if old["dim"] != about["dim"]:
        raise InputError(
            f"{store.path} holds vectors of {old['dim']} dimensions (objective {old['objective']}, step {old['step']} of {old['run']}), this model "
            f"gives {about['dim']} (objective {about['objective']}, step {about['step']} of {about['run']}); {otherwise}"
        )
    if old["digest"] != about["digest"]:
        raise InputError(
            f"{store.path} was made by model {old['digest'][:12]} (objective {old['objective']}, step {old['step']} of {old['run']}), this is model "
            f"{about['digest'][:12]} (objective {about['objective']}, step {about['step']} of {about['run']}): their embeddings cannot be compared; {otherwise}"
        )


def identities(manifest: Manifest) -> dict[str, str]:
    """Id -> what tells that a file has changed: where it lies, its size, its time of change, those of its subtitles."""
    assert manifest.path is not None
    rows = read_rows(manifest.path).select(["id", "path", "size", "mtime_ns", "sidecars"]).to_pylist()
    known = {row["id"]: f"{row['path']} {row['size']} {row['mtime_ns']} {row['sidecars']}" for row in rows}
    return {name: known[name] for name in manifest.ids}


def fill(
    store: Store,
    space: JointSpace,
    sources: Iterable[Source],
    kinds: Sequence[Kind],
    root: Path,
    identity: Mapping[str, str],
    *,
    on_source: Callable[[], None] = lambda: None,
) -> None:
    """Embed sources that the store does not hold and add them, step by step."""
    step = _Step(store, space.dim)
    stride, cells = float(store.about["stride"]), int(store.about["cells"])
    for stretch in embed_sources(space, sources, kinds, stride=stride, cells=cells):
        source = stretch.job.source
        place = _Place(source, root)
        step.take(stretch, place)
        if stretch.job.last:
            step.close(place, identity[source.id])
            on_source()
        if step.due:
            step.commit()
    step.commit()


@dataclass(frozen=True, slots=True)
class _Place:
    """The columns that all rows of a file share."""

    source: Source
    root: Path

    @property
    def path(self) -> str:
        """Under the root."""
        path = self.source.path
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @property
    def label(self) -> str:
        """Name of the folder that the file lies in: the class, where files are sorted into classes."""
        return PurePosixPath(self.path).parent.name

    def columns(self, count: int) -> list[Any]:
        """Id, path, label, duration."""
        return [[value] * count for value in (self.source.id, self.path, self.label, self.source.duration)]


class _Step:
    """Rows that wait to be added, and the files that they are of."""

    def __init__(self, store: Store, dim: int) -> None:
        self._store, self._dim = store, dim
        self._rows: dict[str, list[pa.Table]] = {}
        self._files: list[dict[str, Any]] = []
        self._open: set[str] = set()  # ids with rows here or, of a long file, in steps before
        self._notes: dict[str, list[str]] = {}
        self._vectors, self._began = 0, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        return self._vectors >= STEP_VECTORS or time.monotonic() - self._began >= STEP_SECONDS

    def take(self, stretch: Stretch, place: _Place) -> None:
        """Rows of a stretch."""
        job = stretch.job
        self._open.add(job.source.id)
        self._notes.setdefault(job.source.id, []).extend(stretch.missing.values())
        for kind, found in stretch.found.items():
            spans, count = job.spans[kind], len(found.vectors)
            texts = list(job.texts) if kind == "text" else [None] * count
            times = [[span.start for span in spans], [span.end for span in spans]]
            self._add(kind, [*place.columns(count), *times, texts], found.vectors)
            if found.cells is not None and found.places is not None:
                self._add(kind + CELLS, *_cell_rows(place, spans, found.cells, found.places))

    def close(self, place: _Place, identity: str) -> None:
        """All rows of a file are taken."""
        name = place.source.id
        notes = self._notes.pop(name, [])
        row = {"id": name, "path": place.path, "label": place.label, "duration": place.source.duration, "identity": identity}
        self._files.append({**row, "note": "; ".join(dict.fromkeys(notes)) or None})

    def commit(self) -> None:
        """Add what waits: the rows of windows, then the files that they complete."""
        if self._open:
            self._store.announce(self._open)
        for name, tables in self._rows.items():
            self._store.add(name, pa.concat_tables(tables))
        if self._files:
            self._store.add(FILES, pa.Table.from_pylist(self._files, schema=FILES_SCHEMA))
        self._open -= {row["id"] for row in self._files}
        self._rows, self._files, self._vectors, self._began = {}, [], 0, time.monotonic()

    def _add(self, table: str, columns: list[Any], vectors: NDArray[np.float32]) -> None:
        schema = schema_of(table, self._dim)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1)), self._dim)
        arrays = [pa.array(column, spec.type) for column, spec in zip(columns, schema, strict=False)]
        self._rows.setdefault(table, []).append(pa.Table.from_arrays([*arrays, flat], schema=schema))
        self._vectors += len(vectors)


def _cell_rows(
    place: _Place, spans: Sequence[Span], cells_NKD: NDArray[np.float32], places_NK3: NDArray[np.float32]
) -> tuple[list[Any], NDArray[np.float32]]:
    """Columns and vectors of the cells kept of each window."""
    n, k, dim = cells_NKD.shape
    starts, ends = (np.repeat(np.array(times, np.float64), k) for times in zip(*spans, strict=True))
    moment, y, x = places_NK3.reshape(n * k, 3).T
    return [*place.columns(n * k), starts, ends, starts + moment * (ends - starts), y, x], cells_NKD.reshape(n * k, dim)


def _claimed(db: Path, about: dict[str, Any]) -> Store:
    """The store at `db`, checked against what is to be stored, or a new one."""
    if not holds_store(db):
        return create_store(db, about)
    store = open_store(db)
    check_same(store, about, otherwise="give the same run, --step and --objective again, or another folder for a new index")
    for key, words in (("stride", "a stride of {} s"), ("cells", "{} cells of a picture"), ("kinds", "the modalities {}")):
        if store.about[key] != about[key]:
            old, new = (words.format(value if key != "kinds" else ", ".join(value)) for value in (store.about[key], about[key]))
            raise InputError(f"{db} holds {old}, asked for are {new}; ask for the same, or choose another folder for a new index")
    if store.about["root"] != about["root"] and Path(store.about["root"]).is_dir():
        raise InputError(
            f"{db} follows the folder {store.about['root']}, not {about['root']}; choose another folder for the index of that one"
        )
    store.about |= {key: about[key] for key in ("root", "run", "step", "mmssl")}  # folder and run may have moved
    write_about(store)
    return store
