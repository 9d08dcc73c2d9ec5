"""First pass over a film: what the model finds at each moment. Constant memory: maps go to a file as they come."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.data.playback import play_wave
from mmssl.downstream.calibration import BACKGROUND, Calibration, fit_calibration
from mmssl.downstream.film import Film, play_whole
from mmssl.downstream.mapfile import MapFile
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.panel import State
from mmssl.downstream.smoothing import smooth_values
from mmssl.downstream.soundtrack import SILENCE, SlidingSound, level
from mmssl.downstream.sources import Sources
from mmssl.downstream.stereo import StereoSound
from mmssl.rng import Purpose, rng_for
from mmssl.types import Features, Span

BATCH = 32  # moments encoded at a time
KEPT = 128  # moments whose features are kept, to hear the film's own sound at other moments

Picture = NDArray[np.uint8]


def _numbers() -> array[float]:
    return array("d")  # 8 bytes each: hours of a film are a few megabytes


@dataclass(slots=True)
class Analysis:
    """What was found at the K moments of a film. Maps are raw cosines (h, w)."""

    maps: MapFile
    seen: tuple[int, int]  # (height, width) of the pictures as the encoder saw them
    times: array[float] = field(default_factory=_numbers)  # seconds
    starts: array[float] = field(default_factory=_numbers)  # seconds at which the window of sound begins
    scores: array[float] = field(default_factory=_numbers)  # correspondence of the moment's picture and sound
    peaks: array[float] = field(default_factory=_numbers)  # highest cosine of the moment's map, before any stereo prior
    levels: array[float] = field(default_factory=_numbers)  # dBFS of the window of sound
    kept: list[tuple[float, Features, Features]] = field(default_factory=list)  # time, picture, sound

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the maps."""
        height, width = self.maps.shape
        return height, width

    def states(self, calibration: Calibration, *, smooth: float = 0.0) -> list[State]:
        """What to claim at each moment: "silent" below `SILENCE`; "seen" where the score reaches the threshold and some place has heat.

        An objective that scores whole pictures can find that one fits the sound though no place of it stands out: then nothing can be
        pointed at, and nothing is claimed. Scores and peaks are averaged over `smooth` seconds before.
        """
        scores, peaks = (smooth_values(self.times, values, smooth) for values in (self.scores, self.peaks))
        seen = (scores >= calibration.threshold) & ((peaks > calibration.low) | (calibration.origin == "none"))
        return [
            "silent" if loud < SILENCE else "seen" if claimed else "unseen"
            for loud, claimed in zip(self.levels, seen, strict=True)
        ]


class Windows(NamedTuple):
    """Some moments of a film in a row, encoded."""

    times: list[float]
    spans: list[Span]  # of the windows of sound
    levels: list[float]  # dBFS
    video: Features
    audio: Features


class SourceMaps:
    """What each of K sources has at the moments of a film, as it comes: maps (K, h, w) to a file, matches of the sound (K,)."""

    def __init__(self, sources: Sources, maps: MapFile) -> None:
        self.sources, self.maps = sources, maps
        self._matches = _numbers()

    def add(self, pairing: Pairing, found: Windows) -> None:
        """The next moments."""
        self.maps.append(self.sources.maps(pairing, found.video))
        self._matches.extend(self.sources.matches(pairing, found.audio).astype(float).ravel().tolist())

    @property
    def matches(self) -> NDArray[np.float64]:
        """Cosine of each moment's sound with each source, (moments, K)."""
        return np.array(self._matches).reshape(-1, len(self.sources))


def windows(film: Film, pairing: Pairing, *, fps: float, seen: tuple[int, int]) -> Iterator[Windows]:
    """Slide over a film: each moment's picture, and the window of sound centred on it, `BATCH` moments at a time.

    Args:
        film: with picture and sound.
        pairing: the model.
        fps: moments a second.
        seen: (height, width) at which the encoder sees the whole picture.

    Raises:
        MediaError: the film cannot be decoded.
    """
    shape = pairing.shape
    sound = SlidingSound(play_wave(film.path, rate=shape.rate, chunk=1.0), rate=shape.rate, seconds=shape.seconds)
    for batch in _batches(clips(film, pairing, fps=fps, size=seen), BATCH):
        waves, spans = [], []
        for moment, _ in batch:
            waves.append(sound.around(moment))
            spans.append(Span(sound.start, sound.start + shape.seconds))
        pictures = np.stack([picture for _, picture in batch]).transpose(0, 1, 4, 2, 3)
        yield Windows(
            [moment for moment, _ in batch],
            spans,
            [level(wave) for wave in waves],
            pairing.encode(shape.video, np.ascontiguousarray(pictures), batch=BATCH),
            pairing.encode(shape.audio, np.stack(waves), batch=BATCH),
        )


def analyse(
    film: Film,
    pairing: Pairing,
    *,
    fps: float,
    seen: tuple[int, int],
    maps: MapFile,
    stereo: StereoSound | None = None,
    sources: SourceMaps | None = None,
    on_moments: Callable[[int], None] | None = None,
) -> Analysis:
    """Run the model over a film.

    Args:
        film, pairing, fps, seen: as for `windows`.
        maps: raw maps are appended to this file, opened for writing.
        stereo: lowers the maps where the level of the channels says that the sound is not; scores stay.
        sources: given the same moments.
        on_moments: told how many moments were done.

    Raises:
        MediaError: the film cannot be decoded.
    """
    found = Analysis(maps, seen)
    keep, heard = rng_for(0, Purpose.EVALUATE, "kept moments"), 0
    for some in windows(film, pairing, fps=fps, seen=seen):
        cosines = pairing.maps(some.video, some.audio).mean(axis=1)  # a clip's frames share the moment
        found.peaks.extend(cosines.max(axis=(1, 2)).astype(float).tolist())
        if stereo is not None:
            places = columns(pairing, seen, cosines.shape[2])
            cosines = cosines + np.stack([stereo.penalty(*span, places) for span in some.spans])[:, None]
        maps.append(cosines)
        found.times.extend(some.times)
        found.starts.extend(span.start for span in some.spans)
        found.scores.extend(np.diagonal(pairing.scores(some.video, some.audio)).astype(float).tolist())
        for i, (moment, loud) in enumerate(zip(some.times, some.levels, strict=True)):
            found.levels.append(loud)
            if loud >= SILENCE:
                # Reservoir sampling: each moment with sound of a film of any length is kept with the same chance.
                heard += 1
                place = len(found.kept) if len(found.kept) < KEPT else int(keep.integers(heard))
                if place < KEPT:
                    found.kept[place : place + 1] = [(moment, _pick(some.video, [i]), _pick(some.audio, [i]))]
        if sources is not None:
            sources.add(pairing, some)
        if on_moments is not None:
            on_moments(len(some.times))
    return found


def columns(pairing: Pairing, seen: tuple[int, int], count: int) -> NDArray[np.float64]:
    """Where the centres of the grid's `count` columns lie: -1 at the picture's left edge, 1 at its right one."""
    encoder = pairing.encoders[pairing.shape.video]
    return (encoder.grid_offset + encoder.grid_stride * np.arange(count) + 0.5) / seen[1] * 2 - 1


def clips(film: Film, pairing: Pairing, *, fps: float, size: tuple[int, int]) -> Iterator[tuple[float, Picture]]:
    """(moment, pictures (T, H, W, 3)) about `fps` times a second.

    A frame encoder gets the picture of the moment (T = 1). A video encoder gets its clip, centred on the moment, at its own spacing;
    at the ends of the film the last picture stands still.
    """
    shape = pairing.shape
    if pairing.modality == "frame" or shape.frames == 1:
        for moment, picture in play_whole(film, fps=fps, size=size):
            yield moment, picture[None]
        return
    stride = max(1, round(1 / (shape.spacing * fps)))
    before = (shape.frames - 1) // 2
    window: deque[tuple[float, Picture]] = deque(maxlen=shape.frames)
    number = 0  # of the picture in the window's middle
    for moment, picture in play_whole(film, fps=1 / shape.spacing, size=size):
        if not window:
            window.extend([(moment, picture)] * before)  # the first picture stands still
        window.append((moment, picture))
        if len(window) == shape.frames:
            if number % stride == 0:
                yield window[before][0], np.stack([p for _, p in window])
            number += 1
    for _ in range(shape.frames - before - 1 if window else 0):  # the last picture stands still
        window.append(window[-1])
        if len(window) == shape.frames:
            if number % stride == 0:
                yield window[before][0], np.stack([p for _, p in window])
            number += 1


def calibrate_on_film(found: Analysis, pairing: Pairing) -> Calibration:
    """A calibration from the film itself: its pictures against its own sound at other moments, at least a window away.

    The second-best way, for runs without a calibration: where one thing sounds all the time, other moments fit as well. A film
    too short for other moments gets threshold -1e9 (every sound passes) and origin "none".
    """
    if not found.kept:
        return Calibration(-1e9, 1.0, 0.0, 1.0, "none")
    times = np.array([moment for moment, _, _ in found.kept])
    video, audio = _stack([picture for _, picture, _ in found.kept]), _stack([sound for _, _, sound in found.kept])
    scores = pairing.scores(video, audio)
    apart = np.abs(times[:, None] - times[None, :]) >= pairing.shape.seconds
    cells = _cells(pairing, video, audio)
    if not apart.any():
        low, high = float(np.quantile(cells, BACKGROUND)), float(np.median(cells.max(axis=1)))
        return Calibration(-1e9, 1.0, low, max(high, low + 0.05), "none")
    rolls = [roll for roll in (len(times) // 4, len(times) // 2, 3 * len(times) // 4) if roll]
    wrong = []
    for roll in rolls:
        other = np.roll(np.arange(len(times)), roll)
        far = apart[np.arange(len(times)), other]
        if far.any():
            wrong.append(_cells(pairing, _pick(video, np.flatnonzero(far)), _pick(audio, other[far])))
    own = scores[np.arange(len(times)), np.arange(len(times))]
    return fit_calibration(own, scores[apart], cells.max(axis=1), np.concatenate(wrong) if wrong else cells, origin="film")


def _cells(pairing: Pairing, video: Features, audio: Features) -> NDArray[np.float32]:
    """Cosines of all cells of each pair, averaged over the times of its map, (N, H * W)."""
    return pairing.maps(video, audio).mean(axis=1).reshape(len(video.pooled), -1)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _pick(features: Features, rows: Any) -> Features:
    index = torch.as_tensor(np.asarray(rows))
    return Features(features.pooled[index], features.grid[index], None if features.valid is None else features.valid[index])


def _stack(rows: list[Features]) -> Features:
    valid = [row.valid for row in rows if row.valid is not None]
    return Features(
        torch.cat([row.pooled for row in rows]), torch.cat([row.grid for row in rows]), torch.cat(valid) if valid else None
    )
