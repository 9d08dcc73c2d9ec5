"""The store of a search index: LanceDB tables in a folder, and `search.json`, which says what made them.

One table for each modality, `video`, `audio`, `text` or `flow`, with a row for each window; `video_cells` with a row for each cell kept of
a picture, where the objective scores pictures by their best cell; and `files`, with a row for each file that is wholly in the others.
A table for each modality, because embeddings of different modalities lie apart even in a joint space: an approximate index over both would
look for sound among pictures in the lists that are nearest to the sound, which hold none.

Writing is in steps that may end anywhere: `pending.json` names the files of a step before their rows are added, and `files` gets theirs
after. Rows of files that `files` does not know are swept away when the store is next written to.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmssl.downstream.search.ann import METRIC, Ann, build, lists_to_look_at
from mmssl.downstream.search.filters import one_of
from mmssl.downstream.spaces import KINDS
from mmssl.files import write_aside
from mmssl.types import InputError

if TYPE_CHECKING:  # half a second to import
    from lancedb.db import DBConnection
    from lancedb.table import Table

VERSION = 1
ABOUT, PENDING, LOCK = "search.json", "pending.json", ".lock"
FILES = "files"
CELLS = "_cells"  # at the end of a table's name
KEPT = datetime.timedelta(minutes=2)  # versions that a query may still be reading
SWEPT = 500  # ids in one condition

_WHERE = [pa.field("id", pa.string()), pa.field("path", pa.string()), pa.field("label", pa.string())]
_WHEN = [pa.field("duration", pa.float64()), pa.field("start", pa.float64()), pa.field("end", pa.float64())]
FILES_SCHEMA = pa.schema(
    [*_WHERE, pa.field("duration", pa.float64()), pa.field("identity", pa.string()), pa.field("note", pa.string())]
)


def schema_of(name: str, dim: int) -> pa.Schema:
    """Columns of a table of windows."""
    more = [pa.field("text", pa.string())]
    if name.endswith(CELLS):  # the moment at which, and where in the picture as it was cut, 0 to 1
        more = [pa.field("at", pa.float64()), pa.field("y", pa.float32()), pa.field("x", pa.float32())]
    return pa.schema([*_WHERE, *_WHEN, *more, pa.field("vector", pa.list_(pa.float32(), dim))])


class Store:
    """An open store. Make one by `create_store` or `open_store`."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        import lancedb

        self.path, self.about = path, dict(about)
        # Always the newest version: a page that stays open sees what was indexed since, and never a version that was cleaned up.
        self._db: DBConnection = lancedb.connect(path, read_consistency_interval=datetime.timedelta(0))
        self._tables: dict[str, Table] = {}

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return int(self.about["dim"])

    @property
    def names(self) -> list[str]:
        """The tables of windows that there are."""
        listed = self._db.list_tables().tables
        return [name for kind in KINDS for name in (kind, kind + CELLS) if name in listed]

    def table(self, name: str) -> Table:
        """A table of windows, or `files`; made where it is not there."""
        if name not in self._tables:
            schema = FILES_SCHEMA if name == FILES else schema_of(name, self.dim)
            with _lance_errors(self.path):
                self._tables[name] = self._db.create_table(name, schema=schema, exist_ok=True)
        return self._tables[name]

    def count(self, name: str, where: str | None = None) -> int:
        """Rows of a table that pass a condition. Raises `InputError` for a condition that is no SQL or names no column."""
        try:
            return self.table(name).count_rows(where)
        except ValueError as error:
            columns = ", ".join(key for key in self.table(name).schema.names if key != "vector")
            reason = str(error).splitlines()[0]
            raise InputError(f"the condition {where} cannot be used ({reason}); columns are {columns}") from error

    def files(self) -> dict[str, str]:
        """Id -> identity of the files that are wholly in the store."""
        rows = self.table(FILES).search().select(["id", "identity"]).to_arrow()
        return dict(zip(rows["id"].to_pylist(), rows["identity"].to_pylist(), strict=True))

    def notes(self) -> dict[str, str]:
        """Id -> why a file gave nothing, or not all."""
        rows = self.table(FILES).search().where("note IS NOT NULL").select(["id", "note"]).to_arrow()
        return dict(sorted(zip(rows["id"].to_pylist(), rows["note"].to_pylist(), strict=True)))

    def announce(self, ids: Iterable[str]) -> None:
        """Say that rows of these files are about to be added."""
        write_aside(self.path / PENDING, json.dumps(sorted(ids)).encode())

    def add(self, name: str, rows: pa.Table) -> None:
        """Add rows of announced files to a table of windows, or of done files to `files`."""
        with _lance_errors(self.path):
            self.table(name).add(rows)

    def announced(self) -> list[str]:
        """Files whose rows were about to be added when the store was last written to."""
        path = self.path / PENDING
        return json.loads(path.read_text()) if path.is_file() else []

    def forget(self, ids: Sequence[str]) -> None:
        """Delete files: their windows first, so that what was interrupted is deleted again."""
        for start in range(0, len(ids), SWEPT):
            where = one_of("id", ids[start : start + SWEPT])
            for name in (*self.names, FILES):
                if self.count(name, where):
                    with _lance_errors(self.path):
                        self.table(name).delete(where)

    def settle(self, ann: Ann, *, fresh: bool = False) -> None:
        """After the last step: compact the tables, bring approximate indexes up to date, make them where tables have grown large.

        `fresh`: nobody can be reading an older version yet.
        """
        for name in (*self.names, FILES):
            table = self.table(name)
            with _lance_errors(self.path):
                if name != FILES:
                    build(table, ann, self.dim)
                table.optimize(cleanup_older_than=datetime.timedelta(milliseconds=1) if fresh else KEPT)

    def read(self, name: str, where: str | None) -> tuple[pa.Table, NDArray[np.float32]]:
        """All rows of a table of windows that pass a condition, and their vectors (N, D)."""
        query = self.table(name).search()
        rows = (query.where(where) if where is not None else query).limit(self.count(name)).to_arrow()
        vectors = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, self.dim)
        return rows.drop_columns(["vector"]), vectors

    def search(
        self, name: str, vector: NDArray[np.float32], limit: int, *, where: str | None = None, exact: bool = False
    ) -> list[dict[str, Any]]:
        """The rows nearest to a vector, best first, with `score`, their cosine.

        Args:
            name: of a table of windows.
            vector: (D,), unit length.
            limit: rows.
            where: a condition that rows must pass; applied before, so that `limit` of them come where so many pass.
            exact: compare with all rows, whatever index there is.
        """
        query = self.table(name).search(vector, vector_column_name="vector").distance_type(METRIC).limit(limit)  # type: ignore[attr-defined]  # said of all builders, had by this one
        if where is not None:
            query = query.where(where)
        query = query.bypass_vector_index() if exact else lists_to_look_at(query)
        columns = [key for key in self.table(name).schema.names if key != "vector"]
        rows = query.select([*columns, "_distance"]).to_list()
        return [{**{key: row[key] for key in columns}, "score": 1.0 - float(row["_distance"]) / 2.0} for row in rows]


@contextmanager
def _lance_errors(path: Path) -> Iterator[None]:
    """LanceDB tells a full disk by words alone; here it becomes the system's own error."""
    try:
        yield
    except RuntimeError as error:
        if f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def create_store(path: Path, about: Mapping[str, Any]) -> Store:
    """A new store in a new or empty folder.

    Raises:
        InputError: the folder holds something else.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} holds other files and no {ABOUT}; choose a new folder for the index")
    path.mkdir(parents=True, exist_ok=True)
    store = Store(path, {"version": VERSION, **about})
    write_about(store)
    return store


def write_about(store: Store) -> None:
    """Write `search.json`."""
    write_aside(store.path / ABOUT, json.dumps(store.about, indent=2).encode())


def holds_store(path: Path) -> bool:
    """Whether there is a store in a folder."""
    return (path / ABOUT).is_file()


def open_store(path: Path) -> Store:
    """Open a store.

    Raises:
        InputError: there is none, its description is damaged, or another version of mmssl made it.
    """
    if not holds_store(path):
        raise InputError(f"{path} is no search index: it has no {ABOUT}; `mmssl search index RUN FOLDER {path}` makes one")
    try:
        about = json.loads((path / ABOUT).read_text())
        version = about["version"]
        missing = {"digest", "dim", "run", "objective", "step", "root", "stride", "kinds"} - set(about)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / ABOUT} is damaged ({error!r}); delete the folder and index again") from error
    if version != VERSION or missing:
        raise InputError(
            f"{path} is a search index of version {version}, this mmssl reads version {VERSION}; delete the folder and index again"
        )
    return Store(path, about)


@contextmanager
def writing(store: Store) -> Iterator[None]:
    """Hold a store for writing. Raises `InputError` where another process does."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing keeps two processes apart there
        yield
        return
    with (store.path / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is indexing into {store.path}; wait until it is done") from error
        yield
