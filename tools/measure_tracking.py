"""Follow first-frame masks through videos by what encoders have learnt: J, F and J&F, beside what costs nothing.

Data are a folder laid out as DAVIS or a toy world (`--clips` of it). Baselines: the mask stays (identity), goes with the optical flow, is propagated by
the features of the same encoder before training. Resumable: figures are kept in OUT/figures.json, and what is there is not measured again.

Example: python tools/measure_tracking.py runs/crw --root ../shared/media/tracking --page docs/results/tracking.md
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.bench.result import machine
from mmssl.config import load_config
from mmssl.downstream.cells import Mask
from mmssl.downstream.follow import Picture, sight_of, track
from mmssl.downstream.masks import mask_film
from mmssl.downstream.metrics.segmentation import Scores, score_sequence, summarize
from mmssl.downstream.propagate import Propagation
from mmssl.downstream.tracking_baselines import drift, stay
from mmssl.downstream.tracking_data import MASKS, MaskedVideo, davis_sequences, toy_sequences
from mmssl.encoders.base import Encoder
from mmssl.files import write_aside
from mmssl.objectives.base import Objective
from mmssl.run import load_run

Tracker = Callable[[Iterator[Picture], Mask], Iterator[Mask]]


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    key: str  # what its figures depend on
    start: Callable[[], Tracker]  # loads what it needs


def methods(given: argparse.Namespace) -> list[Method]:
    """The baselines, then each run beside its own untrained encoder."""
    settings = Propagation(top_k=given.top_k, radius=given.radius, context=given.context, temperature=given.temperature)
    shape = f"{asdict(settings)} short side {given.short_side}"
    found = [Method("identity", "identity", lambda: stay), Method("optical flow (DIS)", "flow", lambda: drift)]
    for config in given.untrained:
        found.append(
            Method(
                f"untrained, {config}", f"untrained {config} {shape}", lambda config=config: _untrained(config, given, settings)
            )
        )
    for run in given.runs:
        config = run / "config.yaml"
        found.append(
            Method(
                f"untrained, {run.name}", f"untrained {run} {shape}", lambda config=config: _untrained(config, given, settings)
            )
        )
        step = load_run(run).step
        found.append(Method(f"{run.name}, step {step}", f"{run} {step} {shape}", lambda run=run: _trained(run, given, settings)))
    return found


def _untrained(config: Path, given: argparse.Namespace, settings: Propagation) -> Tracker:
    torch.manual_seed(given.seed)
    loaded = load_config(config)
    encoders = loaded.build_encoders()
    return _tracker(encoders, loaded.build_objectives(encoders), given, settings)


def _trained(run: Path, given: argparse.Namespace, settings: Propagation) -> Tracker:
    loaded = load_run(run, device=given.device)
    return _tracker(loaded.encoders, loaded.objectives, given, settings)


def _tracker(
    encoders: dict[str, Encoder], objectives: dict[str, Objective], given: argparse.Namespace, settings: Propagation
) -> Tracker:
    sight = sight_of(encoders, objectives, given.objective, device=given.device)
    return lambda frames, mask: track(
        frames, mask, sight.encoder, settings=settings, prepare=sight.prepare, short_side=given.short_side
    )


def measure(videos: list[MaskedVideo], method: Method, kept: dict[str, Any], given: argparse.Namespace) -> dict[str, Scores]:
    """Scores of one method by sequence; what `kept` holds is not measured again, what is measured is put there."""
    found: dict[str, Scores] = {}
    tracker: Tracker | None = None
    for video in videos:
        key = f"{method.key} | {given.root} {video.name} {video.masks.shape}"
        if key not in kept:
            tracker = tracker or method.start()
            masks = np.stack(list(tracker(video.play(), video.masks[0])))
            scores = score_sequence(masks, video.masks)
            kept[key] = {"objects": scores.objects, "J": scores.region.tolist(), "F": scores.boundary.tolist()}
            write_aside(given.out / "figures.json", json.dumps(kept).encode())
            if given.films:
                _film(given.out / "films", method, video, masks)
        entry = kept[key]
        found[video.name] = Scores(tuple(entry["objects"]), np.array(entry["J"]), np.array(entry["F"]))
        print(f"{method.name}: {video.name} J&F {summarize([found[video.name]]).jf:.3f}", file=sys.stderr)
    return found


def _film(folder: Path, method: Method, video: MaskedVideo, masks: NDArray[np.uint8]) -> None:
    words = "".join(letter if letter.isalnum() else "-" for letter in method.name)
    mask_film(folder / f"{video.name}-{words}.mp4", video, masks)


def page(rows: dict[str, dict[str, Scores]], videos: list[MaskedVideo], given: argparse.Namespace, command: str) -> str:
    """The figures as Markdown."""
    here = machine()
    few = len(videos) <= 8
    lines = [
        "# Following a mask",
        "",
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {here['processor']}, {here['cores']} cores, torch {here['torch']}, device {given.device}. Command:",
        "",
        "```bash",
        command,
        "```",
        "",
        f"{len(videos)} sequences, {summarize(next(iter(rows.values()))).objects} objects. The first frame's mask is given; first and last frame do not count. J: region similarity, F: boundary accuracy, by the definitions of DAVIS",
        f"(means over objects, their recall and decay). Propagation: top {given.top_k}, radius {given.radius:g} cells, first frame and {given.context} latest, temperature {given.temperature:g}, frames "
        + (f"with a short side of {given.short_side} pixels" if given.short_side else "in full size")
        + ", the encoder's own features.",
        "So few sequences are no benchmark: figures here tell methods apart on these clips, not how good they are elsewhere."
        if few
        else "",
        "",
        f"| method | J&F | J mean | J recall | J decay | F mean | F recall | F decay |{' ' + ' | '.join(v.name for v in videos) + ' |' if few else ''}",
        "|---" * (8 + (len(videos) if few else 0)) + "|",
    ]
    for name, scores in rows.items():
        s = summarize(scores)
        cells = [name, *(f"{value:.3f}" for value in (s.jf, s.j_mean, s.j_recall, s.j_decay, s.f_mean, s.f_recall, s.f_decay))]
        if few:
            cells += [f"{summarize([scores[video.name]]).jf:.3f}" for video in videos]
        lines.append(f"| {' | '.join(cells)} |")
    if few:
        lines += ["", "The columns with a sequence's name give its J&F."]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders")
    parser.add_argument("--root", type=Path, required=True, help="folder laid out as DAVIS, or a toy world")
    parser.add_argument("--out", type=Path, default=Path("runs/tracking"), help="folder for figures and films")
    parser.add_argument("--page", type=Path, help="Markdown file to write")
    parser.add_argument("--untrained", type=Path, nargs="+", default=[], help="configs whose untrained encoders are measured")
    parser.add_argument("--objective", help="of a run with several")
    parser.add_argument("--films", action="store_true", help="write a film of the masks for each sequence and method")
    parser.add_argument("--clips", type=int, default=20, help="of a toy world")
    parser.add_argument("--short-side", type=int, help="pixels to which frames are resized; default: as they are")
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--radius", type=float, default=12.0, help="cells")
    parser.add_argument("--context", type=int, default=20, help="latest frames beside the first")
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of untrained encoders")
    return parser.parse_args()


def main() -> None:
    """Measure, and write the page."""
    given = arguments()
    is_davis = (given.root / MASKS).is_dir()
    videos = davis_sequences(given.root) if is_davis else toy_sequences(given.root, clips=given.clips)
    figures = given.out / "figures.json"
    kept: dict[str, Any] = json.loads(figures.read_text()) if figures.is_file() else {}
    rows: dict[str, dict[str, Scores]] = {}
    text = ""
    for method in methods(given):
        rows[method.name] = measure(videos, method, kept, given)
        text = page(rows, videos, given, f"python tools/measure_tracking.py {shlex.join(sys.argv[1:])}")
        write_aside(given.page or given.out / "tracking.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
