"""Held-out figures of objectives that are judged row by row: order, speed, colour, words. Each with a 95 % interval over sources.

Cuts are drawn as in training, from addresses of their own, and nothing is augmented. A source gives several cuts, which count as one
independent unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.data.loader import Loader, default_workers
from mmssl.data.stream import Stream
from mmssl.downstream.cuts import accepted
from mmssl.downstream.galleries import both_ways
from mmssl.downstream.metrics.intervals import bootstrap, proportion
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Judged, Judges, Retrieves
from mmssl.rng import Purpose, seed_for
from mmssl.types import InputError, Source, Views

FILES = 16  # sources in a batch
JUDGING = 2000  # number of the stream, so that its addresses are its own
FEWEST = 300  # cuts in all; fewer sources give several each, at most `MOST` of each
MOST = 10


def judge(
    objectives: Mapping[str, Judges],
    views: Mapping[str, Views],
    encoders: Mapping[str, Encoder],
    held_out: Sequence[Source],
    *,
    seed: int,
    clips: int = 300,
    device: str = "cpu",
    workers: int | None = None,
    on_source: Callable[[int], None] = lambda _: None,
    on_plan: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Judge objectives that share a stream on held-out sources -> name -> figures, plain values ready for JSON.

    Args:
        objectives: name -> objective in eval mode, on `device` as the encoders are.
        views: name -> its views.
        encoders: by role.
        held_out: sources never trained on.
        seed: of the run; the same seed gives the same cuts and intervals.
        clips: sources used, at most.
        device: where the model is.
        workers: processes that decode; None: one for each core.
        on_source: told after each batch how many sources it held; `on_plan` is told before how many there will be.

    Raises:
        InputError: no held-out source can be cut.
    """
    chosen = accepted(held_out, list(dict.fromkeys(views.values())), clips, seed=seed, name="judged")
    if not chosen:
        raise InputError(f"none of {len(held_out)} held-out sources can be cut for {', '.join(views)}; hold out others")
    files = min(FILES, len(chosen))
    takes = min(MOST, max(1, -(-FEWEST // len(chosen))))
    stream = Stream(chosen, views, seed=seed, index=JUDGING, batch=files * takes, views_per_open=takes, ordered=True)
    loader = Loader([stream], workers=default_workers() if workers is None else workers, max_replaced=1.0)
    on_plan(len(chosen))
    rows = {name: _Rows() for name in objectives}
    failed: Counter[str] = Counter()
    encoders = dict(encoders)
    try:
        for number, step in enumerate(loader.steps(0, -(-len(chosen) // files))):
            failed.update(step.replaced)
            fresh = min(files, len(chosen) - number * files) * takes  # the last batch goes on with the first sources again
            with torch.inference_mode():
                torch.manual_seed(seed_for(seed, Purpose.EVALUATE, number))
                bank = EncoderBank(encoders)
                for name, objective in objectives.items():
                    batch = {key: value.to(device) for key, value in step.micro[0][name].items()}
                    rows[name].add(objective.judge(batch, bank), batch["source"], fresh)
                    if isinstance(objective, Retrieves):
                        rows[name].add_joint(objective.joint(batch, bank), fresh)
            on_source(fresh // takes)
    finally:
        loader.close()
    return {name: found.figures(takes, failed, seed=seed) for name, found in rows.items()}


class _Rows:
    """Outcomes as they come in, and the sources that they belong to."""

    def __init__(self) -> None:
        self.values: dict[str, list[NDArray[np.float64]]] = {}
        self.chances: dict[str, list[tuple[float, int]]] = {}  # one of each batch, and its rows: it may depend on what they hold
        self.sources: list[NDArray[np.int64]] = []
        self.joint: dict[str, list[NDArray[np.float32]]] = {}

    def add(self, judged: Mapping[str, Judged], source: torch.Tensor, fresh: int) -> None:
        """Keep the first `fresh` rows of a batch."""
        self.sources.append(source[:fresh].cpu().numpy())
        for name, (values, chance) in judged.items():
            each = values[:fresh].double().flatten(1).mean(1) if values.ndim > 1 else values[:fresh].double()
            self.values.setdefault(name, []).append(each.cpu().numpy())
            if chance is not None:
                self.chances.setdefault(name, []).append((chance, fresh))

    def add_joint(self, joint: Mapping[str, torch.Tensor], fresh: int) -> None:
        """Keep the embeddings of the first `fresh` rows of a batch."""
        for role, values in joint.items():
            self.joint.setdefault(role, []).append(values[:fresh].float().cpu().numpy())

    def figures(self, takes: int, failed: Counter[str], *, seed: int) -> dict[str, Any]:
        """The mean over sources of each question, with its interval and what chance gives; retrieval among the sources."""
        sources = np.concatenate(self.sources)
        judged: dict[str, dict[str, float | int]] = {}
        for name, parts in self.values.items():
            by_source = _means(np.concatenate(parts), sources)
            fraction = bool(((by_source >= 0.0) & (by_source <= 1.0)).all())
            value, low, high, n = proportion(by_source) if fraction else bootstrap(by_source)
            judged[name] = {"value": value, "low": low, "high": high, "n": n}
            if name in self.chances:
                chances, rows = zip(*self.chances[name], strict=True)
                judged[name]["chance"] = float(np.average(chances, weights=rows))
        found = {"sources": len(np.unique(sources)), "cuts_of_each": takes, "failed": dict(failed), "judged": judged}
        return found | self._retrieval(sources, seed)

    def _retrieval(self, sources: NDArray[np.int64], seed: int) -> dict[str, Any]:
        if not self.joint or len(np.unique(sources)) < 2:
            return {}
        (first, rows), (second, columns) = ((role, np.concatenate(parts)) for role, parts in self.joint.items())
        scores = [rows[take] @ columns[take].T for take in _takes(sources)]
        return {"retrieval": both_ways(scores, first, second, seed=seed)}


def _takes(sources: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers of the first cut of every source, of the second, and so on, as far as all sources have one."""
    by_source = [np.flatnonzero(sources == source) for source in np.unique(sources)]
    return list(np.stack([places[: min(map(len, by_source))] for places in by_source], axis=1))


def _means(values: NDArray[np.float64], sources: NDArray[np.int64]) -> NDArray[np.float64]:
    _, place = np.unique(sources, return_inverse=True)
    return np.bincount(place, values) / np.bincount(place)
