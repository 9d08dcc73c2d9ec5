"""What `mmssl prepare` saves: rows a second out of the source, H.264, JPEG and shards, and bytes; of stored flow, its speed and its error.

Each corpus is prepared three ways into the folder, where that is not done yet. The same cuts (a clip of pictures and a second of sound at random
moments) are answered from all, in turns and in shuffled order, in one thread; CPU time decides. The rows of `rgb_flow` are answered with stored
flow and with computing, from the same films. On a toy world both are held against the exact flow.

Example: python tools/bench_prepare.py work/prepared --corpora toy/ clips/ --page docs/results/prepare.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from measure_flow import toy_flow
from pages import arguments, head

from mmssl.data.decode import answer
from mmssl.data.index import open_corpus
from mmssl.data.prepare import FlowForm, Form, prepare
from mmssl.data.shards import look_up
from mmssl.data.toyworld import load_truth
from mmssl.files import write_aside
from mmssl.objectives.rgb_flow import FlowViews
from mmssl.rng import rng_for
from mmssl.types import Box, Flow, Frames, InputError, InputSpec, MediaError, Request, Source, Wave

SHARD_BYTES = 20_000_000
TIMEOUT = 1800.0  # seconds a film: a busy machine is no reason to leave one out
Cut = tuple[str, list[Request]]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what was read, rows per CPU second, times the first contender with quartiles, megabytes, and how far off the answers are."""

    what: str
    rate: float
    times: tuple[float, float, float]  # low quartile, median, high quartile over repetitions
    megabytes: str
    apart: str


def main() -> None:
    """Command line."""
    parser = arguments(__doc__ or "", "where the prepared corpora go")
    parser.add_argument("--corpora", type=Path, nargs="+", required=True)
    parser.add_argument("--films", type=int, default=12, help="how many films of a corpus are cut")
    parser.add_argument("--short-side", type=int, default=128)
    parser.add_argument("--size", type=int, default=112, help="side of the pictures asked for")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--fps", type=float, default=12.5)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    listed = " ".join(str(path.name) for path in given.corpora)
    lines = [
        *head(
            "What preparing a corpus saves",
            f"python tools/bench_prepare.py work/prepared --corpora {listed} --films {given.films} --rows {given.rows} --page docs/results/prepare.md",
        ),
        f"Short side {given.short_side}; a row is {given.frames} pictures of {given.size} pixels at {given.fps:g} a second and, where there is sound, a second of it. "
        f"{given.rows} rows, {given.repetitions} repetitions in shuffled order, one thread, CPU time; files in the page cache. Times: median of the ratios within a repetition, "
        "and their quartiles. Apart: mean absolute difference of the pictures from the source's, of 255 levels.",
        "",
    ]
    for corpus in given.corpora:
        lines += page_of(corpus, given)
    out = given.page or given.folder / "prepare.md"
    write_aside(out, ("\n".join(lines) + "\n").encode())
    print(out.read_text())


def page_of(corpus: Path, given: argparse.Namespace) -> list[str]:
    """The section of one corpus."""
    form = Form(short_side=given.short_side)
    made = {
        "h264": prepare(corpus, given.folder / f"{corpus.name}-h264", form=form, flow=FlowForm(), motion=True, timeout=TIMEOUT),
        "jpeg": prepare(corpus, given.folder / f"{corpus.name}-jpeg", form=replace(form, pictures="jpeg"), timeout=TIMEOUT),
        "h264 in shards": prepare(
            corpus, given.folder / f"{corpus.name}-shards", form=form, shard_bytes=SHARD_BYTES, timeout=TIMEOUT
        ),
    }
    sources = {"source": {film.id: film for film in open_corpus(corpus)}}
    sources |= {name: {film.id: film for film in found.manifest} for name, found in made.items()}
    seconds = (given.frames + 1) / given.fps
    names = [name for name in sources["h264"] if all(long_enough(films[name], seconds) for films in sources.values())][
        : given.films
    ]
    if not names:
        raise InputError(f"no film of {corpus} has {max(seconds, 1.0):.2f} s of picture")
    cuts = [draw(sources["source"][names[row % len(names)]], row, given, seconds) for row in range(given.rows)]
    rows = list(cut_rows(cuts, sources, given.repetitions))
    left_out = {f"{name}: {count} x {reason}" for name, found in made.items() for reason, count in found.rejected.items()}
    lines = [
        f"## {corpus.name}: {len(names)} films",
        "",
        *([f"Left out: {'; '.join(sorted(left_out))}.", ""] if left_out else []),
        "| read from | rows a CPU second | times the source | MB | apart |",
        "|---|---|---|---|---|",
        *(
            f"| {row.what} | {row.rate:.1f} | {row.times[1]:.2f} ({row.times[0]:.2f} to {row.times[2]:.2f}) | {row.megabytes} | {row.apart} |"
            for row in rows
        ),
        "",
    ]
    return lines + flow_lines(sources["h264"], names, given) + error_lines(sources, names)


def long_enough(film: Source, seconds: float) -> bool:
    return film.video is not None and film.video.seconds > max(seconds, 1.0) + 0.1


def draw(film: Source, row: int, given: argparse.Namespace, seconds: float) -> Cut:
    """The same for all corpora, in seconds: pictures, and the sound around them where there is some."""
    assert film.video is not None
    start = float(rng_for(0, row).uniform(film.video.start, film.video.end - max(seconds, 1.0) - 0.05))
    requests: list[Request] = [Frames(tuple(start + k / given.fps for k in range(given.frames)), given.size)]
    if film.audio is not None and film.audio.start <= start and start + 1.0 < film.audio.end - 0.1:
        requests.append(Wave(start, 1.0, 16_000))
    return film.id, requests


def spent(contenders: dict[str, Callable[[], None]], repetitions: int) -> dict[str, np.ndarray]:
    """CPU seconds of each contender in each repetition, in shuffled order; one round before them does not count."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for place in rng_for(repetition).permutation(len(contenders)):
            name = list(contenders)[place]
            begin = time.process_time()
            contenders[name]()
            found[name].append(time.process_time() - begin)
    return {name: np.array(times[1:]) for name, times in found.items()}


def run_cuts(cuts: Sequence[Cut], films: dict[str, Source]) -> Callable[[], None]:
    def run() -> None:
        for name, requests in cuts:
            answer(films[name], requests)

    return run


def quartiles(first: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    low, median, high = np.quantile(first / other, (0.25, 0.5, 0.75))
    return float(low), float(median), float(high)


def cut_rows(cuts: Sequence[Cut], sources: dict[str, dict[str, Source]], repetitions: int) -> Iterator[Row]:
    times = spent({name: run_cuts(cuts, films) for name, films in sources.items()}, repetitions)
    used = {film for film, _ in cuts}
    for name, films in sources.items():
        weight = sum(look_up(films[film].path).size for film in used)  # of the films that are cut, and so the same everywhere
        apart = "" if name == "source" else differences(cuts, sources["source"], films)
        yield Row(
            name, len(cuts) / float(np.median(times[name])), quartiles(times["source"], times[name]), f"{weight / 1e6:.1f}", apart
        )


def differences(cuts: Sequence[Cut], before: dict[str, Source], after: dict[str, Source]) -> str:
    """Mean absolute difference of pictures, and the share of cuts that only one of the two could answer."""
    apart: list[float] = []
    for film, requests in cuts:
        try:
            one, other = (answer(corpus[film], requests)[requests[0]].float() for corpus in (before, after))
        except MediaError:
            continue
        apart.append(float((one - other).abs().mean()))
    failed = len(cuts) - len(apart)
    return f"{np.mean(apart):.2f}{f', {failed} cuts failed' if failed else ''}"


def flow_lines(films: dict[str, Source], names: Sequence[str], given: argparse.Namespace) -> list[str]:
    """Rows of `rgb_flow` with stored and with computed flow."""
    views = FlowViews(size=given.size, flow_size=given.size, min_motion=0.0).resolve(InputSpec(), InputSpec())
    usable = [name for name in names if views.reject(films[name]) is None]
    if not usable:
        return ["No film serves `rgb_flow`.", ""]
    cuts: list[Cut] = []
    for row in range(max(1, given.rows // 4)):
        name = usable[row % len(usable)]
        cuts.append((name, list(views.plan(films[name], rng_for(1, row)).requests.values())))
    without = {name: replace(film, flow=None) for name, film in films.items()}
    times = spent({"computed": run_cuts(cuts, without), "stored": run_cuts(cuts, films)}, given.repetitions)
    low, median, high = quartiles(times["computed"], times["stored"])
    rate = {name: len(cuts) / float(np.median(found)) for name, found in times.items()}
    pictures = sum(look_up(films[name].path).size for name in usable) / 1e6
    fields = sum(look_up(flow.path).size for name in usable if (flow := films[name].flow) is not None) / 1e6
    return [
        f"`rgb_flow`, {views.frames} picture and {views.flows} fields of {views.step:g} s, {given.size} pixels: {rate['computed']:.1f} rows a CPU second with computed flow, "
        f"{rate['stored']:.1f} with stored flow: **{median:.1f} times** ({low:.1f} to {high:.1f}). "
        f"Stored flow has {fields:.1f} MB beside {pictures:.1f} MB of films.",
        "",
    ]


def error_lines(sources: dict[str, dict[str, Source]], names: Sequence[str]) -> list[str]:
    """End-point errors of stored and of computed flow, where the truth is known."""
    boxes = {
        "the whole picture": Box(0.0, 0.0, 1.0, 1.0),
        "its middle, three quarters of each side": Box(0.125, 0.125, 0.75, 0.75),
    }
    found: dict[str, list[tuple[float, float, float, float]]] = {what: [] for what in boxes}
    for name in names:
        truth, film = load_truth(sources["source"][name].path), sources["h264"][name]
        if truth is None or film.flow is None or truth.labels.shape[1:] != (film.height, film.width):
            continue
        ahead = round(film.flow.step * truth.fps)
        for frame in range(5, len(truth.labels) - ahead, 20):
            true = toy_flow(truth, frame, ahead)
            for what, box in boxes.items():
                rows, columns = (
                    slice(round(low * side), round((low + part) * side))
                    for low, part, side in ((box.top, box.height, film.height), (box.left, box.width, film.width))
                )
                want, valid = true.flow[:, rows, columns], true.valid[rows, columns]
                request = Flow(((frame + 0.25) / truth.fps,), film.flow.step, (want.shape[1], want.shape[2]), box)
                one, other = (
                    answer(source, [request])[request][0].float().numpy() for source in (film, replace(film, flow=None))
                )
                pairs = ((one, want), (other, want), (np.zeros_like(want), want), (one, other))
                errors = [float(np.linalg.norm(a - b, axis=0)[valid].mean()) for a, b in pairs]
                found[what].append((errors[0], errors[1], errors[2], errors[3]))
    if not any(found.values()):
        return []
    lines = ["End-point errors in pixels against the exact flow; the last column: stored against computed.", ""]
    lines += ["| asked for | fields | stored | computed | saying that nothing moves | apart |", "|---|---|---|---|---|---|"]
    for what, errors in found.items():
        stored, computed, zero, apart = np.mean(errors, axis=0)
        lines.append(f"| {what} | {len(errors)} | {stored:.3f} | {computed:.3f} | {zero:.3f} | {apart:.3f} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
