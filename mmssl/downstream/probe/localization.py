"""Sound localization on a public test set, by its published measures and beside what hears nothing.

A model sees the whole picture, squeezed into its own square (as the published evaluations squeeze it into 224 x 224), and hears the
middle 3 seconds of the sound (as Mo and Morgado, ECCV 2022 and NeurIPS 2022, do): windows of its own length that overlap by half, whose maps
and scores are averaged. Maps are judged at 224 x 224.

Published: cIoU (share of clips whose consensus IoU reaches 0.5, the region being the map's upper half of pixels) and AUC; on extended sets
average precision, max-F1 and LocAcc, with the mean of the map's highest quarter of pixels as the confidence. Beside them: the mean
consensus IoU, the pointing game, IoU at fixed thresholds, and average precision by the model's own correspondence score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mmssl.data.container import open_media
from mmssl.data.playback import play_frames, read_wave
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.galleries import entry_of
from mmssl.downstream.heatmap import Placement
from mmssl.downstream.metrics.baselines import centre_map, object_prior_map
from mmssl.downstream.metrics.intervals import bootstrap, proportion
from mmssl.downstream.metrics.localization import (
    SIDE,
    SUCCESS,
    auc,
    consensus_iou,
    median_regions,
    pointing_hits,
    region_ious,
    silent_negatives,
)
from mmssl.downstream.pairing import CutShape, Pairing
from mmssl.downstream.probe.localization_sets import PICTURES, ClipSet, Item
from mmssl.types import Features, InputError, MediaError

HEARD = 3.0  # seconds of sound
BATCH = 32
THRESHOLDS = (0.3, 0.5, 0.7)  # of min-max maps
DRAWS = 300  # of the bootstrap of average precision

Numbers = NDArray[np.float64]


@dataclass(slots=True)
class Judged:
    """What one kind of map scored, clip by clip."""

    ciou: list[float] = field(default_factory=list)
    pointing: list[float] = field(default_factory=list)  # NaN where the truth has no pixel
    ious: list[list[float]] = field(default_factory=list)  # by `THRESHOLDS`
    confidence: list[float] = field(default_factory=list)  # the mean of the highest quarter

    def add(self, maps: NDArray[Any], truths: NDArray[Any]) -> None:
        """Maps and truths (n, 224, 224)."""
        self.ciou += consensus_iou(median_regions(maps), truths).tolist()
        self.pointing += pointing_hits(maps, truths).tolist()
        self.ious += np.stack([region_ious(maps, truths, t) for t in THRESHOLDS], axis=1).tolist()
        flat = np.asarray(maps, dtype=np.float32).reshape(len(maps), -1)
        quarter = flat.shape[1] // 4
        self.confidence += np.sort(flat, axis=1)[:, -quarter:].mean(axis=1, dtype=np.float64).tolist()


def probe_localization(
    pairing: Pairing,
    data: ClipSet,
    *,
    allow_missing: bool = False,
    calibration: Calibration | None = None,
    on_clips: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Figures of a model on a test set, plain values ready for JSON.

    Args:
        pairing: an objective that localizes.
        data: of `mmssl.downstream.probe.localization_sets`.
        allow_missing: evaluate what is there of it.
        calibration: of the run; with it the model's claims are judged, too.
        on_clips: told how many clips were done.

    Raises:
        InputError: clips of the protocol are missing, or cannot be read, and that is not allowed.
    """
    data.demand(allow_missing=allow_missing)
    missing, done, scores = dict(data.missing), [], []
    judged: dict[str, Judged] = {name: Judged() for name in ("model", "object_prior", "centre", "wrong_sound")}
    groups = np.array_split(np.arange(len(data.items)), max(1, len(data.items) // BATCH))  # none with a single clip, if possible
    for group in groups:
        read = list(_read([data.items[i] for i in group], data, pairing.shape, missing))
        if on_clips is not None:
            on_clips(len(group))
        if len(missing) > len(data.missing) and not allow_missing:  # now, not after hours
            ClipSet(data.protocol, data.extended, tuple(i for i in data.items if i.id not in missing), missing).demand(
                allow_missing=False
            )
        if read:
            done += [item for item, _, _ in read]
            scores += _judge(pairing, read, data.protocol.consensus, judged)
    found = ClipSet(data.protocol, data.extended, tuple(done), missing)
    found.demand(allow_missing=allow_missing)  # there may be nothing left
    there = np.array([not item.negative for item in done])
    return {
        "data": found.name,
        "complete": found.complete,
        "clips": len(done),
        "with_source": int(there.sum()),
        "missing": missing,
        "heard_seconds": max(HEARD, pairing.shape.seconds),
        "window_seconds": pairing.shape.seconds,
        "maps": {name: _figures(one, there) for name, one in judged.items() if len(one.ciou) == len(done)},
        **_own_confidence(judged["model"], np.array(scores), there, calibration),
    }


def windows_of(wave: NDArray[np.float32], shape: CutShape, middle: float | None) -> NDArray[np.float32]:
    """Windows (n, samples) of the model's length that cover `HEARD` seconds around `middle` (None: the sound's own).

    They overlap by half, or more where that fits evenly. A sound shorter than a window is repeated, as the published evaluations do.
    """
    length = round(shape.seconds * shape.rate)
    if len(wave) < length:
        wave = np.tile(wave, -(-length // len(wave)))
    heard = min(len(wave), max(length, round(HEARD * shape.rate)))
    centre = len(wave) / 2 if middle is None else middle * shape.rate
    first = int(np.clip(round(centre - heard / 2), 0, len(wave) - heard))
    count = 1 if heard == length else 1 + -(-2 * (heard - length) // length)
    starts = np.linspace(first, first + heard - length, count).round().astype(int)
    return np.stack([wave[start : start + length] for start in starts])


def _read(
    items: Sequence[Item], data: ClipSet, shape: CutShape, missing: dict[str, str]
) -> Iterator[tuple[Item, NDArray[np.uint8], NDArray[np.float32]]]:
    for item in items:
        try:
            moment = data.protocol.moment if item.picture.suffix.lower() not in PICTURES else None
            pictures = _pictures(item.picture, shape, moment)
            own = item.sound == item.picture
            yield item, pictures, windows_of(_sound(item.sound, shape.rate), shape, moment if own else None)
        except (MediaError, InputError) as error:
            missing[item.id] = str(error)


def _pictures(path: Path, shape: CutShape, moment: float | None) -> NDArray[np.uint8]:
    """(T, 3, H, W) in the model's square; a still picture stands still for a model of clips."""
    if path.suffix.lower() in PICTURES:
        try:
            with Image.open(path) as image:
                frames = [np.asarray(image.convert("RGB"))] * shape.frames
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise MediaError(f"{path} is no picture that can be read: {error}") from error
    else:
        seconds = _seconds(path)
        middle = moment if moment is not None and moment < seconds else seconds / 2
        start = max(0.0, middle - shape.spacing * ((shape.frames - 1) // 2))
        rate = 1 / shape.spacing if shape.spacing else 1.0
        frames = [picture for _, picture in islice(play_frames(path, fps=rate, start=start), shape.frames)]
        frames += [frames[-1]] * (shape.frames - len(frames))
    height, width = shape.size
    squeezed = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(squeezed).transpose(0, 3, 1, 2).astype(np.uint8)


def _seconds(path: Path) -> float:
    with open_media(path) as container:
        return (container.duration or 0) / 1_000_000


def _sound(path: Path, rate: int) -> NDArray[np.float32]:
    wave = read_wave(path, rate)
    if not len(wave):
        raise MediaError(f"{path} has no sound that can be decoded")
    return wave


def _judge(
    pairing: Pairing,
    read: Sequence[tuple[Item, NDArray[np.uint8], NDArray[np.float32]]],
    consensus: int,
    judged: dict[str, Judged],
) -> list[float]:
    """Judge all kinds of maps; the model's own scores."""
    shape, encoder = pairing.shape, pairing.encoders[pairing.shape.video]
    video = pairing.encode(shape.video, np.stack([pictures for _, pictures, _ in read]))
    truths = np.stack([item.boxes.truth(consensus=consensus) for item, _, _ in read])
    own, scores = _heard(pairing, video, [sound for _, _, sound in read])
    place = Placement(own.shape[1:3], offset=encoder.grid_offset, stride=encoder.grid_stride, seen=shape.size, shown=(SIDE, SIDE))
    kinds = {
        "model": own,
        "object_prior": object_prior_map(video.grid.numpy()).mean(axis=1),
    }
    if len(read) > 1:
        kinds["wrong_sound"], _ = _heard(pairing, video, [read[i - 1][2] for i in range(len(read))])
    for name, maps in kinds.items():
        judged[name].add(np.stack([place(values) for values in maps]), truths)
    judged["centre"].add(np.broadcast_to(centre_map(SIDE, SIDE), truths.shape), truths)
    return scores


def _heard(pairing: Pairing, video: Features, sounds: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], list[float]]:
    """Maps (n, h, w) and scores, averaged over each clip's windows of sound."""
    audio = pairing.encode(pairing.shape.audio, np.concatenate(sounds))
    owner = np.repeat(np.arange(len(sounds)), [len(windows) for windows in sounds])
    rows = Features(video.pooled[owner], video.grid[owner], None if video.valid is None else video.valid[owner])
    maps = pairing.maps(rows, audio).mean(axis=1)
    scores = pairing.scores(video, audio)[owner, np.arange(len(owner))]
    mean = [np.flatnonzero(owner == i) for i in range(len(sounds))]
    return np.stack([maps[i].mean(axis=0) for i in mean]), [float(scores[i].mean()) for i in mean]


def _figures(one: Judged, there: NDArray[np.bool_]) -> dict[str, Any]:
    ciou, confidence = np.array(one.ciou), np.array(one.confidence)
    own = ciou[there]
    pointing, ious = np.array(one.pointing)[there], np.array(one.ious)[there]
    drawn = ~np.isnan(pointing)  # boxes without any area are in the published sets; nothing can point at them
    figures: dict[str, Any] = {
        "ciou": entry_of(proportion((own >= SUCCESS).astype(float))),
        "auc": entry_of(bootstrap(own, lambda rows: auc(rows))),
        "mean_ciou": entry_of(bootstrap(own)),
        "pointing": entry_of(proportion(pointing[drawn])),
        "iou": {f"{t:g}": entry_of(bootstrap(ious[drawn, k])) for k, t in enumerate(THRESHOLDS)},
    }
    if not there.all():
        figures |= detection(ciou, confidence, there)
    return figures


def detection(ious: Numbers, confidence: Numbers, there: NDArray[np.bool_]) -> dict[str, Any]:
    """Average precision, max-F1 and LocAcc of sets with silent negatives, and precision where a misplaced detection is missed, too."""
    rows = np.stack([ious, confidence, there.astype(float)], axis=1)

    def of(part: int, *, missed: bool = False) -> Callable[[Numbers], float]:
        def measure(drawn: Numbers) -> float:
            has = drawn[:, 2] > 0
            return float(silent_negatives(drawn[:, 0], drawn[:, 1], has, misplaced_is_missed=missed)[part]) if has.any() else 0.0

        return measure

    return {
        "average_precision": entry_of(bootstrap(rows, of(0), draws=DRAWS)),
        "max_f1": entry_of(bootstrap(rows, of(1), draws=DRAWS)),
        "loc_acc": entry_of(proportion((ious[there] >= SUCCESS).astype(float))),
        "average_precision_misplaced_missed": entry_of(bootstrap(rows, of(0, missed=True), draws=DRAWS)),
    }


def _own_confidence(model: Judged, scores: Numbers, there: NDArray[np.bool_], scale: Calibration | None) -> dict[str, Any]:
    """What the model's own scores say of what is in view; nothing where all clips have a source."""
    if there.all():
        return {}
    found: dict[str, Any] = {"by_score": detection(np.array(model.ciou), scores, there)}
    if scale is not None:
        claimed = scores >= scale.threshold
        found["claims"] = {
            "in_view_when_it_is": entry_of(proportion(claimed[there].astype(float))),
            "not_in_view_when_it_is_not": entry_of(proportion((~claimed[~there]).astype(float))),
        }
    return found
