"""How far the optical flow of `mmssl.data.flow` is from the true one, beside zero flow: `python tools/measure_flow.py TOYWORLD MEDIA --page PAGE.md`.

On the toy world's exact flow (the films as encoded, answered as `Flow` requests are in training) and on the real pairs of MEDIA/flow. RAFT is
measured where its weights are at hand.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmssl.data.decode import answer
from mmssl.data.flow import METHODS, check_method, enlargement, estimate, pictures_for, shrink
from mmssl.data.toyworld.truth import load_truth
from mmssl.downstream.metrics.flow import TrueFlow, endpoint_errors, outliers, read_flo, read_kitti_flow, toy_flow
from mmssl.downstream.metrics.intervals import bootstrap
from mmssl.types import Flow, Frames, InputError, Source

FRAMES = (10, 40, 70)  # of each clip
AHEAD = (1, 2, 4)  # frames between the two pictures


class Row(NamedTuple):
    """One line of the page."""

    data: str
    method: str
    error: str
    on_objects: str
    fl: str
    milliseconds: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("toyworld", type=Path, help="folder of a toy world with its truth")
    parser.add_argument("media", type=Path, help="folder that holds flow/Middlebury and flow/KITTI")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--page", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    methods = [method for method in METHODS if at_hand(method)]
    videos = sorted(arguments.toyworld.rglob("*.mp4"))[: arguments.clips]
    if not videos:
        raise InputError(f"there is no clip in {arguments.toyworld}; `mmssl toyworld {arguments.toyworld} --clips 40` makes some")
    rows = [*real_rows(arguments.media, methods)]
    for size in (128, 64):
        for ahead in AHEAD if size == 128 else (2,):
            rows += toy_rows(videos, ahead, size, methods)
    text = page(rows, list(size_rows(videos)), len(videos), methods)
    arguments.page.write_text(text, encoding="utf-8")
    print(text)


def at_hand(method: str) -> bool:
    try:
        check_method(method)
    except InputError:
        return False
    return True


def real_rows(media: Path, methods: list[str]) -> Iterator[Row]:
    middlebury, kitti = media / "flow/Middlebury", media / "flow/KITTI"
    sets = [
        (
            "Middlebury RubberWhale",
            middlebury / "RubberWhale1.png",
            middlebury / "RubberWhale2.png",
            read_flo(middlebury / "flow_gt.flo"),
        ),
        ("KITTI pair", kitti / "frame1.png", kitti / "frame2.png", read_kitti_flow(kitti / "flow_gt.png")),
    ]
    for name, first, second, true in sets:
        pair = picture(first), picture(second)
        shape = f"{name}, {pair[0].shape[1]} x {pair[0].shape[0]}"
        yield Row(shape, "zero", *figures([np.zeros_like(true.flow)], [true]), "")
        for method in methods:
            begin = time.process_time()
            field = estimate([pair], method)[0].transpose(2, 0, 1)
            spent = 1000 * (time.process_time() - begin)
            yield Row(shape, method, *figures([field], [true]), f"{spent:.0f}")


def toy_rows(videos: list[Path], ahead: int, size: int, methods: list[str]) -> Iterator[Row]:
    truths = {video: load_truth(video) for video in videos}
    true: list[TrueFlow] = []
    objects: list[TrueFlow] = []
    found: dict[str, list[np.ndarray]] = {"zero": [], **{method: [] for method in methods}}
    clips: list[int] = []
    spent: dict[str, list[float]] = {method: [] for method in methods}
    for number, (video, truth) in enumerate(truths.items()):
        if truth is None:
            raise InputError(f"{video} has no truth beside it; give a folder that `mmssl toyworld` made")
        moments = [frame for frame in FRAMES if frame + ahead < len(truth.labels)]
        for frame in moments:
            whole = toy_flow(truth, frame, ahead)
            want = shrunk(whole, size)
            true.append(want)
            seen = shrunk(TrueFlow(whole.flow, whole.valid & (truth.labels[frame] > 0)), size)
            objects.append(seen)
            clips.append(number)
            found["zero"].append(np.zeros_like(want.flow))
        for method in methods:
            request = Flow(tuple(frame / truth.fps for frame in moments), ahead / truth.fps, size, method=method)
            found[method] += list(answer(Source(video.stem, video), [request])[request].float().numpy())
            spent[method].append(cost(video, request))
    name = f"toy world, {size} px, {ahead} frame{'s' * (ahead > 1)} ahead"
    for method, fields in found.items():
        error, fl = by_clip(fields, true, clips)
        on_objects, _ = by_clip(fields, objects, clips)
        milliseconds = f"{np.median(spent[method]):.1f}" if method in spent else ""
        yield Row(name, method, error, on_objects, fl, milliseconds)


def size_rows(videos: list[Path]) -> Iterator[tuple[str, ...]]:
    """DIS on pictures of several sizes, for answers of 128 and 64 pixels, two frames ahead: what an enlargement gives and costs."""
    for size in (128, 64):
        for factor in (1, 2, 4):
            fields, true, objects, clips, spent = [], [], [], [], []
            for number, video in enumerate(videos):
                truth = load_truth(video)
                assert truth is not None
                moments = [frame for frame in FRAMES if frame + 2 < len(truth.labels)]
                times = tuple((frame + ahead) / truth.fps for ahead in (0, 2) for frame in moments)
                request = Frames(times, size * factor)
                pictures = answer(Source(video.stem, video), [request])[request].permute(0, 2, 3, 1).numpy()
                begin = time.process_time()
                found = estimate(list(zip(pictures[: len(moments)], pictures[len(moments) :], strict=True)))
                spent.append(1000 * (time.process_time() - begin) / len(moments))
                for frame, field in zip(moments, found, strict=True):
                    whole = toy_flow(truth, frame, 2)
                    fields.append(shrink(field, size, size).transpose(2, 0, 1))
                    true.append(shrunk(whole, size))
                    objects.append(shrunk(TrueFlow(whole.flow, whole.valid & (truth.labels[frame] > 0)), size))
                    clips.append(number)
            errors = by_clip(fields, true, clips)[0], by_clip(fields, objects, clips)[0]
            yield str(size), str(size * factor), *errors, f"{np.median(spent):.1f}"


def cost(video: Path, request: Flow) -> float:
    """CPU milliseconds of one field, without decoding."""
    frames = pictures_for(request)
    pictures = answer(Source(video.stem, video), [frames.request])[frames.request].permute(0, 2, 3, 1).numpy()
    pairs = [(pictures[one], pictures[other]) for one, other in zip(frames.first, frames.second, strict=True)]
    begin = time.process_time()
    estimate(pairs, request.method)
    return 1000 * (time.process_time() - begin) / len(pairs)


def shrunk(true: TrueFlow, size: int) -> TrueFlow:
    """True flow at the size of the answer: means over blocks, known where all of a block is."""
    full = true.valid.shape[0]
    if full == size:
        return true
    block = full // size
    valid = true.valid.reshape(size, block, size, block).min(axis=(1, 3))
    flow = true.flow.reshape(2, size, block, size, block).mean(axis=(2, 4)) / block
    return TrueFlow(flow.astype(np.float32), valid)


def by_clip(fields: list[np.ndarray], true: list[TrueFlow], clips: list[int]) -> tuple[str, str]:
    """Mean end-point error with its interval over clips, and Fl."""
    errors: dict[int, list[float]] = {}
    bad: list[float] = []
    for field, want, clip in zip(fields, true, clips, strict=True):
        if want.valid.any():
            errors.setdefault(clip, []).append(float(endpoint_errors(field, want).mean()))
            bad.append(outliers(field, want))
    value, low, high, _ = bootstrap(np.array([np.mean(values) for values in errors.values()]))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]", f"{np.mean(bad):.1%}"


def figures(fields: list[np.ndarray], true: list[TrueFlow]) -> tuple[str, str, str]:
    errors = np.concatenate([endpoint_errors(field, want) for field, want in zip(fields, true, strict=True)])
    return f"{errors.mean():.3f}", "", f"{np.mean([outliers(field, want) for field, want in zip(fields, true, strict=True)]):.1%}"


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"there is no picture {path}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def page(rows: list[Row], sizes: list[tuple[str, ...]], clips: int, methods: list[str]) -> str:
    missing = [method for method in METHODS if method not in methods]
    lines = [
        "# Optical flow against the truth",
        "",
        f"`python tools/measure_flow.py TOYWORLD MEDIA --clips {clips} --page docs/results/flow.md`, {date.today().isoformat()}, {platform.machine()}, one thread; OpenCV {cv2.__version__}.",
        *([f"Not measured, because their weights were not at hand: {', '.join(missing)}."] if missing else []),
        "",
        "End-point error (EPE) is the mean distance in pixels of the answer between estimated and true flow; zero is the error of saying that nothing moves. Fl is KITTI's share of pixels off by more than 3 pixels and 5 %. On the "
        f"toy world: {clips} clips, frames {', '.join(map(str, FRAMES))}, films as encoded, answered as in training (a smaller answer is estimated on pictures {enlargement(128, 128)} times its size and averaged); pixels that stay in view; 95 % "
        "intervals over clips; 25 frames a second, so 2 frames are the step of 0.08 s that `rgb_flow` takes. Milliseconds are CPU time of one field, without decoding.",
        "",
        "| data | method | EPE | EPE on objects | Fl | ms |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "The toy world again, two frames ahead, DIS on pictures larger than the answer, whose blocks are averaged. `mmssl.data.flow` takes twice the size below 256 pixels: the next doubling costs four times as much and gives less.",
        "",
        "| answer, px | pictures, px | EPE | EPE on objects | ms |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in sizes),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
