"""Cuts of held-out sources for evaluation: the objective's own, at addressed places, one open for each file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmssl.data.decode import answer
from mmssl.rng import Purpose, rng_for
from mmssl.types import Box, Frames, MediaError, Plan, Request, Source, Views, Wave

MOTION_STEP = 0.08  # seconds between the two pictures of which the motion baseline takes the difference


@dataclass(frozen=True, slots=True)
class Cuts:
    """N cuts of N different sources, in order of `sources`."""

    sources: tuple[Source, ...]
    plans: tuple[Plan, ...]
    tensors: dict[str, Tensor]  # request key -> (N, ...)
    after: Tensor | None  # uint8 (N, T, 3, H, W): the pictures `MOTION_STEP` later
    failed: dict[str, str]  # source id -> why it could not be cut

    def __len__(self) -> int:
        return len(self.sources)


def accepted(sources: Sequence[Source], views: Sequence[Views], limit: int, *, seed: int, name: str) -> list[Source]:
    """At most `limit` of the sources that all views accept, drawn at random by address; in the drawn order."""
    order = rng_for(seed, Purpose.EVALUATE, "sources", name).permutation(len(sources))
    chosen: list[Source] = []
    for place in order:
        if len(chosen) == limit:
            break
        source = sources[int(place)]
        if all(view.reject(source) is None for view in views):
            chosen.append(source)
    return chosen


def cut_sources(
    sources: Sequence[Source],
    views: Sequence[Views],
    *,
    seed: int,
    take: int = 0,
    motion: bool = False,
    on_source: Callable[[], None] = lambda: None,
) -> list[Cuts]:
    """One cut of each source for each of the views; each file is opened once for all of them.

    Nothing is cropped at random: evaluation sees the whole picture (its largest square), as is usual, so that a source in view is in the
    cut; or all of the region that the views name. Times are drawn as in training, from an address of their own.

    Args:
        sources: accepted by all views.
        views: distinct.
        seed: of the run.
        take: number of the draw, for several cuts of the same sources.
        motion: ask for the pictures a moment later too.
        on_source: called after each source.

    Returns:
        one `Cuts` for each of the views. A source that cannot be decoded is in none of them, but in `failed` of all.
    """

    def cut(source: Source) -> tuple[list[Plan], dict[Request, Tensor]] | str:
        plans = [
            _uncropped(view.plan(source, rng_for(seed, Purpose.EVALUATE, "cut", take, source.id, repr(view))), view.whole(source))
            for view in views
        ]
        requests: dict[Request, None] = {}
        for plan in plans:
            requests.update(dict.fromkeys(plan.requests.values()))
            if motion:
                requests.update(dict.fromkeys(_later(r, source) for r in plan.requests.values() if isinstance(r, Frames)))
        try:
            return plans, answer(source, list(requests))
        except MediaError as error:
            return str(error)
        finally:
            on_source()

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # libav decodes without Python's lock
        answers = list(pool.map(cut, sources))
    failed = {source.id: got for source, got in zip(sources, answers, strict=True) if isinstance(got, str)}
    good = [(source, got) for source, got in zip(sources, answers, strict=True) if not isinstance(got, str)]
    return [_collate(good, number, motion, failed) for number in range(len(views))]


def _uncropped(plan: Plan, box: Box | None) -> Plan:
    return Plan({key: replace(r, box=box) if isinstance(r, Frames) else r for key, r in plan.requests.items()}, plan.labels)


def _later(request: Frames, source: Source) -> Frames:
    # Near the end of the picture the difference is taken backwards.
    end = source.video.end if source.video else 0.0
    step = MOTION_STEP if max(request.times) + MOTION_STEP < end else -MOTION_STEP
    return replace(request, times=tuple(time + step for time in request.times))


def _collate(
    good: Sequence[tuple[Source, tuple[list[Plan], dict[Request, Tensor]]]], number: int, motion: bool, failed: dict[str, str]
) -> Cuts:
    tensors: dict[str, list[Tensor]] = {}
    after: list[Tensor] = []
    for source, (plans, answers) in good:
        for key, request in plans[number].requests.items():
            if isinstance(request, Wave | Frames):
                tensors.setdefault(key, []).append(answers[request])
            if motion and isinstance(request, Frames):
                after.append(answers[_later(request, source)])
    return Cuts(
        tuple(source for source, _ in good),
        tuple(plans[number] for _, (plans, _) in good),
        {key: torch.stack(rows) for key, rows in tensors.items()},
        torch.stack(after) if after else None,
        failed,
    )
