"""What the store of `mmssl search` costs at size: build time, bytes, memory, latency, and how much approximate search misses.

Vectors are made, with the structure of embeddings of films: unit vectors of classes; films scattered around a class; windows of a film scattered
around the film (see `make_vectors`). Queries are new windows of films that are in the store, seen through more noise, as a caption or a sound
is. A table is searched exactly and through each kind of approximate index, each built and queried in a process of its own, whose peak
resident memory is told.

Example: python tools/bench_search.py work/search --rows 1000000 --page docs/results/search.md
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pages import arguments, head

from mmssl.downstream.search.ann import EF, LARGE, METRIC, NPROBES, REFINE, ROWS_A_LIST, check_ann, config, lists_to_look_at
from mmssl.downstream.search.answers import FEW, nearest_windows
from mmssl.downstream.search.store import create_store, open_store, schema_of
from mmssl.files import write_aside
from mmssl.rng import Purpose, rng_for

CLASSES, WINDOWS = 500, 50  # classes; windows of a film
OFF_CLASS, OFF_FILM = 1.2, 0.5  # lengths of the noise that parts films of a class, and windows of a film
OFF_QUERY = {"near": 0.8, "far": 2.5}  # of the noise that parts a query from its film: the answer is a film, or lies among many
CHUNK = 20_000  # rows added at a time, as indexing commits them
K = 10
WARM = 5  # queries before those that count


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to search the table."""

    name: str
    ann: str
    nprobes: int = NPROBES
    refine: int = REFINE


CONTENDERS = (
    Contender("exact", "none"),
    Contender("ivf_flat", "ivf_flat"),
    Contender(f"ivf_flat, {NPROBES // 2} lists", "ivf_flat", nprobes=NPROBES // 2),
    Contender(f"ivf_flat, {NPROBES // 6} lists", "ivf_flat", nprobes=NPROBES // 6),
    Contender("ivf_pq", "ivf_pq"),
    Contender("ivf_pq, no refining", "ivf_pq", refine=1),
    Contender("ivf_hnsw_sq", "ivf_hnsw_sq"),
)


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def noise(rng: np.random.Generator, rows: int, dim: int, length: float) -> NDArray[np.float32]:
    """Gaussian noise of about `length`."""
    return (rng.standard_normal((rows, dim), dtype=np.float32) * (length / dim**0.5)).astype(np.float32)


def films_of(seed: int, rows: int, dim: int) -> NDArray[np.float32]:
    """Centres of films (rows / WINDOWS, D)."""
    rng = rng_for(seed, Purpose.EVALUATE, "films")
    classes = unit(noise(rng, CLASSES, dim, 1.0))
    films = max(1, rows // WINDOWS)
    return unit(classes[rng.integers(CLASSES, size=films)] + noise(rng, films, dim, OFF_CLASS))


def make_vectors(films: NDArray[np.float32], seed: int, start: int, count: int) -> NDArray[np.float32]:
    """Rows `start` to `start + count` of the table: windows around their films."""
    rng = rng_for(seed, Purpose.EVALUATE, "windows", start)
    mine = films[(np.arange(start, start + count) // WINDOWS) % len(films)]
    return unit(mine + noise(rng, count, films.shape[1], OFF_FILM))


def make_queries(films: NDArray[np.float32], seed: int, count: int) -> NDArray[np.float32]:
    """Queries (Q, D) around films of the table: the first half near, the second far."""
    rng = rng_for(seed, Purpose.EVALUATE, "queries")
    lengths = np.repeat(list(OFF_QUERY.values()), -(-count // 2))[:count, None]
    scattered = noise(rng, count, films.shape[1], 1.0) * lengths.astype(np.float32)
    return unit((films[rng.integers(len(films), size=count)] + scattered).astype(np.float32))


def ingest(folder: Path, rows: int, dim: int, seed: int) -> dict[str, Any]:
    """Write the table."""
    cpu, films = time.process_time(), films_of(seed, rows, dim)
    about = {"digest": "", "dim": dim, "run": "", "objective": "", "step": 0, "root": "", "stride": 1.0, "kinds": ["video"]}
    store = create_store(folder, about)
    spent = 0.0
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        table = table_of(make_vectors(films, seed, start, count), start, dim)
        began = time.perf_counter()
        store.add("video", table)
        spent += time.perf_counter() - began
    began = time.perf_counter()
    store.settle("none", fresh=True)
    return {"seconds": spent + time.perf_counter() - began, "cpu": time.process_time() - cpu, "bytes": size_of(folder)}


def table_of(vectors: NDArray[np.float32], start: int, dim: int) -> pa.Table:
    """Rows as indexing would write them."""
    numbers = np.arange(start, start + len(vectors))
    films = numbers // WINDOWS
    columns = [
        pa.array([f"class{film % CLASSES}/film{film:06d}" for film in films]),
        pa.array([f"class{film % CLASSES}/film{film:06d}.mp4" for film in films]),
        pa.array([f"class{film % CLASSES}" for film in films]),
        pa.array(np.full(len(vectors), float(WINDOWS))),
        pa.array((numbers % WINDOWS).astype(np.float64)),
        pa.array((numbers % WINDOWS + 1.0).astype(np.float64)),
        pa.nulls(len(vectors), pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim),
    ]
    return pa.Table.from_arrays(columns, schema=schema_of("video", dim))


def build_index(folder: Path, ann: str, dim: int) -> dict[str, Any]:
    """Make the approximate index."""
    table = open_store(folder).table("video")
    before, began, spent = size_of(folder), time.perf_counter(), time.process_time()
    if ann != "none":
        table.create_index("vector", config=config(check_ann(ann), table.count_rows(), dim), name="vector_idx")
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - spent, "bytes": size_of(folder) - before}


def query_index(
    folder: Path, contender: Contender, queries: NDArray[np.float32], truth: list[list[int]] | None
) -> dict[str, Any]:
    """Ask all queries, one after the other."""
    table = open_store(folder).table("video")

    def ask(query: NDArray[np.float32]) -> list[int]:
        builder: Any = table.search(query, vector_column_name="vector").distance_type(METRIC).limit(K)  # type: ignore[attr-defined]  # said of all builders, had by this one
        if contender.ann == "none":
            builder = builder.bypass_vector_index()
        else:
            builder = lists_to_look_at(builder, contender.nprobes, contender.refine)
        rows = builder.with_row_id(True).select(["id", "start", "_distance"]).to_arrow()
        return rows["_rowid"].to_pylist()

    found, times = timed(ask, queries)
    shares = [] if truth is None else [len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)]
    half = -(-len(queries) // 2)
    recall = {name: float(np.mean(part)) for name, part in zip(OFF_QUERY, (shares[:half], shares[half:]), strict=True) if part}
    return {**times, "recall": recall, "found": found}


def query_store(folder: Path, queries: NDArray[np.float32], where: str | None) -> dict[str, Any]:
    """The same through `Store.search`, as `mmssl search query` asks, with a condition."""
    store = open_store(folder)
    _, times = timed(lambda query: nearest_windows(store, "video", query[None], where, k=K), queries)
    return {**times, "rows": store.count("video", where)}


def timed(ask: Callable[[NDArray[np.float32]], Any], queries: NDArray[np.float32]) -> tuple[list[Any], dict[str, float]]:
    """Answers; the median and the 95th percentile of the time that one takes, and CPU time of all threads for one, in milliseconds."""
    for query in queries[:WARM]:
        ask(query)
    found: list[Any] = []
    times: list[float] = []
    spent = time.process_time()
    for query in queries:
        began = time.perf_counter()
        found.append(ask(query))
        times.append(time.perf_counter() - began)
    cpu = (time.process_time() - spent) / len(queries)
    return found, {"median": 1e3 * float(np.median(times)), "p95": 1e3 * float(np.percentile(times, 95)), "cpu": 1e3 * cpu}


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def child(job: dict[str, Any]) -> dict[str, Any]:
    """One measurement in this process, with its peak memory."""
    folder, what = Path(job["folder"]), job["what"]
    if what == "ingest":
        done = ingest(folder, job["rows"], job["dim"], job["seed"])
    elif what == "build":
        done = build_index(folder, job["ann"], job["dim"])
    elif what == "idle":
        done = {"rows": open_store(folder).count("video")}
    else:
        queries = make_queries(films_of(job["seed"], job["rows"], job["dim"]), job["seed"], job["queries"])
        truth = json.loads(Path(job["truth"]).read_text()) if job.get("truth") else None
        if what == "query":
            done = query_index(folder, Contender(**job["contender"]), queries, truth)
        else:
            done = query_store(folder, queries, job["where"])
    return {**done, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """A measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[tuple[str, str, dict[str, Any]]]]:
    """Ingestion; contender -> its figures; (what is asked, the index, figures) of filtered searches."""
    shared = {"rows": given.rows, "dim": given.dim, "seed": given.seed, "queries": given.queries}
    base = given.folder / "base"
    shutil.rmtree(given.folder, ignore_errors=True)
    base.parent.mkdir(parents=True)
    ingested = run({"what": "ingest", "folder": str(base), **shared})
    ingested["idle"] = run({"what": "idle", "folder": str(base), **shared})["rss"]
    truth = given.folder / "truth.json"
    figures: dict[str, dict[str, Any]] = {}
    built: dict[str, dict[str, Any]] = {"none": {"seconds": 0.0, "cpu": 0.0, "bytes": 0, "rss": 0}}
    filtered: list[tuple[str, str, dict[str, Any]]] = []
    for contender in CONTENDERS:
        folder = base if contender.ann == "none" else given.folder / contender.ann
        if contender.ann not in built:
            shutil.copytree(base, folder)
            built[contender.ann] = run({"what": "build", "folder": str(folder), "ann": contender.ann, **shared})
        asked = {name: getattr(contender, name) for name in Contender.__dataclass_fields__}
        job = {"what": "query", "folder": str(folder), "contender": asked, **shared}
        figures[contender.name] = run(job | ({"truth": str(truth)} if truth.is_file() else {}))
        figures[contender.name]["build"] = built[contender.ann]
        if contender.name == "exact":
            truth.write_text(json.dumps(figures["exact"]["found"]))
        if contender.name in ("exact", "ivf_flat"):
            for where in (None, "label = 'class7'", "path LIKE '%film00000%'", "start < 25"):
                job = {"what": "store", "folder": str(folder), "where": where, **shared, "queries": min(20, given.queries)}
                filtered.append((where or "nothing", contender.name, run(job)))
        print(contender.name, {key: value for key, value in figures[contender.name].items() if key != "found"}, file=sys.stderr)
    return ingested, figures, filtered


def page(given: argparse.Namespace, measured: tuple[Any, ...]) -> str:
    """The page, in Markdown."""
    ingested, figures, filtered = measured
    vectors = given.rows * given.dim * 4
    lines = [
        *head(
            "The store of search", f"python tools/bench_search.py {shlex.join(sys.argv[1:])}", more="LANCE_CPU_THREADS 2, nice 10"
        ),
        f"{given.rows:,} vectors of {given.dim} numbers ({vectors / 1e6:.0f} MB as float32). They are made, not embedded: {CLASSES} classes, films of {WINDOWS} "
        f"windows each; noise of length {OFF_CLASS} parts a film from its class, {OFF_FILM} a window from its film, {OFF_QUERY['near']} a near query and {OFF_QUERY['far']} "
        f"a far one from the film that it is drawn around. {given.queries} queries, half of them near, one after the other, files in the page cache. CPU time is of all threads; wall-clock times suffer where the machine does other work beside. Recall@{K}: share of the {K} truly "
        "nearest that are found. Memory: the process's peak, Python and libraries included.",
        "",
        f"Writing the table in steps of {CHUNK:,} rows and compacting it took {ingested['seconds']:.1f} s ({ingested['cpu']:.0f} s of CPU time with making the vectors), {ingested['bytes'] / 1e6:.0f} MB, "
        f"memory {ingested['rss'] / 1e6:.0f} MB. A process that has only opened the table holds {ingested['idle'] / 1e6:.0f} MB, torch and LanceDB.",
        "",
        f"| search | build s | build CPU s | build memory MB | index MB | query CPU ms | median ms | p95 ms | recall@{K} near | recall@{K} far | query memory MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in figures.items():
        built = found["build"]
        recall = [f"{found['recall'][name]:.3f}" if found["recall"] else "1" for name in OFF_QUERY]
        cells = [name, *(f"{value:.0f}" for value in (built["seconds"], built["cpu"], built["rss"] / 1e6, built["bytes"] / 1e6))]
        cells += [f"{found['cpu']:.1f}", f"{found['median']:.1f}", f"{found['p95']:.1f}", *recall, f"{found['rss'] / 1e6:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"An index has a list for {ROWS_A_LIST:,} rows; {NPROBES} lists are looked at and {REFINE} times {K} candidates compared by their whole vectors, where the table says "
        f"nothing else (ivf_hnsw_sq: one graph a million rows, {EF} candidates). `mmssl search index` makes an ivf_flat from {LARGE:,} rows on.",
        "",
        f"Through `mmssl search query`'s own path, which looks for one window of each film, and first counts the rows that a condition lets through and reads and compares all of them where they are at most {FEW:,}:",
        "",
        "| condition | index | rows | query CPU ms | median ms | p95 ms |",
        "|---|---|---|---|---|---|",
        *[
            f"| {where} | {index} | {found['rows']:,} | {found['cpu']:.1f} | {found['median']:.1f} | {found['p95']:.1f} |"
            for where, index, found in filtered
        ],
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(json.loads(sys.argv[2]))))
        return
    parser = arguments(__doc__ or "", "where the tables go; what is there is deleted")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    text = page(given, measure(given))
    write_aside(given.page or given.folder / "search.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
