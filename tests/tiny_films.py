"""Films that are formulas, cut by an objective's own views and drawn without a file: what is planted is exactly known.

A film is a function (times (T,), u (S, S), v (S, S)) -> grey (T, S, S) in 0..1; u and v are places in the picture, 0..1 from left to right and from
top to bottom. It is drawn at the times of the frames that a file of 25 frames a second would show.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.types import Box, Frames, Source, Span

Film = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
FilmMaker = Callable[[np.random.Generator], Film]

FPS = 25.0
STILL: dict[str, Any] = {"frame_augment": FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0)}


def source(
    seconds: float = 3.0, *, start: float = 0.0, fps: float = FPS, motion: tuple[float, ...] = (), name: str = "a"
) -> Source:
    return Source(name, Path(f"{name}.mp4"), fps, 320, 240, Span(start, start + seconds), motion=motion)


def blob(x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray, size: float = 0.12) -> np.ndarray:
    """A soft spot at (x, y) (T,), drawn on the places u, v (S, S)."""
    across, down = u - x[:, None, None], (v - y[:, None, None]) * 0.75  # the picture is 4:3
    return np.exp(-(across**2 + down**2) / (2 * size**2))


def sliding(rng: np.random.Generator) -> Film:
    """A spot that goes from one side to the other in about 3 s, either way."""
    way, y = rng.choice((-1.0, 1.0)), rng.uniform(0.3, 0.7)
    return lambda t, u, v: blob(0.5 + way * 0.23 * (t - 1.5), np.full_like(t, y), u, v)


def frozen(rng: np.random.Generator) -> Film:
    """A spot that stays where it is."""
    x, y = rng.uniform(0.2, 0.8, 2)
    return lambda t, u, v: blob(np.full_like(t, x), np.full_like(t, y), u, v)


def key_frames(rng: np.random.Generator) -> Film:
    """Nothing but what a codec does: brightness falls from key frame to key frame, each 10 frames."""
    first = rng.integers(10)
    return lambda t, u, v: np.ones_like(u) * (0.9 - 0.08 * ((np.round(t * FPS) + first) % 10))[:, None, None]


def drawn(
    objective: Any, rows: int, seed: int, film: FilmMaker, *, seconds: float = 3.0, noise: float = 0.02, fps: float = FPS
) -> dict[str, Tensor]:
    """A batch: each row a film of its own, cut as the objective's views plan it."""
    batch: dict[str, list[Tensor]] = {}
    for row in range(rows):
        rng = np.random.default_rng([seed, row])
        plan = objective.views.plan(source(seconds, fps=fps), rng)
        shown = film(rng)
        for key, request in plan.requests.items():
            assert isinstance(request, Frames) and isinstance(request.size, int)
            batch.setdefault(key, []).append(_draw(shown, request, request.size, rng, noise, fps))
    return {key: torch.stack(values) for key, values in batch.items()} | {"source": torch.arange(rows) + 1000 * seed}


def _draw(film: Film, request: Frames, size: int, rng: np.random.Generator, noise: float, fps: float) -> Tensor:
    box = request.box or Box(0.0, 0.0, 1.0, 1.0)
    middles = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(box.left + box.width * middles, box.top + box.height * middles)
    grey = film(np.floor(np.asarray(request.times) * fps + 1e-6) / fps, u, v)
    picture = grey[:, None] + noise * rng.standard_normal((len(request.times), 3, size, size))
    return torch.from_numpy((picture.clip(0, 1) * 255).astype(np.uint8))


def naive_vectors(objective: Any, encoder: Any, clips: list[Tensor]) -> list[Tensor]:
    """What `ClipSummary` makes of each clip (T, 3, H, W), encoded by itself: plain loops over the equal parts of the grid."""
    summary, found = objective.summary, []
    for clip in clips:
        grid = encoder(clip[None]).grid[0]
        parts = []
        for time in np.array_split(np.arange(grid.shape[0]), summary.moments):
            for tall in np.array_split(np.arange(grid.shape[1]), summary.cells):
                for wide in np.array_split(np.arange(grid.shape[2]), summary.cells):
                    parts.append(
                        sum(grid[t, h, w] for t in time for h in tall for w in wide) / (len(time) * len(tall) * len(wide))
                    )
        found.append(torch.relu(summary.line.weight @ torch.cat(parts) + summary.line.bias))
    return found


def naive_order(head: Any, vectors: list[Tensor], label: int) -> Tensor:
    """Cross-entropy of one arrangement of parts, by the formula of Lee et al. and Xu et al."""
    pairs = []
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            weight = torch.cat([head.first.weight, head.second.weight], dim=1)
            pairs.append(torch.relu(weight @ torch.cat([vectors[i], vectors[j]]) + head.first.bias))
    logits = head.classify.weight @ torch.cat(pairs) + head.classify.bias
    return -torch.log(torch.exp(logits[label]) / torch.exp(logits).sum())


def double(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pictures as double-precision numbers in 0..1."""
    return {key: value.double() / 255 if value.dtype == torch.uint8 else value for key, value in batch.items()}


def same_loss_and_gradients(objective: Any, encoders: Any, batch: dict[str, Tensor], wanted: Tensor) -> None:
    loss = objective(batch, EncoderBank(encoders)).value
    torch.testing.assert_close(loss, wanted)
    parameters = [*objective.parameters(), *encoders["video"].parameters()]
    for got, want in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(got, want)


def judged(objective: Any, encoders: Any, batch: dict[str, Tensor], question: str = "accuracy") -> float:
    """The mean of what `judge` says, which is the metric in eval mode."""
    objective.eval()
    with torch.no_grad():
        found = objective.judge(batch, EncoderBank(encoders))[question]
        metrics = objective(batch, EncoderBank(encoders)).metrics
    value = found.values.double().mean().item()
    assert abs(value - metrics[question].item()) < 1e-5
    assert found.chance is not None and abs(found.chance - metrics[f"{question}/chance"].item()) < 1e-6
    return value


def circling(rng: np.random.Generator) -> Film:
    """A spot that goes round once in 3.4 s, either way, from anywhere: alone, no picture says anything about its time."""
    way, first = rng.choice((-1.0, 1.0)), rng.uniform(0, 2 * np.pi)
    turn = 2 * np.pi / 3.4

    def film(t: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        angle = first + way * turn * t
        return blob(0.5 + 0.22 * np.cos(angle), 0.5 + 0.3 * np.sin(angle), u, v)

    return film
