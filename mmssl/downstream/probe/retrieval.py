"""Cross-modal retrieval by published protocols: every clip by its caption or its sound among all clips, and back.

A clip is the mean of several windows evenly over it, as MIL-NCE's evaluation has it (Miech et al., CVPR 2020, arXiv:1912.06430; the authors'
code takes 4), compared by cosine. Where the objective scores pictures by their best cell, a clip's picture is a few of its cells and the best
counts. Equal scores are ranked by their average. A protocol has exactly its clips and captions, or there is no figure under its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.data.decode import answer
from mmssl.downstream.galleries import entry_of
from mmssl.downstream.metrics.intervals import bootstrap, proportion
from mmssl.downstream.metrics.retrieval import RECALLS, Placed, chance_of_hit, place
from mmssl.downstream.probe.retrieval_protocols import CLIP, Item, Protocol
from mmssl.downstream.search.embedding import Job, embed_jobs
from mmssl.downstream.search.query import QUERY_CELLS, unit
from mmssl.downstream.spaces import WORDS, Embedded, JointSpace, Kind, spread_cells
from mmssl.types import InputError, Source, Span

WINDOWS = 4  # of a clip
BLOCK = 256  # queries compared with the whole gallery at a time
TEXTS = 64  # texts in a batch
SLACK = 1.0  # seconds that a clip may be shorter than its list says
Summed = Mapping[Kind, tuple[NDArray[np.float32], NDArray[np.float32] | None]]  # of each modality: (D,), and (K, D) of cells


@dataclass(frozen=True, slots=True)
class Side:
    """One modality of a protocol: what is asked by, or looked for. `clip` (N,) says which clip each row belongs to."""

    vectors: NDArray[np.float32]  # (N, D)
    clip: NDArray[np.int64]
    cells: NDArray[np.float32] | None = None  # (N, K, D)


def compared_kinds(space: JointSpace, protocol: Protocol, kinds: tuple[Kind, Kind] | None = None) -> tuple[Kind, Kind]:
    """The two modalities that are compared: `kinds`, or the protocol's.

    Raises:
        InputError: the space does not join them, they are one, or one is text and the protocol has no captions.
    """
    first, second = kinds or protocol.kinds
    if not {first, second} <= set(space.kinds):
        raise InputError(
            f"{'--modality' if kinds else protocol.name} compares {WORDS[first]} and {WORDS[second]}, and objective {space.name} joins "
            f"{space.words()}; take a run that joins what is compared, or name two that this one joins by --modality {','.join(space.kinds)}"
        )
    if first == second:
        raise InputError(f"retrieval of {WORDS[first]} by {WORDS[first]} is no cross-modal retrieval; name two modalities")
    if "text" in (first, second) and not protocol.captions:
        raise InputError(f"{protocol.name} has no captions; it compares {' and '.join(WORDS[kind] for kind in protocol.kinds)}")
    return first, second


def evaluate_retrieval(
    space: JointSpace,
    protocol: Protocol,
    items: Sequence[Item],
    sources: Iterable[Source],
    *,
    kinds: tuple[Kind, Kind] | None = None,
    windows: int = WINDOWS,
    allow_missing: bool = False,
    seed: int = 0,
    on_plan: Callable[[int], None] = lambda _: None,
    on_source: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures of a protocol, both ways, plain values for JSON.

    Args:
        space: which objective, which encoders.
        protocol: says how many clips and captions there have to be.
        items: its clips, as its file lists them.
        sources: the files that there are.
        kinds: modalities to compare instead of the protocol's.
        windows: of each clip.
        allow_missing: go on without clips that are not there or cannot be decoded. The result then says how many were, and has no
            protocol's name.
        seed: of the intervals.
        on_plan: told how many clips will be decoded; `on_source` is called after each.

    Raises:
        InputError: as `compared_kinds`; fewer or more clips than the protocol has, or fewer than two.
    """
    first, second = compared_kinds(space, protocol, kinds)
    lost: Counter[str] = Counter()
    _check_count(protocol, items, "the list", lost, allow_missing)
    found = _match(items, sources, lost)
    _check_lost(protocol, lost, allow_missing)
    on_plan(len(found))
    seen: list[Kind] = [kind for kind in (first, second) if kind != "text"]
    clips = _embed_clips(space, found, seen, windows, lost, on_source)
    _check_lost(protocol, lost, allow_missing)
    kept = [item for item, _ in found if item.id in clips]
    if len(kept) < 2:
        raise InputError(
            f"{len(kept)} of the {protocol.clips} clips of {protocol.name} could be used; retrieval needs at least 2"
        )
    sides = {kind: _side(space, kind, kept, clips) for kind in (first, second)}
    complete = not lost and len(kept) == protocol.clips and (first, second) == protocol.kinds
    return {
        "protocol": protocol.name if complete else None,
        "of": protocol.name,
        "clips": len(kept),
        "clips_of_protocol": protocol.clips,
        "captions": len(sides["text"].vectors) if "text" in sides else 0,
        "missing": dict(lost),
        "windows": windows,
        "retrieval": {
            f"{first}_to_{second}": figures(sides[first], sides[second], seed=seed),
            f"{second}_to_{first}": figures(sides[second], sides[first], seed=seed),
        },
    }


def figures(queries: Side, gallery: Side, *, seed: int = 0) -> dict[str, Any]:
    """Recalls and the median rank of one direction, with 95 % intervals over clips and what chance gives."""
    parts = [
        place(_scores(queries, gallery, start), queries.clip[start : start + BLOCK, None] == gallery.clip)
        for start in range(0, len(queries.clip), BLOCK)
    ]
    better, equal, mine = (np.concatenate([getattr(part, name) for part in parts]) for name in ("better", "equal", "own"))
    placed = Placed(better, equal, mine, parts[0].items)
    own = (queries.clip[:, None] == np.unique(gallery.clip)).any(axis=1) * np.bincount(gallery.clip)[queries.clip]
    entries: dict[str, Any] = {"queries": len(queries.clip), "gallery": len(gallery.clip)}
    for k in RECALLS:
        rows, chance = _by_clip(placed.hits(k), queries.clip), float(chance_of_hit(own, placed.items, k).mean())
        entries[f"R@{k}"] = entry_of(proportion(rows), chance=chance)
    rows = _by_clip(placed.ranks, queries.clip)
    median = bootstrap(rows, lambda drawn: float(np.median(drawn)), seed=seed)
    entries["median_rank"] = entry_of(median, chance=float(np.median((placed.items + 1) / (own + 1))))
    return entries


def _by_clip(values: NDArray[np.float64], clip: NDArray[np.int64]) -> NDArray[np.float64]:
    """Outcomes of queries (Q,) as (clips, queries of each), where all clips have as many; else (Q, 1)."""
    order = np.argsort(clip, kind="stable")
    counts = np.unique(clip, return_counts=True)[1]
    return values[order].reshape(len(counts), -1) if (counts == counts[0]).all() else values[:, None]


def _scores(queries: Side, gallery: Side, start: int) -> NDArray[np.float32]:
    """Scores (block, G): cosines, or the best of a picture's cells."""
    stop = start + BLOCK
    if queries.cells is not None:
        return np.stack([cells @ gallery.vectors.T for cells in queries.cells[start:stop]]).max(axis=1)
    mine = queries.vectors[start:stop]
    if gallery.cells is None:
        return mine @ gallery.vectors.T
    best = mine @ gallery.cells[:, 0].T
    for number in range(1, gallery.cells.shape[1]):
        np.maximum(best, mine @ gallery.cells[:, number].T, out=best)
    return best


def _check_count(protocol: Protocol, items: Sequence[Item], what: str, lost: Counter[str], allow_missing: bool) -> None:
    captions = sum(len(item.captions) for item in items)
    if len(items) == protocol.clips and captions == protocol.captions:
        return
    told = f"{what} has {len(items)} clips and {captions} captions, {protocol.name} has {protocol.clips} and {protocol.captions}"
    if not allow_missing:
        raise InputError(f"{told}; give the protocol's own file, or --allow-missing for figures that do not bear its name")
    lost[told] += abs(protocol.clips - len(items)) or 1


def _check_lost(protocol: Protocol, lost: Mapping[str, int], allow_missing: bool) -> None:
    if lost and not allow_missing:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in list(lost.items())[:5])
        raise InputError(
            f"{sum(lost.values())} of the {protocol.clips} clips of {protocol.name} cannot be used ({reasons}); complete them, or give "
            "--allow-missing for figures that do not bear its name"
        )


def _match(items: Sequence[Item], sources: Iterable[Source], lost: Counter[str]) -> list[tuple[Item, Source]]:
    """Each clip with its file, its streams cut to the clip."""
    by_name: dict[str, list[Source]] = {}
    for source in sources:
        by_name.setdefault(PurePosixPath(source.id).name.removesuffix(source.path.suffix), []).append(source)
    found: list[tuple[Item, Source]] = []
    for item in items:
        name = next((name for name in (*item.names, item.film) if name in by_name), None)
        if name is None:
            lost["no such file, or one more link to a file that is there"] += 1
            continue
        if len(by_name[name]) > 1:
            places = " and ".join(str(source.path) for source in by_name[name][:2])
            raise InputError(f"{len(by_name[name])} files are called {name} ({places}); give a folder in which it is one")
        source = by_name[name][0]
        cut = source if name in item.names else _clip_of(source, item)
        if cut is None:
            lost["the film ends before the clip does"] += 1
        else:
            found.append((item, replace(cut, id=item.id)))
    return found


def _clip_of(source: Source, item: Item) -> Source | None:
    """A film cut to a clip; None where it ends too early. A file called by the film that is as short as a clip is the clip."""
    if item.span is None:
        return source
    if source.duration < item.span.end - SLACK:
        return source if source.duration <= CLIP + SLACK and item.span.seconds == CLIP else None
    video, audio = (None if part is None else part.overlap(item.span) for part in (source.video, source.audio))
    return replace(source, video=video, audio=audio)


def _embed_clips(
    space: JointSpace,
    found: Sequence[tuple[Item, Source]],
    kinds: Sequence[Kind],
    windows: int,
    lost: Counter[str],
    on_source: Callable[[], None],
) -> dict[str, Summed]:
    """Id -> a clip summed up, of those that have all modalities."""

    def jobs() -> Iterable[Job]:
        for _, source in found:
            yield Job(source, {kind: spread_windows(space, kind, source, windows) for kind in kinds}, (), True)

    done: dict[str, Summed] = {}
    for stretch in embed_jobs(space, jobs(), cells=QUERY_CELLS):
        on_source()
        absent: list[Kind] = [kind for kind in kinds if kind not in stretch.found]
        if not absent:
            done[stretch.job.source.id] = {kind: _summed(stretch.found[kind]) for kind in kinds}
        elif absent[0] in stretch.missing:
            lost[f"{WORDS[absent[0]]} cannot be decoded"] += 1
        else:
            lost[f"no {WORDS[absent[0]]}"] += 1
    return done


def spread_windows(space: JointSpace, kind: Kind, source: Source, count: int) -> list[Span]:
    """`count` windows evenly over a stream, the first at its start, the last at its end; one where it is no longer than a window."""
    stream = source.audio if kind == "audio" else source.video
    if stream is None or stream.seconds <= 0.0:
        return []
    seconds = space.cuts[kind].seconds
    if stream.seconds <= seconds:
        return [stream]
    starts = np.linspace(stream.start, stream.end - seconds, count) if count > 1 else [(stream.start + stream.end - seconds) / 2]
    return [Span(float(start), float(start) + seconds) for start in starts]


def _side(space: JointSpace, kind: Kind, items: Sequence[Item], clips: Mapping[str, Summed]) -> Side:
    if kind == "text":
        texts = [(number, caption) for number, item in enumerate(items) for caption in item.captions]
        parts = []
        for start in range(0, len(texts), TEXTS):
            request = space.texts(tuple(caption for _, caption in texts[start : start + TEXTS]))
            tokens = answer(Source("texts", Path("texts")), [request])[request]
            parts.append(space.embed("text", tokens).vectors)
        return Side(np.concatenate(parts), np.array([number for number, _ in texts], np.int64))
    summed = [clips[item.id][kind] for item in items]
    cells = [kept for _, kept in summed if kept is not None]
    return Side(np.stack([vector for vector, _ in summed]), np.arange(len(items)), np.stack(cells) if cells else None)


def _summed(found: Embedded) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """A clip's windows -> the direction of their mean (D,), and the cells kept of all of them."""
    return unit(found.vectors.mean(axis=0)), None if found.cells is None else _kept(found.cells)


def _kept(cells_NKD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cells of all windows of a clip -> `QUERY_CELLS` of them, repeated where there are fewer."""
    flat = cells_NKD.reshape(-1, cells_NKD.shape[-1])
    kept = spread_cells(torch.from_numpy(flat)[None], QUERY_CELLS)[0][0].numpy()
    return np.resize(kept, (QUERY_CELLS, kept.shape[1]))
