"""Second pass over a film: the heat of every moment drawn over its picture, interpolated between the maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmssl.data.playback import play_frames
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.film import Film, shown_size
from mmssl.downstream.heatmap import Placement, overlay, overlay_sources
from mmssl.downstream.mapfile import MapFile
from mmssl.downstream.panel import Panel, State
from mmssl.downstream.render import FilmWriter
from mmssl.downstream.sources import Sources
from mmssl.encoders.base import Encoder

STRENGTH: dict[State, float] = {"seen": 1.0, "unseen": 0.3, "silent": 0.0}  # how visible the heat is
FAINT = 0.4  # of it remains to sources that are not the one heard


@dataclass(frozen=True, slots=True)
class Drawn:
    """All that is drawn of a film of K moments."""

    maps: MapFile  # (h, w)
    seen: tuple[int, int]  # (height, width) of the encoder's input
    times: NDArray[np.float64]  # (K,)
    scores: NDArray[np.float64]  # (K,) that the claims rest on
    levels: NDArray[np.float64]  # (K,)
    confidence: NDArray[np.float64]  # (K,)
    states: list[State]
    scale: Calibration
    sources: Sources | None = None
    source_maps: MapFile | None = None  # (S, h, w)
    heard: NDArray[np.int64] | None = None  # (K,) the source heard
    notes: str = ""  # what was done beside the plain maps
    caption: str = ""  # told in the film at all times
    stereo: str = "ignored"  # or "prior", or "none": asked for, but there is none


def draw_film(film: Film, part: Path, what: Drawn, encoder: Encoder, on_picture: Callable[[], None]) -> None:
    """Write the heatmap film to `part`.

    Raises:
        MediaError: decoding failed on the way.
    """
    size = shown_size(film)
    grid = (what.maps.shape[-2], what.maps.shape[-1])
    place = Placement(grid, offset=encoder.grid_offset, stride=encoder.grid_stride, seen=what.seen, shown=size)
    panel = Panel(
        size[1],
        times=what.times,
        levels=what.levels,
        confidence=what.confidence,
        states=what.states,
        notes=what.caption,
        sources=what.sources.names if what.sources else (),
        heard=what.heard,
    )
    with FilmWriter(part, size=(size[0] + panel.height, size[1]), fps=film.shown_fps, sound=film.path) as writer:
        # From the first picture on: on a grid that began at 0, each picture would come up to 1 / fps late against the sound.
        for moment, picture in play_frames(film.path, fps=film.shown_fps, size=size, start=film.begin):
            before, after, step = between(moment, what.times)
            drawn = _heated(picture, what, place, before, after, step)
            strip = panel.draw(moment, after if step > 0.5 else before)
            writer.write(moment, np.concatenate([drawn, strip]))
            on_picture()


def between(moment: float, times: NDArray[np.float64]) -> tuple[int, int, float]:
    """The moments before and after, and how far `moment` lies from the one to the other, 0 to 1."""
    after = int(np.searchsorted(times, moment).clip(0, len(times) - 1))
    before = max(0, after - 1) if times[after] > moment else after
    step = float((moment - times[before]) / (times[after] - times[before])) if after > before else 0.0
    return before, after, step


def _heated(picture: NDArray[np.uint8], what: Drawn, place: Placement, before: int, after: int, step: float) -> NDArray[np.uint8]:
    strength = STRENGTH[what.states[before]] * (1 - step) + STRENGTH[what.states[after]] * step
    if what.sources is None or what.source_maps is None or what.heard is None:
        cosines = _mixed(what.maps, before, after, step)
        return overlay(picture, what.scale.heat(place(cosines)), strength=strength)
    heats = what.sources.heat(np.stack([place(values) for values in _mixed(what.source_maps, before, after, step)]))
    share = np.full(len(what.sources), FAINT)
    share[what.heard[before]] += (1 - FAINT) * (1 - step)
    share[what.heard[after]] += (1 - FAINT) * step
    return overlay_sources(picture, heats, strength * share)


def _mixed(maps: MapFile, before: int, after: int, step: float) -> NDArray[np.float32]:
    rows = maps.rows(before, after + 1).astype(np.float32)
    return rows[0] * (1 - step) + rows[-1] * step
