"""Approximate indexes: which kind, from how many rows on, and how far a query looks. Chosen from what `tools/bench_search.py` measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from mmssl.types import InputError

if TYPE_CHECKING:
    from lancedb.query import LanceVectorQueryBuilder
    from lancedb.table import Table

Ann = Literal["auto", "none", "ivf_flat", "ivf_pq", "ivf_hnsw_sq"]
LARGE = 50_000  # rows from which "auto" makes an index: below, comparing with all of them takes some ten milliseconds
ROWS_A_LIST = 4096  # what an inverted list holds, about
NPROBES = 48  # lists that a query looks into; more of them where a filter lets too few rows through
REFINE = 5  # times as many candidates as asked for are compared by their whole vectors
EF = 200  # candidates kept while a graph is walked
NAME = "vector_idx"
METRIC = (
    "l2"  # of unit vectors it orders as cosines do, and only with it product quantization codes what is left of a list's centre
)


def check_ann(name: str) -> Ann:
    """`name` as a kind of index. Raises `InputError` where it is none."""
    found = next((kind for kind in get_args(Ann) if kind == name), None)
    if found is None:
        raise InputError(f"--ann is {name!r}; it is one of {', '.join(get_args(Ann))}")
    return found


def build(table: Table, ann: Ann, dim: int) -> bool:
    """Make an approximate index over a table's vectors where it should have one and has none, or one of another kind; whether it did."""
    rows = table.count_rows()
    has = [index.index_type for index in table.list_indices() if index.name == NAME]
    if ann == "auto":
        if has or rows < LARGE:
            return False
        ann = "ivf_flat"
    if ann == "none":
        if has:
            table.drop_index(NAME)
        return False
    if has and has[0].lower().replace("_", "") == ann.replace("_", ""):
        return False
    if rows < 256:  # nothing to learn lists or codes from
        return False
    table.create_index("vector", config=config(ann, rows, dim), name=NAME)
    return True


def config(ann: Ann, rows: int, dim: int) -> Any:
    """LanceDB's settings of an index over `rows` vectors."""
    from lancedb.index import IvfFlat, IvfHnswSq, IvfPq

    lists = max(1, round(rows / ROWS_A_LIST))
    if ann == "ivf_flat":
        return IvfFlat(distance_type=METRIC, num_partitions=lists)
    if ann == "ivf_hnsw_sq":
        return IvfHnswSq(distance_type=METRIC, num_partitions=max(1, round(rows / 1_000_000)), m=20, ef_construction=150)
    return IvfPq(distance_type=METRIC, num_partitions=lists, num_sub_vectors=sub_vectors(dim))


def sub_vectors(dim: int) -> int:
    """Parts that a vector is coded in: of 4 numbers each, or as near as divides `dim`."""
    return max(1, dim // next((size for size in (4, 8, 2, 1) if dim % size == 0), 1))


Query = TypeVar("Query", bound="LanceVectorQueryBuilder")


def lists_to_look_at(query: Query, nprobes: int = NPROBES, refine: int = REFINE) -> Query:
    """How far a query looks in an approximate index; without one it makes no difference."""
    return query.minimum_nprobes(nprobes).maximum_nprobes(4 * nprobes).refine_factor(refine).ef(EF)  # type: ignore[return-value]  # the builder gives itself back, typed as what all builders share
