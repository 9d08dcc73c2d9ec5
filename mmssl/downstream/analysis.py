"""First pass over a film: what the model finds at each moment. Constant memory: maps go to a file as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.data.playback import play_frames, play_wave
from mmssl.downstream.calibration import BACKGROUND, Calibration, fit_calibration
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.panel import State
from mmssl.downstream.soundtrack import SILENCE, SlidingSound, level
from mmssl.rng import Purpose, rng_for
from mmssl.types import Features

BATCH = 32  # moments encoded at a time
KEPT = 128  # moments whose features are kept, to hear the film's own sound at other moments
SMOOTHING = 0.25  # seconds to each side over which a claim is averaged

Picture = NDArray[np.uint8]


@dataclass(slots=True)
class Analysis:
    """What was found at the K moments of a film. Maps are raw cosines, (K, h, w) float16 in `maps_file`."""

    maps_file: Path
    seen: tuple[int, int]  # (height, width) of the pictures as the encoder saw them
    grid: tuple[int, int] = (0, 0)
    times: list[float] = field(default_factory=list)  # seconds
    scores: list[float] = field(default_factory=list)  # correspondence of the moment's picture and sound
    levels: list[float] = field(default_factory=list)  # dBFS of the window of sound
    kept: list[tuple[float, Features, Features]] = field(default_factory=list)  # time, picture, sound

    def maps(self) -> NDArray[np.float16]:
        """The maps, mapped from the file, (K, h, w)."""
        return np.memmap(self.maps_file, dtype=np.float16, mode="r", shape=(len(self.times), *self.grid))

    def smooth_scores(self) -> NDArray[np.float64]:
        """Scores averaged over `SMOOTHING` seconds to each side, (K,)."""
        times, scores = np.asarray(self.times), np.concatenate([[0.0], np.cumsum(self.scores)])
        first = np.searchsorted(times, times - SMOOTHING - 1e-6)
        last = np.searchsorted(times, times + SMOOTHING + 1e-6)
        return (scores[last] - scores[first]) / (last - first)

    def states(self, calibration: Calibration) -> list[State]:
        """What to claim at each moment: "silent" below `SILENCE`, else by the smoothed score against the threshold."""
        scores = self.smooth_scores()
        return [
            "silent" if loud < SILENCE else "seen" if score >= calibration.threshold else "unseen"
            for loud, score in zip(self.levels, scores, strict=True)
        ]


def analyse(
    film: Path, pairing: Pairing, *, fps: float, seen: tuple[int, int], maps_file: Path, on_moment: Callable[[float], None]
) -> Analysis:
    """Run the model over a film: each moment's picture against the window of sound centred on it.

    Args:
        film: with picture and sound.
        pairing: the model.
        fps: moments a second.
        seen: (height, width) at which the encoder sees the whole picture.
        maps_file: raw float16 maps are appended to this new file.
        on_moment: told the time of each moment done.

    Raises:
        MediaError: the film cannot be decoded.
    """
    found = Analysis(maps_file, seen)
    shape = pairing.shape
    sound = SlidingSound(play_wave(film, rate=shape.rate, chunk=1.0), rate=shape.rate, seconds=shape.seconds)
    keep = rng_for(0, Purpose.EVALUATE, "kept moments")
    with maps_file.open("wb") as sink:
        for batch in _batches(clips(film, pairing, fps=fps, size=seen), BATCH):
            waves = np.stack([sound.around(moment) for moment, _ in batch])
            _encode(found, pairing, batch, waves, sink, keep)
            on_moment(batch[-1][0])
    return found


def clips(film: Path, pairing: Pairing, *, fps: float, size: tuple[int, int]) -> Iterator[tuple[float, Picture]]:
    """(moment, pictures (T, H, W, 3)) about `fps` times a second.

    A frame encoder gets the picture of the moment (T = 1). A video encoder gets its clip, centred on the moment, at its own spacing;
    at the ends of the film the last picture stands still.
    """
    shape = pairing.shape
    if pairing.modality == "frame" or shape.frames == 1:
        for moment, picture in play_frames(film, fps=fps, size=size):
            yield moment, picture[None]
        return
    stride = max(1, round(1 / (shape.spacing * fps)))
    before = (shape.frames - 1) // 2
    window: deque[tuple[float, Picture]] = deque(maxlen=shape.frames)
    number = 0  # of the picture in the window's middle
    for moment, picture in play_frames(film, fps=1 / shape.spacing, size=size):
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


def _encode(
    found: Analysis,
    pairing: Pairing,
    batch: list[tuple[float, Picture]],
    waves: NDArray[np.float32],
    sink: BinaryIO,
    keep: np.random.Generator,
) -> None:
    pictures = np.stack([picture for _, picture in batch]).transpose(0, 1, 4, 2, 3)
    video = pairing.encode(pairing.shape.video, np.ascontiguousarray(pictures), batch=BATCH)
    audio = pairing.encode(pairing.shape.audio, waves, batch=BATCH)
    maps = pairing.maps(video, audio).mean(axis=1)  # a clip's frames share the moment
    found.grid = (maps.shape[1], maps.shape[2])
    maps.astype(np.float16).tofile(sink)
    for i, (moment, _) in enumerate(batch):
        one, heard = _pick(video, [i]), _pick(audio, [i])
        found.times.append(moment)
        found.scores.append(float(pairing.scores(one, heard)[0, 0]))
        found.levels.append(level(waves[i]))
        # Reservoir sampling: each moment of a film of any length is kept with the same chance.
        if found.levels[-1] >= SILENCE:
            place = len(found.kept) if len(found.kept) < KEPT else int(keep.integers(len(found.times)))
            if place < KEPT:
                found.kept[place : place + 1] = [(moment, one, heard)]


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
