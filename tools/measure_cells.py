"""What search loses by keeping a few cells of each picture, or only their mean, instead of the objective's own score: retrieval among held-out clips.

For runs whose objective scores a picture by its best cell (`av_nce` with pooling "max", `avenet` with form "avol"). Each held-out clip gives one cut;
its sound is looked for among the pictures and its picture among the sounds, by the objective's own score, by pooled embeddings, and by the best of
K cells, chosen as `mmssl search index` chooses them or at random.

Example: python tools/measure_cells.py runs/first --page docs/results/search-cells.md
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pages import figure, head

from mmssl.downstream.cuts import accepted, cut_sources
from mmssl.downstream.galleries import both_ways
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.spaces import CELLS, spread_cells
from mmssl.files import write_aside
from mmssl.objectives.base import EmbedsCells
from mmssl.rng import Purpose, rng_for
from mmssl.run import load_run
from mmssl.types import InputError
from mmssl.usage import pairings_of, parts_of

COUNTS = (1, 2, 4, 8, 16, 32)
Scores = NDArray[np.float32]


def ways(pairing: Pairing, video: Any, audio: Any) -> Iterator[tuple[str, Scores]]:
    """Name of a way to score, and its scores (N pictures, N sounds)."""
    assert isinstance(pairing.objective, EmbedsCells)
    sounds = pairing.embed(pairing.shape.audio, audio)
    yield "the objective's own score", pairing.scores(video, audio)
    yield "pooled embeddings", pairing.embed(pairing.shape.video, video) @ sounds.T
    with torch.inference_mode():
        grid = pairing.objective.embed_cells(video)
    if grid is None:
        raise InputError(f"objective {pairing.name} scores pooled pictures; there are no cells to choose among")
    cells = grid.flatten(1, 3).float()
    rng = rng_for(0, Purpose.EVALUATE, "cells")
    drawn = torch.from_numpy(np.stack([rng.choice(cells.shape[1], CELLS, replace=False) for _ in range(len(cells))]))
    yield f"{CELLS} cells at random", best(cells[torch.arange(len(cells))[:, None], drawn], sounds)
    for count in COUNTS:
        yield f"{count} cell{'s' * (count > 1)}", best(spread_cells(cells, count)[0], sounds)


def best(cells_NKD: torch.Tensor, sounds_MD: Scores) -> Scores:
    """The best cell's cosine with each sound, (N, M)."""
    return np.stack([(picture @ sounds_MD.T).max(axis=0) for picture in cells_NKD.numpy()])


def measure(path: Path, clips: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the table: run, objective and way; figures both ways."""
    run = load_run(path)
    parts = parts_of(run)
    for pairing in pairings_of(run):
        if not isinstance(pairing.objective, EmbedsCells):
            continue
        test = accepted(parts[pairing.name].held_out, [pairing.views], clips, seed=run.config.seed, name="held out")
        cuts = cut_sources(test, [pairing.views], seed=run.config.seed)[0]
        video, audio = (pairing.encode(role, cuts.tensors[role]) for role in (pairing.shape.video, pairing.shape.audio))
        for name, scores in ways(pairing, video, audio):
            yield f"{path.name} | {pairing.name} | {name}", both_ways([scores], "video", "audio", seed=run.config.seed)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--clips", type=int, default=300, help="held-out clips used, at most")
    parser.add_argument("--page", type=Path, required=True, help="Markdown file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    shown = [str(Path("runs") / path.name) if path.is_absolute() else str(path) for path in given.runs]
    command = shlex.join([*shown, *(argument for argument in sys.argv[1 + len(given.runs) :])])
    lines = [
        *head("How many cells of a picture search keeps", f"python tools/measure_cells.py {command}"),
        "Held-out clips, one cut of each; recall among galleries of 100, mean with its 95 % interval over clips (chance: R@1 0.010, R@10 0.100, median rank "
        f"50.5). `mmssl search index` keeps {CELLS} cells, each chosen as unlike those before as can be.",
        "",
        "| run | objective | score by | sound finds picture: R@1 | R@10 | median rank | picture finds sound: R@1 | R@10 | median rank |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in given.runs:
        for name, found in measure(path, given.clips):
            entries = [found[way][key] for way in ("audio_to_video", "video_to_audio") for key in ("R@1", "R@10", "median_rank")]
            lines.append(f"| {name} | {' | '.join(figure(entry) for entry in entries)} |")
            print(lines[-1])
    write_aside(given.page, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
