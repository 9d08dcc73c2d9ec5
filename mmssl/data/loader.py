"""From addresses to batches: which rows a rank takes, worker processes, collation, counting what was replaced.

The loader holds no position either: `steps(start, stop)` gives exactly the batches of those steps.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import BaseContext

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmssl.data.stream import Sample, Stream, Value
from mmssl.types import InputError, MediaError

Micro = dict[str, dict[str, Tensor]]  # objective -> key -> (N, ...)
Address = tuple[int, int, int]  # stream, micro-batch, file
MIN_ROWS_TO_JUDGE = 200  # replaced rows are held against max_replaced only after so many rows


@dataclass(slots=True)
class StepBatch:
    """What one optimizer step consumes."""

    micro: list[Micro]
    replaced: list[str] = field(default_factory=list)  # one reason for each file that could not serve
    wait: float = 0.0  # seconds that the loop stood still for it


class Loader:
    """Batches of all streams, by step.

    One step takes `accumulate` micro-batches from each stream; of each the rank takes the files `rank::world`. Where two objectives of
    a stream share their views, they receive the same tensor objects.

    Args:
        streams: each with its own global batch.
        accumulate: micro-batches for each step.
        rank, world: of this process.
        workers: loader processes; 0 decodes in the caller's own.
        max_replaced: share of rows that may come from replacement files, judged after 200 rows.
        pin: put batches into page-locked memory.

    Raises:
        InputError: a stream's batch cannot be shared equally, or (while iterating) too many rows were replaced.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        max_replaced: float = 0.01,
        pin: bool = False,
    ) -> None:
        for stream in streams:
            if stream.files % world:
                raise InputError(
                    f"stream {stream.index} opens {stream.files} files for each micro-batch, which {world} processes cannot share equally; "
                    f"make batch / views_per_open a multiple of {world}"
                )
        self.streams, self.accumulate, self.rank, self.world = list(streams), accumulate, rank, world
        self.max_replaced = max_replaced
        self.rows_seen = 0
        self.files_replaced = 0
        self._sampler = _Addresses(self)
        self._loader = DataLoader(
            _AllStreams(self.streams),
            batch_sampler=self._sampler,
            collate_fn=_Collate(self.streams),
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=partial(_start_worker, yielding=not pin),
            pin_memory=pin,
        )

    @property
    def rows(self) -> int:
        """Rows (cuts) that this rank receives in one micro-batch, over all streams."""
        return sum(stream.batch for stream in self.streams) // self.world

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """The batches of steps start, start + 1, ..., stop - 1."""
        self._sampler.start, self._sampler.stop = start * self.accumulate, stop * self.accumulate
        source = iter(self._loader)
        for _ in range(start, stop):
            begin = time.perf_counter()
            parts = [_next(source) for _ in range(self.accumulate)]
            wait = time.perf_counter() - begin
            replaced = [reason for part in parts for reason in part.replaced]
            self._count(replaced)
            yield StepBatch([part.micro for part in parts], replaced, wait)

    def close(self) -> None:
        """End the worker processes now rather than when the loader is forgotten."""
        self._loader._iterator = None

    def _count(self, replaced: list[str]) -> None:
        self.rows_seen += self.rows * self.accumulate
        self.files_replaced += len(replaced)
        share = self.files_replaced / max(1, self.rows_seen)
        if self.rows_seen >= MIN_ROWS_TO_JUDGE and share > self.max_replaced:
            raise InputError(
                f"{self.files_replaced} files had to be replaced in {self.rows_seen} rows ({share:.1%}), the limit is max_replaced = "
                f"{self.max_replaced:.1%}; the last: {replaced[-1] if replaced else 'see the log'}. "
                f"Index the folder again, remove the broken files, or raise max_replaced"
            )


@dataclass(slots=True)
class _Part:
    micro: Micro
    replaced: list[str]

    def pin_memory(self) -> _Part:
        """Called by the DataLoader when pinning: keeps shared tensors shared."""
        done: dict[int, Tensor] = {}
        pinned: Micro = {}
        for name, values in self.micro.items():
            for value in values.values():
                if id(value) not in done:
                    done[id(value)] = value.pin_memory()
            pinned[name] = {key: done[id(value)] for key, value in values.items()}
        return _Part(pinned, self.replaced)


class _AllStreams(Dataset[tuple[int, Sample]]):
    def __init__(self, streams: list[Stream]) -> None:
        self.streams = streams

    def __getitem__(self, address: Address) -> tuple[int, Sample]:
        stream, micro, slot = address
        return stream, self.streams[stream][micro, slot]


class _Addresses:
    """A batch sampler over [start, stop) micro-batches, set anew for each call of `steps`."""

    def __init__(self, loader: Loader) -> None:
        self.loader, self.start, self.stop = loader, 0, 0

    def __iter__(self) -> Iterator[list[Address]]:
        for micro in range(self.start, self.stop):
            yield [
                (number, micro, slot)
                for number, stream in enumerate(self.loader.streams)
                for slot in range(self.loader.rank, stream.files, self.loader.world)
            ]

    def __len__(self) -> int:
        return self.stop - self.start


class _Collate:
    """Stack the samples of each stream; objectives with equal views get the same tensors."""

    def __init__(self, streams: list[Stream]) -> None:
        self.cut_of = [stream.cut_of for stream in streams]

    def __call__(self, items: list[tuple[int, Sample]]) -> _Part:
        micro: Micro = {}
        replaced: list[str] = []
        for number, cut_of in enumerate(self.cut_of):
            samples = [sample for stream, sample in items if stream == number]
            replaced.extend(reason for sample in samples for reason in sample.replaced)
            sources = torch.tensor([sample.source for sample in samples for _ in sample.cuts], dtype=torch.int64)
            stacked: dict[int, dict[str, Tensor]] = {}
            for name, cut in cut_of.items():
                if cut not in stacked:
                    rows = [view[cut] for sample in samples for view in sample.cuts]
                    stacked[cut] = {key: _stack([row[key] for row in rows]) for key in rows[0]}
                    stacked[cut]["source"] = sources
                micro[name] = stacked[cut]
        return _Part(micro, replaced)


def _stack(values: Sequence[Value]) -> Tensor:
    if isinstance(values[0], Tensor):
        return torch.stack([value for value in values if isinstance(value, Tensor)])
    kind = torch.int64 if all(isinstance(value, int) for value in values) else torch.float64
    return torch.from_numpy(np.asarray(values)).to(kind)


def _next(source: Iterator[_Part]) -> _Part:
    try:
        return next(source)
    except MediaError as error:
        reason = str(error).strip().splitlines()[-1]  # a worker's error comes with its traceback in the text
        raise InputError(f"the data gave no usable row: {reason.rpartition('MediaError: ')[2]}") from error


def _context() -> BaseContext:
    # Forked children of a process that has decoded or computed can hang (threads do not survive a fork); the fork server imports
    # once, does neither, and makes workers quickly.
    if sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["mmssl.data.loader"])
        return context
    return multiprocessing.get_context("spawn")


def _start_worker(_: int, *, yielding: bool) -> None:
    # Ctrl-C reaches the whole process group; the trainer finishes its step and saves, and needs the workers until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where the model computes on these cores too, a worker that preempts one of its threads stops all of them: measured on two
    # cores, 85 to 100 rows a second without this, 107 with it.
    if yielding and hasattr(os, "nice"):
        os.nice(10)
    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)


def default_workers(share: int = 1) -> int:
    """One loader process for each core of this machine that `share` ranks divide among themselves."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, cores // max(1, share))
