"""Is it timing that an avts run has learnt? Two questions that the evaluation does not ask, on the run's held-out clips.

1. The own sound against another clip's sound from the same time of the clip: where things happen at similar times in all clips (speech begins after
   half a second), a model could match "how far into the clip" instead of listening.
2. What a correlation without any learning reaches on true against shifted sounds: the motion energy of the views' region with the loudness.

Example: python tools/check_sync.py runs/grid
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mmssl.cuts.pairs import SyncViews, shared_span
from mmssl.cuts.pictures import even_times
from mmssl.data.decode import answer
from mmssl.downstream.cuts import accepted, cut_sources
from mmssl.downstream.metrics.intervals import Estimate, proportion
from mmssl.downstream.pairing import Pairing
from mmssl.run import load_run
from mmssl.types import Frames, InputError, Source, Wave
from mmssl.usage import pairings_of, parts_of

PLACES = 5  # of the window in the clip
TAKES = 8  # pairs of windows of each clip


def same_time(pairing: Pairing, views: SyncViews, sources: list[Source]) -> tuple[Estimate, Estimate]:
    """(own sound beats another's of the same time; recall at 1 among all clips), over sources."""
    assert views.seconds and views.frames and views.fps and views.size and views.rate
    beats, first = [], []
    last = min(shared_span(source).end for source in sources) - views.seconds
    for start in np.linspace(0.0, last, PLACES):
        pictures, sounds = [], []
        for source in sources:
            frames = Frames(even_times(start, views.seconds, views.frames, views.fps), views.size, views.whole(source))
            wave = Wave(float(start), views.seconds, views.rate)
            answers = answer(source, [frames, wave])
            pictures.append(answers[frames])
            sounds.append(answers[wave])
        scores = pairing.scores(pairing.encode("video", torch.stack(pictures)), pairing.encode("audio", torch.stack(sounds)))
        own = np.diagonal(scores)[:, None]
        rivals = ~np.eye(len(scores), dtype=bool)
        beats.append((own > scores)[rivals].reshape(len(scores), -1).mean(axis=1))
        first.append(((own <= scores) & rivals).sum(axis=1) == 0)
    return proportion(np.stack(beats, axis=1)), proportion(np.stack(first, axis=1))


def by_hand(views: SyncViews, sources: list[Source], seed: int) -> Estimate:
    """How often motion energy correlates better with the loudness of the true sound than with that of the shifted one."""
    right = []
    for take in range(TAKES):
        cuts = cut_sources(sources, [views], seed=seed, take=take)[0]
        pictures = cuts.tensors["video"].float().mean(dim=2).numpy()  # (N, T, H, W), grey
        motion = np.abs(np.diff(pictures, axis=1)).mean(axis=(2, 3))
        true, shifted = (_loudness(cuts.tensors[key].numpy(), motion.shape[1]) for key in ("audio", "audio_shifted"))
        right.append([_correlation(m, a) > _correlation(m, b) for m, a, b in zip(motion, true, shifted, strict=True)])
    return proportion(np.array(right, dtype=float).T)


def _loudness(waves: np.ndarray, steps: int) -> np.ndarray:
    usable = waves[:, : waves.shape[1] // steps * steps].reshape(len(waves), steps, -1)
    return np.log(np.sqrt(np.square(usable).mean(axis=2)) + 1e-3)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(1e-12, np.sqrt(np.square(a).sum() * np.square(b).sum())))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = load_run(parser.parse_args().run)
    for pairing in pairings_of(run):
        views = pairing.views
        if not isinstance(views, SyncViews):
            continue
        held = accepted(parts_of(run)[pairing.name].held_out, [views], 300, seed=run.config.seed, name="held out")
        beats, first = same_time(pairing, views, held)
        print(f"{pairing.name}, {len(held)} held-out clips")
        print(f"  own sound above another clip's of the same time   {beats}   chance 0.500")
        print(f"  own sound first among all clips' of the same time {first}   chance {1 / len(held):.3f}")
        print(f"  true above shifted sound, by hand: motion energy with loudness {by_hand(views, held, run.config.seed)}")
        return
    raise InputError(f"{run.path} has no objective with shifted sounds")


if __name__ == "__main__":
    main()
