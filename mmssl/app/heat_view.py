"""The map of one moment for the pointer: the frame with the heat drawn on it, and the values of every cell beside it."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmssl.app.thumbnails import data_address, frame_at
from mmssl.downstream.heatmap import Placement, overlay, overlay_sources
from mmssl.downstream.search.sheet import moment as clock

SIDE = 720  # pixels of the picture's longer side
WORDS = {
    "seen": "something in view seems to make the sound",
    "unseen": "nothing in view seems to make the sound",
    "silent": "silence",
}


@dataclass(frozen=True, slots=True)
class Maps:
    """What `localize` wrote, read back: K moments, maps of (h, w) cells; several sources are S maps."""

    times: NDArray[np.float64]  # (K,) seconds
    states: tuple[str, ...]  # (K,)
    scores: NDArray[np.float64]  # (K,)
    cosines: NDArray[np.float16]  # (K, S, h, w)
    low: NDArray[np.float64]  # (S,) cosine at which heat begins
    high: NDArray[np.float64]  # (S,) at which it is full
    names: tuple[str, ...]  # (S,); one empty name where there is one map
    heard: NDArray[np.int64] | None  # (K,) which source is heard
    seen: tuple[int, int]  # (height, width) of the encoder's input
    offset: float
    stride: float

    def heat(self, number: int) -> NDArray[np.float32]:
        """Heat of all cells at a moment, (S, h, w), 0 to 1."""
        low, high = self.low[:, None, None], self.high[:, None, None]
        return np.clip((self.cosines[number].astype(np.float32) - low) / (high - low), 0.0, 1.0).astype(np.float32)

    def nearest(self, seconds: float) -> int:
        """The moment nearest to a time."""
        return int(np.abs(self.times - seconds).argmin())

    @property
    def best(self) -> int:
        """The moment at which picture and sound go together best, of those that are not silent."""
        silent = np.array([state == "silent" for state in self.states])
        return int(np.where(silent & ~silent.all(), -np.inf, self.scores).argmax())


def read_maps(path: Path) -> Maps:
    """The maps of an `.npz` that `localize` wrote."""
    with np.load(path, allow_pickle=False) as file:
        several = "source_maps" in file
        one = () if several else ("",)
        return Maps(
            file["times"],
            tuple(str(state) for state in file["states"]),
            file["scores"],
            file["source_maps"] if several else file["maps"][:, None],
            np.atleast_1d(file["source_heat_from"] if several else file["heat_from"]),
            np.atleast_1d(file["source_heat_full"] if several else file["heat_full"]),
            tuple(str(name) for name in file["source_names"]) if several else one,
            file["source_heard"] if several else None,
            (int(file["input_size"][0]), int(file["input_size"][1])),
            float(file["grid_offset"]),
            float(file["grid_stride"]),
        )


def heat_view(film: Path, maps: Maps, seconds: float) -> str:
    """HTML of the moment nearest to `seconds`.

    Raises:
        MediaError: the film has no picture there.
    """
    number = maps.nearest(seconds)
    frame = frame_at(film, float(maps.times[number]))
    drawn = _drawn(_sized(frame), maps, number)
    heard = None if maps.heard is None else maps.names[int(maps.heard[number])]
    said = WORDS.get(maps.states[number], maps.states[number]) + (f"; heard most likely: {heard}" if heard else "")
    title = f"Frame at {clock(float(maps.times[number]))}: {said}"
    values = html.escape(json.dumps(_values(maps, number), separators=(",", ":")), quote=True)
    help_text = "Point at the picture, or move with the arrow keys, to read the heat of a cell."
    return (
        f'<figure class="mm-heat" data-map="{values}">'
        f'<div class="mm-heat-picture" tabindex="0" role="application" aria-label="{html.escape(title)}. {help_text}">'
        f'<img src="{data_address(Image.fromarray(drawn), quality=88)}" alt="{html.escape(title)}" draggable="false">'
        f'<div class="mm-heat-cell" hidden></div></div>'
        f'<figcaption><span class="mm-heat-title">{html.escape(title)}.</span> '
        f'<output class="mm-heat-value" aria-live="polite">{help_text}</output></figcaption></figure>'
    )


def _values(maps: Maps, number: int) -> dict[str, Any]:
    """All that the pointer needs; heat and similarity row by row."""
    return {
        "time": round(float(maps.times[number]), 3),
        "grid": list(maps.cosines.shape[2:]),
        "seen": list(maps.seen),
        "offset": maps.offset,
        "stride": maps.stride,
        "names": list(maps.names),
        "heat": [[round(float(value), 3) for value in one.ravel()] for one in maps.heat(number)],
        "similarity": [[round(float(value), 3) for value in one.ravel()] for one in maps.cosines[number]],
    }


def _sized(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = SIDE / max(frame.shape[:2])
    size = (max(2, round(frame.shape[1] * scale)), max(2, round(frame.shape[0] * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), dtype=np.uint8)


def _drawn(frame: NDArray[np.uint8], maps: Maps, number: int) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    rows, columns = maps.cosines.shape[2:]
    place = Placement((rows, columns), offset=maps.offset, stride=maps.stride, seen=maps.seen, shown=(height, width))
    heats = np.stack([place(one) for one in maps.heat(number)])
    return overlay(frame, heats[0]) if len(heats) == 1 else overlay_sources(frame, heats, np.ones(len(heats)))
