"""Sources in, embedded windows out: each stretch of a file decoded once for all modalities, encoded in batches across files.

Decoding runs ahead in threads; memory is bounded by `AHEAD` stretches, whatever the length of a file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmssl.data.decode import answer
from mmssl.downstream.spaces import CELLS, WORDS, Embedded, JointSpace, Kind
from mmssl.types import MediaError, Request, Source, Span

STRETCH = 32  # windows of each modality that are decoded together, and encoded at a time
AHEAD = 2  # stretches that wait decoded, for each decoding thread


@dataclass(frozen=True, slots=True)
class Job:
    """A stretch of one source: windows of each modality that are decoded by one opening of the file."""

    source: Source
    spans: Mapping[Kind, Sequence[Span]]
    texts: Sequence[str]  # of the captions among them
    last: bool  # of its source


@dataclass(slots=True)
class Stretch:
    """What came of a job. `missing` says for each modality why windows of it are not there."""

    job: Job
    found: dict[Kind, Embedded] = field(default_factory=dict)
    missing: dict[Kind, str] = field(default_factory=dict)


def embed_sources(
    space: JointSpace,
    sources: Iterable[Source],
    kinds: Sequence[Kind],
    *,
    stride: float,
    cells: int = CELLS,
    workers: int | None = None,
) -> Iterator[Stretch]:
    """Embed all windows of all sources, in order of the sources, stretch by stretch.

    What cannot be decoded is in `missing` with its reason and the rest of the file is gone on with. A source without anything to embed
    gives one empty stretch.

    Args:
        space: whose cuts and encoders.
        sources: taken one after the other.
        kinds: modalities, of those that the space joins.
        stride: seconds from one window to the next.
        cells: kept of each picture where the objective scores by cells.
        workers: threads that decode; None: one for each core, at most 8.
    """
    jobs = (job for source in sources for job in stretches(space, source, kinds, stride=stride))
    return embed_jobs(space, jobs, cells=cells, workers=workers)


def embed_jobs(space: JointSpace, jobs: Iterable[Job], *, cells: int = CELLS, workers: int | None = None) -> Iterator[Stretch]:
    """`embed_sources` for stretches that are cut already; each comes back, in order."""
    waiting: deque[Future[_Decoded]] = deque()
    batch: list[_Decoded] = []
    count = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=count) as pool:
        for job in jobs:
            waiting.append(pool.submit(_decode, space, job))
            if len(waiting) > count * AHEAD:
                batch.append(_with_text(space, waiting.popleft().result()))
            if batch and _full(batch):
                yield from _encode(space, batch, cells)
                batch = []
        while waiting:
            batch.append(_with_text(space, waiting.popleft().result()))
            if _full(batch) or not waiting:
                yield from _encode(space, batch, cells)
                batch = []


def stretches(space: JointSpace, source: Source, kinds: Sequence[Kind], *, stride: float) -> Iterator[Job]:
    """A source's windows in stretches; the last one is marked, and there is always one."""
    spans: dict[Kind, list[Span]] = {kind: space.spans(kind, source, stride) for kind in kinds}
    texts = [cue.text for cue in space.captions(source)] if "text" in kinds else []
    longest = max((len(windows) for windows in spans.values()), default=0)
    for start in range(0, max(1, longest), STRETCH):
        part: dict[Kind, list[Span]] = {kind: windows[start : start + STRETCH] for kind, windows in spans.items()}
        yield Job(source, part, texts[start : start + STRETCH], start + STRETCH >= longest)


@dataclass(slots=True)
class _Decoded:
    job: Job
    tensors: dict[Kind, Tensor] = field(default_factory=dict)  # (n, ...) of the modalities that could be decoded
    missing: dict[Kind, str] = field(default_factory=dict)


def _decode(space: JointSpace, job: Job) -> _Decoded:
    """Answers to a job by one opening of the file; where that fails, by one for each modality, so that one's damage is not the other's."""
    wanted: list[Kind] = [kind for kind, spans in job.spans.items() if spans and kind != "text"]
    if not wanted:
        return _Decoded(job)
    try:
        return _Decoded(job, _answers(space, job, wanted))
    except MediaError as error:
        if len(wanted) == 1:
            return _Decoded(job, missing={wanted[0]: _reason(job, wanted[0], error)})
    done = _Decoded(job)
    for kind in wanted:
        try:
            done.tensors |= _answers(space, job, [kind])
        except MediaError as error:
            done.missing[kind] = _reason(job, kind, error)
    return done


def _answers(space: JointSpace, job: Job, kinds: Sequence[Kind]) -> dict[Kind, Tensor]:
    requests: dict[Kind, list[Request]] = {
        kind: [space.request(kind, job.source, span) for span in job.spans[kind]] for kind in kinds
    }
    answers = answer(job.source, [request for asked in requests.values() for request in asked])
    return {kind: torch.stack([space.fit(kind, answers[request]) for request in asked]) for kind, asked in requests.items()}


def _with_text(space: JointSpace, done: _Decoded) -> _Decoded:
    """Token ids too. Not made in the threads: a tokenizer serves one of them at a time."""
    if done.job.texts:
        request = space.texts(tuple(done.job.texts))
        done.tensors["text"] = answer(done.job.source, [request])[request]
    return done


def _reason(job: Job, kind: Kind, error: MediaError) -> str:
    return f"{WORDS[kind]} from {job.spans[kind][0].start:.1f} s on: {error}"


def _full(batch: Sequence[_Decoded]) -> bool:
    """Enough windows of one modality for a batch, or enough files that someone waits for the progress bar."""
    kinds = {kind for done in batch for kind in done.tensors}
    return len(batch) >= STRETCH or any(
        sum(len(done.tensors[kind]) for done in batch if kind in done.tensors) >= STRETCH for kind in kinds
    )


def _encode(space: JointSpace, batch: Sequence[_Decoded], cells: int) -> Iterator[Stretch]:
    """Encode the windows of several stretches together, and part them again."""
    out = [Stretch(done.job, missing=dict(done.missing)) for done in batch]
    present: dict[Kind, None] = {kind: None for done in batch for kind in done.tensors}
    for kind in present:
        holders = [number for number, done in enumerate(batch) if kind in done.tensors]
        rows = torch.cat([batch[number].tensors[kind] for number in holders])
        parts = [space.embed(kind, rows[start : start + STRETCH], cells=cells) for start in range(0, len(rows), STRETCH)]
        begin = 0
        whole = _joined(parts)
        for number in holders:
            end = begin + len(batch[number].tensors[kind])
            out[number].found[kind] = Embedded(
                *(None if part is None else part[begin:end] for part in (whole.vectors, whole.cells, whole.places))  # type: ignore[arg-type]  # the parts keep their places
            )
            begin = end
    yield from out


def _joined(parts: Sequence[Embedded]) -> Embedded:
    cells = [part.cells for part in parts if part.cells is not None]
    places = [part.places for part in parts if part.places is not None]
    return Embedded(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate(cells) if cells else None,
        np.concatenate(places) if places else None,
    )
