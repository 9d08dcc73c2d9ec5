"""What `mmssl prepare` saves: rows a second out of the source and out of what it was made into, and bytes: `python tools/bench_prepare.py CLIPS SMALL`.

SMALL is made by `mmssl prepare CLIPS SMALL` where it is not there yet. The same cuts (a clip of pictures and a second of sound at random moments) are answered
from both, in turns and in shuffled order, in one thread; CPU time decides. Also told: how far the answers differ, because the same times have to mean
the same pictures.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from mmssl.data.decode import answer
from mmssl.data.index import open_corpus
from mmssl.data.prepare import MANIFEST, Form, prepare
from mmssl.rng import rng_for
from mmssl.types import Frames, InputError, MediaError, Request, Source, Wave


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("small", type=Path)
    parser.add_argument("--short-side", type=int, default=128)
    parser.add_argument("--size", type=int, default=112, help="side of the pictures asked for")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--fps", type=float, default=12.5)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    before = {film.id: film for film in open_corpus(arguments.clips)}
    made = prepare(arguments.clips, arguments.small, form=Form(short_side=arguments.short_side))
    after = {film.id: film for film in open_corpus(arguments.small / MANIFEST)}
    seconds = (arguments.frames + 1) / arguments.fps
    films = [name for name in after if long_enough(before[name], seconds) and long_enough(after[name], seconds)]
    if not films:
        raise InputError(f"no film of {arguments.clips} has {max(seconds, 1.0):.2f} s of picture")
    cuts = [draw(before[films[row % len(films)]], row, arguments, seconds) for row in range(arguments.rows)]
    spent: dict[str, list[float]] = {"source": [], "prepared": []}
    for repetition in range(arguments.repetitions):
        order = [("source", before), ("prepared", after)]
        for name, corpus in order if rng_for(repetition).random() < 0.5 else order[::-1]:
            begin = time.process_time()
            for film, requests in cuts:
                answer(corpus[film], requests)
            spent[name].append(time.process_time() - begin)
    rates = {name: arguments.rows / float(np.median(times)) for name, times in spent.items()}
    told = {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "rows_per_cpu_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_faster": round(rates["prepared"] / rates["source"], 2),
        "spread": {name: [round(min(times), 2), round(max(times), 2)] for name, times in spent.items()},
        "megabytes": [round(made.bytes_before / 1e6, 1), round(made.bytes_after / 1e6, 1)],
        "films": len(films),
        "rejected": dict(made.rejected),
        **differences(cuts, before, after),
    }
    print(json.dumps(told, indent=2))


def long_enough(film: Source, seconds: float) -> bool:
    return film.video is not None and film.video.seconds > max(seconds, 1.0) + 0.1


def draw(film: Source, row: int, arguments: argparse.Namespace, seconds: float) -> tuple[str, list[Request]]:
    """The same for both corpora, in seconds: pictures, and the sound around them where there is some."""
    assert film.video is not None
    start = float(rng_for(0, row).uniform(film.video.start, film.video.end - max(seconds, 1.0) - 0.05))
    times = tuple(start + k / arguments.fps for k in range(arguments.frames))
    requests: list[Request] = [Frames(times, arguments.size)]
    if film.audio is not None and film.audio.start <= start and start + 1.0 < film.audio.end - 0.1:
        requests.append(Wave(start, 1.0, 16_000))
    return film.id, requests


def differences(cuts: list[tuple[str, list[Request]]], before: dict[str, Source], after: dict[str, Source]) -> dict[str, float]:
    """Mean absolute difference of pictures (levels of 255), and the share of cuts that only one of the two could answer."""
    apart: list[float] = []
    failed = 0
    for film, requests in cuts:
        try:
            one, other = (answer(corpus[film], requests)[requests[0]].float() for corpus in (before, after))
        except MediaError:
            failed += 1
            continue
        apart.append(float((one - other).abs().mean()))
    return {"picture_difference": round(float(np.mean(apart)), 2), "failed": failed / len(cuts)}


if __name__ == "__main__":
    main()
