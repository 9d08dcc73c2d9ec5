"""Frozen features of a labelled set: decoded once for all embedders, kept in the cache so that probes share them.

`CACHE/probes/KEY/00000.npy` ... hold the features of `PART` clips each, row i belonging to clip i of the part, beside `00000.json` with the clips that
could not be decoded. KEY is a digest of the embedder's weights, of how clips are cut, and of the files (name, size, time of change). A part is
whole or absent, so an interrupted extraction goes on with the first one that is missing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.data.cache import cache_folder
from mmssl.data.shards import look_up
from mmssl.downstream.digest import encoder_digest
from mmssl.downstream.probe.clips import Cut, batched, decode_ahead, even_starts, span_of
from mmssl.downstream.probe.labelled import Labelled
from mmssl.encoders.base import Encoder
from mmssl.files import make_aside, write_aside
from mmssl.types import MediaError, Source

PART = 64  # clips in a file
VIEWS_AT_ONCE = 32  # through an encoder
VERSION = 1  # of what is written; raised whenever the same key would mean other numbers


@dataclass(frozen=True, slots=True)
class Embedder:
    """Views to vectors. Equal digests give equal vectors."""

    name: str
    digest: str
    embed: Callable[[Tensor], Tensor]  # (M, ...) views on the host -> (M, D), or (M, L, D) with `tokens`
    tokens: bool = False  # kept one by one in float16; otherwise the mean over a clip's views is kept in float32


@dataclass(slots=True)
class Bank:
    """The features of all clips under one embedder, read from their parts when they are asked for."""

    folder: Path
    count: int
    failed: dict[int, str] = field(default_factory=dict)  # position -> why there are none

    def rows(self, places: Sequence[int] | NDArray[np.int64]) -> NDArray[np.floating]:
        """The features of the clips at these positions, in that order: (n, D) float32, or (n, K * L, D) float16."""
        wanted = np.asarray(places, dtype=np.int64)
        if not len(wanted):
            raise ValueError("features of no clips were asked for")
        parts: list[NDArray[np.floating]] = []
        order: list[NDArray[np.int64]] = []
        for number in np.unique(wanted // PART):
            part = np.load(self.folder / f"{number:05d}.npy", mmap_mode="r", allow_pickle=False)
            here = np.flatnonzero(wanted // PART == number)
            parts.append(part[wanted[here] - number * PART])
            order.append(here)
        out = np.empty((len(wanted), *parts[0].shape[1:]), parts[0].dtype)
        out[np.concatenate(order)] = np.concatenate(parts)
        return out


def pooled(encoder: Encoder, device: torch.device) -> Embedder:
    """The encoder's pooled features."""
    encoder.to(device).eval()
    return Embedder("pooled", encoder_digest(encoder), lambda views: encoder(views.to(device)).pooled)


def tokens(encoder: Encoder, device: torch.device, cells: int) -> Embedder:
    """The encoder's grid as tokens; where it has more than `cells` cells on a side (or in time), means over neighbours."""
    encoder.to(device).eval()
    name = f"{encoder_digest(encoder)} {cells}"
    return Embedder("tokens", name, lambda views: _tokens(encoder(views.to(device)).grid, cells), tokens=True)


def extract(
    labelled: Labelled,
    embedders: Mapping[str, Embedder],
    cut: Cut,
    views: int,
    *,
    on_clips: Callable[[int], None] = lambda _: None,
) -> dict[str, Bank]:
    """The features of all clips under each embedder; each file is decoded once for all that lack them.

    Args:
        labelled: the clips.
        embedders: by the name that the result is to have.
        cut: of views, shared by all embedders.
        views: of each clip, K.
        on_clips: told after each part how many clips are done.

    Returns:
        a bank for each embedder. Clips that could not be decoded are in `failed` of all of them.
    """
    files = _files_digest(labelled.sources)
    banks = {name: Bank(_folder(embedder, cut, views, files), len(labelled.sources)) for name, embedder in embedders.items()}
    for start in range(0, len(labelled.sources), PART):
        part = labelled.sources[start : start + PART]
        number = start // PART
        lacking = {name: bank for name, bank in banks.items() if not (bank.folder / f"{number:05d}.npy").is_file()}
        if lacking:
            _write_part(part, number, {name: (embedders[name], bank) for name, bank in lacking.items()}, cut, views)
        for bank in banks.values():
            noted = json.loads((bank.folder / f"{number:05d}.json").read_text())
            bank.failed |= {start + int(place): why for place, why in noted.items()}
        on_clips(len(part))
    failed = {place: why for bank in banks.values() for place, why in bank.failed.items()}
    for bank in banks.values():
        bank.failed = dict(sorted(failed.items()))
    return banks


@torch.inference_mode()
def _write_part(part: Sequence[Source], number: int, lacking: Mapping[str, tuple[Embedder, Bank]], cut: Cut, views: int) -> None:
    failed: dict[int, str] = {}
    rows: dict[str, NDArray[np.floating]] = {}
    files = max(1, VIEWS_AT_ONCE // views)
    for places, stacked in batched(decode_ahead(_jobs(part, cut, views, failed), cut), files, failed.__setitem__):
        for name, (embedder, _) in lacking.items():
            vectors = torch.cat([embedder.embed(chunk) for chunk in stacked.flatten(0, 1).split(VIEWS_AT_ONCE)])
            made = _joined(vectors.float().cpu(), len(places), embedder.tokens)
            if name not in rows:  # clips that cannot be decoded keep zeros, and are named in the JSON
                rows[name] = np.zeros((len(part), *made.shape[1:]), made.dtype)
            rows[name][places] = made
    for name, (_, bank) in lacking.items():
        content = rows.get(name, np.zeros((len(part), 1), np.float32))
        write_aside(bank.folder / f"{number:05d}.json", json.dumps(failed).encode())
        make_aside(bank.folder / f"{number:05d}.npy", lambda path, content=content: _save(path, content))


def _jobs(part: Sequence[Source], cut: Cut, views: int, failed: dict[int, str]) -> Iterator[tuple[int, Source, list[float]]]:
    for place, source in enumerate(part):
        try:
            yield place, source, even_starts(cut, span_of(cut, source), views)
        except MediaError as error:
            failed[place] = str(error)


def _joined(vectors: Tensor, files: int, tokens: bool) -> NDArray[np.floating]:
    by_file = vectors.unflatten(0, (files, -1))
    if tokens:  # tokens of all views in one sequence
        return by_file.flatten(1, 2).half().numpy()
    return by_file.mean(1).numpy()


def _tokens(grid: Tensor, cells: int) -> Tensor:
    """(N, T, H, W, D) or (N, T, F, D) -> (N, L, D)."""
    planes = grid.movedim(-1, 1)
    sides = [min(side, cells) for side in planes.shape[2:]]
    pool = torch.nn.functional.adaptive_avg_pool2d if len(sides) == 2 else torch.nn.functional.adaptive_avg_pool3d
    return pool(planes, sides).flatten(2).transpose(1, 2)  # type: ignore[arg-type]  # stubs want tuples of one length


def _save(path: Path, content: NDArray[np.floating]) -> None:
    file = io.BytesIO()
    np.save(file, content, allow_pickle=False)
    path.write_bytes(file.getvalue())


def _files_digest(sources: Sequence[Source]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        try:
            place = tuple(look_up(source.path))
        except OSError:  # gone since it was indexed: decoding will say so
            place = (-1, -1)
        digest.update(json.dumps([source.id, str(source.path), *place, source.video, source.audio]).encode())
    return digest.hexdigest()


def _folder(embedder: Embedder, cut: Cut, views: int, files: str) -> Path:
    key = hashlib.sha256(f"{VERSION} {PART} {embedder.name} {embedder.digest} {cut} {views} {files}".encode()).hexdigest()
    return cache_folder() / "probes" / key[:32]
