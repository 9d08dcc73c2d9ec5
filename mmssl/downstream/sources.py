"""Several sources in one film, each with a map of its own: found by clustering, or named by example sounds.

Clusters: at each of a sample of moments, the places that answer any sound of the film best (separate maxima of the best cosine over its sounds)
give their cell's joint embedding; k-means over those finds what keeps answering, and a source's map is the cosine of each cell with its
centre. Clustering the windows of sound instead does worse where sources sound at once: a window of two sounds lies between both
(docs/results/localize.md). Classes: a source's map is the cosine of each cell with the mean embedding of its examples.

K sources, D joint features, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.data.playback import play_wave
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.soundtrack import SILENCE, level
from mmssl.rng import Purpose, rng_for
from mmssl.types import Features, InputError, MediaError

SEPARATE = 0.19  # of the shorter side: how far apart two maxima lie that are taken for two things
MOST = 8  # sources: as many colours as are told apart
EXAMPLES = 64  # windows of sound of one class, at most
STARTS = 5  # of k-means

Kind = Literal["clusters", "classes"]
Kept = Sequence[tuple[float, Features, Features]]  # time, picture, sound: single rows


@dataclass(frozen=True, slots=True)
class Sources:
    """What is looked for: centres in the joint space, and the cosines between which heat rises."""

    kind: Kind
    names: tuple[str, ...]
    centres: NDArray[np.float32]  # (K, D), unit length
    low: NDArray[np.float32]  # (K,) cosine at which heat begins
    high: NDArray[np.float32]  # (K,) cosine at which it is full
    clearest: tuple[float | None, ...]  # (K,) seconds at which the sound is likest a cluster; None for classes

    def __len__(self) -> int:
        return len(self.names)

    def heat(self, cosines: NDArray[Any]) -> NDArray[np.float32]:
        """Cosines (K, H, W) to heat, 0 to 1."""
        low, high = self.low[:, None, None], self.high[:, None, None]
        return np.clip((np.asarray(cosines, dtype=np.float32) - low) / (high - low), 0.0, 1.0).astype(np.float32, copy=False)

    def maps(self, pairing: Pairing, video: Features) -> NDArray[np.float32]:
        """Cosine of each cell with each centre, averaged over the times of a clip, (N, K, h, w)."""
        return np.einsum("nthwd,kd->nkhw", pairing.cells(video), self.centres) / video.grid.shape[1]

    def matches(self, pairing: Pairing, audio: Features) -> NDArray[np.float32]:
        """Cosine of each window of sound with each centre, (N, K): the source that sounds most likely has the highest."""
        return pairing.embed(pairing.shape.audio, audio) @ self.centres.T


def separate_maxima(values: NDArray[Any], count: int, *, apart: float) -> list[tuple[int, int]]:
    """(row, column) of the `count` highest cells of a map (h, w), each at least `apart` cells from the higher ones; fewer where none is left."""
    rows, columns = np.indices(values.shape)
    left: NDArray[np.float32] = np.array(values, dtype=np.float32)
    found: list[tuple[int, int]] = []
    while len(found) < count and np.isfinite(left).any():
        y, x = (int(i) for i in np.unravel_index(left.argmax(), left.shape))
        found.append((y, x))
        left[(rows - y) ** 2 + (columns - x) ** 2 < apart**2] = -np.inf
    return found


def find_sources(pairing: Pairing, kept: Kept, count: int, scale: Calibration) -> Sources | None:
    """Up to `count` sources of a film, the one that answers most first; None where no place answers any sound.

    Args:
        pairing: the model.
        kept: a sample of the film's moments with sound.
        count: sources looked for; fewer are found where fewer places answer.
        scale: of the run or film: places whose cosine lies below `low` do not answer.

    The objective has to compare single cells (`check_cells`).
    """
    if not kept:
        return None
    sounds = np.concatenate([pairing.embed(pairing.shape.audio, audio) for _, _, audio in kept])
    cells = np.concatenate([_mean_cells(pairing, video) for _, video, _ in kept])  # (M, h, w, D)
    best = np.stack([(moment @ sounds.T).max(axis=-1) for moment in cells])  # (M, h, w)
    peaks, weights = [], []
    for vectors, values in zip(cells, best, strict=True):
        for place in separate_maxima(values, count, apart=SEPARATE * min(values.shape)):
            if values[place] > scale.low:
                peaks.append(vectors[place])
                weights.append(float(values[place] - scale.low))
    if not peaks:
        return None
    points, weight = np.stack(peaks), np.array(weights)
    centres, members = _cluster(points, weight, count)
    nearness = points @ centres.T
    clearest = tuple(kept[int(place)][0] for place in (sounds @ centres.T).argmax(axis=0))
    around = np.median((cells.reshape(-1, cells.shape[-1]) @ centres.T), axis=0)
    high = np.array([np.median(nearness[members == k, k]) for k in range(len(centres))])
    # Cells and cells are more alike than cells and sounds: the run's scale does not hold. Halfway from the background to the usual peak.
    low = np.minimum((around + high) / 2, high - 0.05)
    names = tuple(f"source {k + 1}" for k in range(len(centres)))
    return Sources("clusters", names, centres, low.astype(np.float32), high.astype(np.float32), clearest)


def read_classes(folder: Path, pairing: Pairing) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names and centres (K, D) of a folder of example sounds: NAME/any.wav, or NAME.wav for a class of one; any media with sound serve.

    Raises:
        InputError: no such folder, no class or too many in it, or an example without sound that can be heard.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; --classes takes a folder of example sounds: dog/bark.wav, bell/ring.wav")
    classes: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        files = sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]
        classes.setdefault(entry.name if entry.is_dir() else entry.stem, []).extend(files)
    classes = {name: files for name, files in classes.items() if files}
    if not 0 < len(classes) <= MOST:
        raise InputError(
            f"{folder} holds {len(classes)} classes of sounds; give 1 to {MOST}, such as dog/bark.wav and bell/ring.wav"
        )
    return tuple(classes), np.stack([_centre(pairing, files) for files in classes.values()])


def class_sources(names: tuple[str, ...], centres: NDArray[np.float32], scale: Calibration) -> Sources:
    """Sources of `read_classes`, on the scale of the run: their centres are sounds, as those it was measured with."""
    low, high = (np.full(len(names), value, dtype=np.float32) for value in (scale.low, scale.high))
    return Sources("classes", names, centres, low, high, (None,) * len(names))


def check_cells(pairing: Pairing) -> None:
    """See to it that the objective's maps come from one embedding for each cell (asked with noise: before a film of hours is played).

    Raises:
        InputError: they do not.
    """
    shape, rng = pairing.shape, rng_for(0, Purpose.EVALUATE, "cells")
    frames = 1 if pairing.modality == "frame" else shape.frames
    picture = rng.integers(256, size=(1, frames, 3, *shape.size)).astype(np.uint8)
    sound = (0.1 * rng.standard_normal((1, round(shape.seconds * shape.rate)))).astype(np.float32)
    if not pairing.compares_cells(pairing.encode(shape.video, picture), pairing.encode(shape.audio, sound)):
        raise InputError(
            f"objective {pairing.name} compares courses over time, not single cells with sounds: there are no maps for several sources; "
            "take a run of av_nce or avenet"
        )


def _cluster(
    points: NDArray[np.float32], weight: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit centres and each point's centre, heaviest first."""
    from sklearn.cluster import KMeans

    count = min(count, len(np.unique(points, axis=0)))
    fitted = KMeans(count, n_init=STARTS, random_state=0).fit(points, sample_weight=weight)  # type: ignore[arg-type]  # a string, say the stubs
    members: NDArray[np.int64] = np.asarray(fitted.labels_, dtype=np.int64)
    total = np.bincount(members, weights=weight, minlength=count)
    order = np.argsort(-total, kind="stable")
    centres = fitted.cluster_centers_[order]
    centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return centres.astype(np.float32), np.argsort(order)[members]


def _mean_cells(pairing: Pairing, video: Features) -> NDArray[np.float32]:
    return pairing.cells(video).mean(axis=1)


def _centre(pairing: Pairing, files: Sequence[Path]) -> NDArray[np.float32]:
    waves: list[NDArray[np.float32]] = []
    length = round(pairing.shape.seconds * pairing.shape.rate)
    for path in files:
        try:
            pieces = list(
                play_wave(path, rate=pairing.shape.rate, chunk=pairing.shape.seconds, end=EXAMPLES * pairing.shape.seconds)
            )
        except MediaError as error:
            raise InputError(f"{path} serves as no example of a sound: {error}") from error
        whole = [piece for piece in pieces if len(piece) == length]
        # A sound shorter than the model's window: silence after it, as `localize` does at the end of a film.
        windows = whole or [np.pad(piece, (0, length - len(piece))) for piece in pieces[:1]]
        loud = [window for window in windows if level(window) >= SILENCE]
        if not loud:
            raise InputError(f"{path} serves as no example of a sound: it is silent")
        waves += loud
    # Evenly over all files, so that a long one does not outweigh the others by its beginning.
    chosen = np.unique(np.linspace(0, len(waves) - 1, min(EXAMPLES, len(waves))).round().astype(int))
    audio = pairing.encode(pairing.shape.audio, torch.from_numpy(np.stack([waves[i] for i in chosen])))
    mean = pairing.embed(pairing.shape.audio, audio).mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)
