"""Examples for people to look at: where the model sees sounds, and which sounds it finds for a picture.

Drawn at random by address, never chosen: a report that shows its best cases tells nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.calibration import Calibration
from mmssl.downstream.cuts import Cuts, accepted, cut_sources
from mmssl.downstream.heatmap import Placement, overlay
from mmssl.downstream.metrics.localization import pointing_hits
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.sounding import known_truths
from mmssl.types import Features, Frames, Source

SIDE = 256  # pixels of a picture in the report
WHITE, BLACK = (255, 255, 255), (0, 0, 0)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Located:
    """One clip: its picture with the truth outlined, the heat under its own sound and under another's. Pictures are data URIs."""

    id: str
    moment: float
    picture: str
    own: str
    wrong: str
    hit: bool | None  # the maximum lies on the source; None where the truth is not known


@dataclass(frozen=True, slots=True)
class Found:
    """One retrieval: the query's picture, the pictures whose sounds scored best, and the rank of the own sound."""

    id: str
    picture: str
    best: tuple[tuple[str, bool], ...]  # picture, whether it is the own one
    rank: int
    gallery: int


def gather(
    pairing: Pairing,
    sources: Sequence[Source],
    scale: Calibration | None,
    *,
    seed: int,
    localized: int = 8,
    retrieved: int = 6,
    gallery: int = 100,
) -> tuple[list[Located], list[Found]]:
    """Examples of one objective on held-out sources; the cuts are those of its evaluation."""
    chosen = accepted(sources, [pairing.views], gallery, seed=seed, name="held out")
    if len(chosen) < 2:
        return [], []
    cuts = cut_sources(chosen, [pairing.views], seed=seed)[0]
    if len(cuts) < 2:
        return [], []
    video = pairing.encode(pairing.shape.video, cuts.tensors[pairing.shape.video])
    audio = pairing.encode(pairing.shape.audio, cuts.tensors[pairing.shape.audio])
    places = _located(pairing, cuts, video, audio, scale, localized) if pairing.localizes and scale else []
    return places, _found(pairing, cuts, video, audio, retrieved)


def data_uri(picture: Picture, *, quality: int = 88) -> str:
    """An RGB picture (H, W, 3) as a JPEG in a data URI."""
    done, coded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be coded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def _located(pairing: Pairing, cuts: Cuts, video: Features, audio: Features, scale: Calibration, count: int) -> list[Located]:
    shape, encoder = pairing.shape, pairing.encoders[pairing.shape.video]
    truths = known_truths(cuts, shape)
    rows = list(truths)[:count] if truths else list(range(min(count, len(cuts))))
    own, wrong = pairing.maps(video, audio), pairing.maps(video, _rolled(audio))
    middle = shape.frames // 2
    slot = middle * own.shape[1] // shape.frames
    grow = SIDE / shape.size[0]
    size = (SIDE, round(shape.size[1] * grow))
    place = Placement(
        (own.shape[2], own.shape[3]), offset=encoder.grid_offset, stride=encoder.grid_stride, seen=shape.size, shown=size
    )
    exact = Placement(
        (own.shape[2], own.shape[3]), offset=encoder.grid_offset, stride=encoder.grid_stride, seen=shape.size, shown=shape.size
    )
    shown: list[Located] = []
    for row in rows:
        plain = _picture(cuts, pairing, row, size)
        grown = [place(maps[row, slot]) for maps in (own, wrong)]
        heats = [overlay(plain, scale.heat(values)) for values in grown]
        hit = None
        if row in truths:
            hit = bool(pointing_hits(exact(own[row, slot])[None], truths[row][None])[0] > 0.5)
            plain, *heats = (_outlined(picture, truths[row]) for picture in (plain, *heats))
        heats = [_pointed(picture, values) for picture, values in zip(heats, grown, strict=True)]
        request = cuts.plans[row].requests[shape.video]
        moment = request.times[middle] if isinstance(request, Frames) else 0.0
        shown.append(Located(cuts.sources[row].id, moment, data_uri(plain), data_uri(heats[0]), data_uri(heats[1]), hit))
    return shown


def _found(pairing: Pairing, cuts: Cuts, video: Features, audio: Features, count: int) -> list[Found]:
    scores = pairing.scores(video, audio)
    shown: list[Found] = []
    for row in range(min(count, len(cuts))):
        order = np.argsort(-scores[row], kind="stable")
        rank = 1 + int((scores[row] > scores[row, row]).sum())
        best = tuple((data_uri(_picture(cuts, pairing, int(i), (128, 128))), int(i) == row) for i in order[:5])
        shown.append(Found(cuts.sources[row].id, data_uri(_picture(cuts, pairing, row, (128, 128))), best, rank, len(cuts)))
    return shown


def _picture(cuts: Cuts, pairing: Pairing, row: int, size: tuple[int, int]) -> Picture:
    frames = cuts.tensors[pairing.shape.video][row]
    picture = frames[len(frames) // 2].numpy().transpose(1, 2, 0)
    how = cv2.INTER_AREA if picture.shape[0] > size[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), (size[1], size[0]), interpolation=how), dtype=np.uint8)


def _outlined(picture: Picture, mask: NDArray[np.bool_]) -> Picture:
    grown = cv2.resize(mask.astype(np.uint8), (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_NEAREST)
    edges, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.drawContours(picture.copy(), edges, -1, BLACK, 4, cv2.LINE_AA)  # a dark rim: white on white would be lost
    return np.asarray(cv2.drawContours(drawn, edges, -1, WHITE, 2, cv2.LINE_AA), dtype=np.uint8)


def _pointed(picture: Picture, values: NDArray[np.float32]) -> Picture:
    """A ring around the map's maximum."""
    y, x = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
    drawn = cv2.circle(picture.copy(), (x, y), 7, BLACK, 4, cv2.LINE_AA)
    return np.asarray(cv2.circle(drawn, (x, y), 7, (64, 224, 255), 2, cv2.LINE_AA), dtype=np.uint8)


def _rolled(features: Features) -> Any:
    return Features(
        features.pooled.roll(1, 0), features.grid.roll(1, 0), None if features.valid is None else features.valid.roll(1, 0)
    )
