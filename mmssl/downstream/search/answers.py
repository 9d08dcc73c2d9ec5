"""The windows of a store that are nearest to a query, a few of each file at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmssl.downstream.search.filters import EVERYTHING, Filter, one_of
from mmssl.downstream.search.query import Query
from mmssl.downstream.search.store import CELLS, Store
from mmssl.downstream.spaces import KINDS, WORDS, JointSpace, Kind
from mmssl.types import InputError

FIRST, MORE = 8, 4  # rows fetched for each hit asked for, and how many times more where that was not enough
LEAST = 64
FEW = 20_000  # rows: so few are read in the time that a search with a condition takes
BLOCK = 256  # rows turned into Python values at a time


@dataclass(frozen=True, slots=True)
class Hit:
    """A window found. `path` is under the root of the index."""

    rank: int
    score: float  # cosine
    id: str
    path: str
    label: str
    kind: Kind
    start: float  # seconds
    end: float
    duration: float  # of the file
    text: str | None = None  # of a caption
    at: float | None = None  # of the matching cell of the picture: seconds, and where as shares of the picture as it was cut
    x: float | None = None
    y: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; what does not apply is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a query."""

    query: Query
    kind: Kind  # what was searched
    hits: tuple[Hit, ...]
    root: Path  # that paths are under
    rows: int  # of the table that was searched


def find(
    store: Store,
    space: JointSpace,
    query: Query,
    *,
    kind: Kind | None = None,
    k: int = 10,
    per_file: int = 1,
    narrowed: Filter = EVERYTHING,
    exact: bool = False,
) -> Answer:
    """The `k` windows nearest to a query.

    A picture and another modality are compared by the picture's cells where the objective does so, else by pooled embeddings; the score
    is the best of all pairs.

    Args:
        store: of the same model.
        space: that model's.
        query: embedded by it.
        kind: modality to search; None: the one that the query's is joined with, where the store holds it, else the query's own.
        k: hits.
        per_file: windows of one file, at most; they do not overlap.
        narrowed: conditions.
        exact: compare with everything, whatever approximate index there is.

    Raises:
        InputError: a modality that the store does not hold, a condition that cannot be used, numbers below 1.
    """
    if k < 1 or per_file < 1:
        raise InputError(f"-k is {k} and --per-file {per_file}; give at least 1")
    into = _modality(store, space, query, kind)
    across = into != query.kind
    name = into + CELLS if across and into + CELLS in store.names else into
    vectors = query.cells if across and query.cells is not None else query.vector[None]
    where = narrowed.sql()
    total = store.count(name)
    if not total:
        raise InputError(f"{store.path} holds no {WORDS[into]}: no file of it has any that could be embedded")
    chosen = nearest_windows(store, name, vectors, where, k=k, per_file=per_file, exact=exact)
    hits = [Hit(rank, kind=into, **_values(row)) for rank, row in enumerate(chosen, start=1)]
    return Answer(query, into, tuple(hits), Path(store.about["root"]), total)


def _modality(store: Store, space: JointSpace, query: Query, kind: Kind | None) -> Kind:
    held: list[Kind] = [name for name in KINDS if name in store.about["kinds"]]
    if kind is None:
        other = space.other(query.kind)
        return other if other in held else query.kind if query.kind in held else held[0]
    if kind not in held:
        raise InputError(f"{store.path} holds {', '.join(held)}, not {kind}; --in names one of these")
    return kind


def nearest_windows(
    store: Store,
    name: str,
    vectors_QD: NDArray[np.float32],
    where: str | None = None,
    *,
    k: int = 10,
    per_file: int = 1,
    exact: bool = False,
) -> list[dict[str, Any]]:
    """The rows of the `k` best hits of a table, each with its `score`: the best of all vectors.

    Few rows that pass are read and compared one by one, which misses none. Of many, the nearest are asked for; where one file's windows
    fill the first places it is set aside, and the others are looked at again.
    """
    total = store.count(name, where)
    if total <= FEW:
        return _choose(_compared(*store.read(name, where), vectors_QD), k, per_file)
    limit = min(total, max(LEAST, FIRST * k * per_file))
    settled: list[dict[str, Any]] = []  # of files set aside
    while True:
        aside = sorted({row["id"] for row in settled})
        conditions = [where] if where is not None else []
        conditions += [f"NOT ({one_of('id', aside)})"] if aside else []
        rows, unseen = _nearest(store, name, vectors_QD, limit, " AND ".join(conditions) or None, exact)
        chosen = _choose(_ordered([*settled, *rows]), k, per_file)
        # A row that no list reached is at most as near as the last of the longest list.
        if limit >= total or unseen == -np.inf or (len(chosen) == k and chosen[-1]["score"] >= unseen):
            return chosen
        final = [row for row in chosen if row["score"] >= unseen]
        counts = Counter(row["id"] for row in final)
        full = {name for name, count in counts.items() if count == per_file}
        if full <= set(aside):
            limit = min(total, MORE * limit)
        settled = [row for row in final if row["id"] in full]


def _compared(rows: pa.Table, vectors_ND: NDArray[np.float32], queries_QD: NDArray[np.float32]) -> Iterator[dict[str, Any]]:
    """Rows with their scores, best first."""
    scores = (queries_QD @ vectors_ND.T).max(axis=0)
    order = np.argsort(-scores, kind="stable")
    for start in range(0, len(order), BLOCK):
        part = order[start : start + BLOCK]
        for row, score in zip(rows.take(pa.array(part)).to_pylist(), scores[part], strict=True):
            yield {**row, "score": float(score)}


def _ordered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["score"], row["id"], row["start"]))


def _nearest(
    store: Store, name: str, vectors_QD: NDArray[np.float32], limit: int, where: str | None, exact: bool
) -> tuple[list[dict[str, Any]], float]:
    """Rows near to any of the vectors, and the best score that a row not among them can have."""
    rows: list[dict[str, Any]] = []
    unseen = -np.inf
    for vector in vectors_QD:
        found = store.search(name, vector, limit, where=where, exact=exact)
        rows += found
        if len(found) == limit:
            unseen = max(unseen, found[-1]["score"])
    return rows, unseen


def _choose(rows: Iterable[dict[str, Any]], k: int, per_file: int) -> list[dict[str, Any]]:
    """The first `k` rows of which no file has more than `per_file`, and none overlaps a better one of its file."""
    chosen: list[dict[str, Any]] = []
    taken: Counter[str] = Counter()
    for row in rows:
        if len(chosen) == k:
            break
        name = row["id"]
        overlaps = any(row["start"] < other["end"] and other["start"] < row["end"] for other in chosen if other["id"] == name)
        if taken[name] < per_file and not overlaps:
            chosen.append(row)
            taken[name] += 1
    return chosen


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row.get(key) for key in ("score", "id", "path", "label", "start", "end", "duration", "text", "at", "x", "y")}
