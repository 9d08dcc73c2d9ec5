"""A stream: by address (micro-batch, row) it cuts one file for all of its objectives, opening the file once.

No hidden state: what stands at an address depends on the seed and the address alone, so rows are the same whatever the number of
workers and ranks, and a resumed run needs no saved data position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from mmssl.data.decode import answer
from mmssl.rng import Purpose, rng_for
from mmssl.types import Backend, InputError, MediaError, Plan, Request, Source, Views

Value = Tensor | int | float
MAX_ATTEMPTS = 20  # files that may fail one after the other before a row gives up


@dataclass(slots=True)
class Sample:
    """What one opened file gives: for each view of it, for each distinct `Views` of the stream, the answers and labels."""

    cuts: list[list[dict[str, Value]]]  # [view][distinct views] -> key -> value
    source: int  # position in the stream's sources
    replaced: tuple[str, ...] = ()  # why files before this one could not serve the row


class Stream(Dataset[Sample]):
    """The rows of one corpus for one group of objectives.

    Args:
        sources: what the index knows; only those that every objective's views accept are used.
        views: objective name -> its views. Objectives with equal views share their cuts.
        seed: of the run.
        index: which stream of the run this is (part of every address).
        batch: rows (cuts) in a global micro-batch.
        views_per_open: cuts taken from a file each time that it is opened; must divide `batch`.
        backend: decoder.
        ordered: take the sources in their own order, not in a drawn one (evaluations, contact sheets).

    Raises:
        InputError: no source is usable, fewer than `min_usable` of them are, or `batch` does not divide.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        views: Mapping[str, Views],
        *,
        seed: int,
        index: int = 0,
        batch: int,
        views_per_open: int = 1,
        backend: Backend = "pyav",
        ordered: bool = False,
        min_usable: float = 0.0,
    ) -> None:
        if not views:
            raise InputError(f"stream {index} has no objectives; give it at least one under `objectives:`")
        if views_per_open < 1 or batch < 1 or batch % views_per_open:
            raise InputError(
                f"stream {index}: batch {batch} cannot be filled by files opened for {views_per_open} cuts each; "
                f"make batch a multiple of views_per_open"
            )
        self.sources = sources
        self.seed, self.index, self.batch, self.ordered = seed, index, batch, ordered
        self.backend: Backend = backend
        self.views_per_open = views_per_open
        self.files = batch // views_per_open  # opened for a global micro-batch
        self.distinct = list(dict.fromkeys(views.values()))
        self.cut_of = {name: self.distinct.index(view) for name, view in views.items()}
        self.rejected, self._usable = _eligible(sources, views)
        self._check_usable(min_usable)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def usable(self) -> int:
        """How many sources every objective of the stream accepts."""
        return len(self._usable)

    def __len__(self) -> int:
        """Files in one pass over the corpus."""
        return self.usable

    def __getitem__(self, address: tuple[int, int]) -> Sample:
        """The sample at (micro-batch, file of the global micro-batch).

        A file that cannot be decoded is replaced by the next in the epoch's order, the same one every time.

        Raises:
            MediaError: `MAX_ATTEMPTS` files in a row could not be decoded.
        """
        micro, slot = address
        place = micro * self.files + slot
        failures: list[str] = []
        for attempt in range(min(MAX_ATTEMPTS, max(2, self.usable))):
            which = self._at(place, attempt)
            source = self.sources[which]
            try:
                cuts = self._cut(source, place, attempt)
            except MediaError as error:
                failures.append(str(error))
                continue
            return Sample(cuts, which, tuple(failures))
        raise MediaError(f"{len(failures)} files in a row could not be decoded; the last: {failures[-1]}")

    def plans(self, source: Source, place: int, attempt: int = 0) -> list[list[Plan]]:
        """The plans [view][distinct views] at a place of the run; pure, opens nothing."""
        return [
            [
                views.plan(source, rng_for(self.seed, Purpose.CUT, self.index, place, number, attempt, repr(views)))
                for views in self.distinct
            ]
            for number in range(self.views_per_open)
        ]

    def _cut(self, source: Source, place: int, attempt: int) -> list[list[dict[str, Value]]]:
        plans = self.plans(source, place, attempt)
        requests: dict[Request, None] = {}
        for row in plans:
            for plan in row:
                requests.update(dict.fromkeys(plan.requests.values()))
        answers = answer(source, list(requests), backend=self.backend)
        return [
            [{**{key: answers[request] for key, request in plan.requests.items()}, **plan.labels} for plan in row]
            for row in plans
        ]

    def _at(self, place: int, attempt: int) -> int:
        epoch, position = divmod(place, self.usable)
        return int(self._order(epoch)[(position + attempt) % self.usable])

    def _draw_order(self, epoch: int) -> np.ndarray:
        if self.ordered:
            return self._usable
        order = rng_for(self.seed, Purpose.ORDER, self.index, epoch).permutation(self.usable)
        return self._usable[order]

    def _check_usable(self, min_usable: float) -> None:
        total = len(self.sources)
        if total and self.usable and self.usable >= min_usable * total:
            return
        why = "; ".join(
            f"{name}: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            for name, reasons in self.rejected.items()
            if reasons
        )
        lower = f", or lower min_usable, a share of the sources, from {min_usable:g}" if self.usable else ""
        if not total:
            raise InputError(f"stream {self.index} has no sources at all; check that its data holds media files")
        raise InputError(
            f"stream {self.index}: {self.usable} of {total} sources are usable, the limit is "
            f"{max(1, int(np.ceil(min_usable * total)))} ({why or 'nothing rejected'}); "
            f"choose other data or views{lower}"
        )

    def __getstate__(self) -> dict[str, object]:
        state = self.__dict__.copy()
        del state["_order"]  # a cache, made again in each worker
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._draw_order)


def _eligible(sources: Sequence[Source], views: Mapping[str, Views]) -> tuple[dict[str, Counter[str]], np.ndarray]:
    rejected: dict[str, Counter[str]] = {name: Counter() for name in views}
    distinct = list(dict.fromkeys(views.values()))
    usable: list[int] = []
    for position, source in enumerate(sources):
        reasons = {view: view.reject(source) for view in distinct}
        for name, view in views.items():
            reason = reasons[view]
            if reason is not None:
                rejected[name][reason] += 1
        if all(reason is None for reason in reasons.values()):
            usable.append(position)
    return rejected, np.asarray(usable, dtype=np.int64)
