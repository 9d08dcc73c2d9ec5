"""The ground truth beside each clip: an `.npz` that plain NumPy reads, and `Truth`, which answers questions about it.

Members of the file, T frames, K objects, E events, C captions, a square of H = W pixels:
`toyworld` JSON text (version, seed, index, cut, muted, difficulty); `labels` uint8 (T, H, W), 0 background, k + 1 object k;
`layers` float64 (T, 1 + K, 2, 3), affine maps from background and objects to the view; `positions` float32 (T, K, 2), centres (x, y);
`radii` float32 (K,); `materials`, `shapes`, `hues` text (K,); `impact_*` time, object, other (-2 left, -3 right, -4 ceiling, -5 floor);
`sound_*` time, object (-1: not in view), material, strength, pan (E,); `caption_start`, `caption_end`, `caption_text` (C,).
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.data.toyworld.clip import Clip
from mmssl.data.toyworld.materials import HUES, MATERIALS, SHAPES
from mmssl.data.toyworld.picture import Pictures
from mmssl.types import Cue, MediaError

VERSION = 3  # of the world: raised whenever the same seed gives other pixels, samples or truth
_MARK = "toyworld"
_LEVEL = 3  # of deflate: half the size of level 1 for the same time, level 6 costs three times as much
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time stamp of every member, so that the same truth gives the same bytes


@dataclass(frozen=True, slots=True)
class TruthSound:
    """A strike that is heard: `time` in seconds; `body` the object's number, or -1 where it is not in view."""

    time: float
    body: int
    material: str
    strength: float
    pan: float


@dataclass(frozen=True, slots=True)
class TruthImpact:
    """A strike, heard or not; `other` is the other object, or -2 left wall, -3 right wall, -4 ceiling, -5 floor."""

    time: float
    body: int
    other: int


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Everything that is known about one clip. Times are seconds on the presentation clock; positions are pixels (x, y)."""

    seed: int
    index: int
    cut: str | None
    muted: bool
    difficulty: dict[str, Any]
    fps: int
    labels: np.ndarray  # uint8 (T, H, W): 0 background, k + 1 where object k is what is seen
    layers: np.ndarray  # float64 (T, 1 + K, 2, 3)
    positions: np.ndarray  # float32 (T, K, 2)
    radii: np.ndarray  # float32 (K,)
    materials: tuple[str, ...]
    shapes: tuple[str, ...]
    hues: tuple[str, ...]
    impacts: tuple[TruthImpact, ...]
    sounds: tuple[TruthSound, ...]
    captions: tuple[Cue, ...]

    @property
    def sounders(self) -> tuple[int, ...]:
        """Numbers of the objects in view that are heard in this clip; empty where it is muted or cut from its sound."""
        return tuple(sorted({sound.body for sound in self.sounds if sound.body >= 0}))

    def frame_at(self, time: float) -> int:
        """Number of the frame that is shown at `time`; times outside the clip give its first or last frame."""
        return min(max(int(time * self.fps + 1e-6), 0), len(self.labels) - 1)

    def mask(self, body: int, frame: int) -> np.ndarray:
        """Visible pixels of object `body` in `frame`, bool (H, W)."""
        return self.labels[frame] == body + 1

    def sounding(self, start: float, end: float) -> tuple[int, ...]:
        """Numbers of the objects in view that are struck audibly in `start <= t < end`."""
        return tuple(sorted({sound.body for sound in self.sounds if sound.body >= 0 and start <= sound.time < end}))

    def sounding_mask(self, time: float, *, window: float | None = None) -> np.ndarray:
        """Visible pixels at `time` of the objects that sound, bool (H, W).

        They are the clip's `sounders`, or only those that are struck within `window` seconds centred on `time`. The mask is empty
        where nothing in view sounds, and, rarely, where the sounding object is hidden behind another.
        """
        bodies = self.sounders if window is None else self.sounding(time - window / 2, time + window / 2)
        return np.isin(self.labels[self.frame_at(time)], [body + 1 for body in bodies])

    def flow(self, frame: int, ahead: int = 1) -> np.ndarray:
        """Exact motion from `frame` to the frame `ahead` of it: float32 (2, H, W), displacement (x, y) in pixels of what each pixel shows."""
        if ahead < 1 or not 0 <= frame < len(self.labels) - ahead:
            raise IndexError(
                f"flow({frame}, {ahead}) of a clip with {len(self.labels)} frames; frames 0 to {len(self.labels) - 1 - ahead} have one so far ahead"
            )
        now = np.zeros((self.layers.shape[1], 3, 3))
        now[:, :2], now[:, 2, 2] = self.layers[frame], 1
        # after now^-1 - 1, written so that what stands still moves by exactly 0
        step = (self.layers[frame + ahead] - self.layers[frame]) @ np.linalg.inv(now)  # (1 + K, 2, 3): pixel now -> displacement
        height, width = self.labels.shape[1:]
        ys, xs = np.mgrid[:height, :width]
        a = step[self.labels[frame]]  # (H, W, 2, 3)
        return np.moveaxis(a[..., 0] * xs[..., None] + a[..., 1] * ys[..., None] + a[..., 2], 2, 0).astype(np.float32)

    def stays_visible(self, frame: int, ahead: int = 1) -> np.ndarray:
        """Pixels of `frame` whose point is seen in the frame `ahead` of it too (neither hidden nor out of view), bool (H, W)."""
        flow, (height, width) = self.flow(frame, ahead), self.labels.shape[1:]
        ys, xs = np.mgrid[:height, :width]
        x, y = np.rint(xs + flow[0]).astype(int), np.rint(ys + flow[1]).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        there = self.labels[frame + ahead][np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        return inside & (there == self.labels[frame])


def truth_path(video: Path) -> Path:
    """Where the truth of a clip lies."""
    return Path(video).with_suffix(".npz")


def load_truth(video: Path) -> Truth | None:
    """The ground truth beside a video; None where there is none (or where the `.npz` beside it is somebody else's).

    Raises `MediaError` for a truth that cannot be read: an evaluation must not quietly go without it.
    """
    path = truth_path(video)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
            if _MARK not in members:
                return None
            return _from_members({name: members[name] for name in members.files})
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError) as error:
        raise MediaError(f"{path} does not hold a readable ground truth ({error!r}); make the toy world again") from error


def truth_bytes(clip: Clip, pictures: Pictures) -> bytes:
    """The content of a clip's `.npz`."""
    things, sounds, impacts = clip.seen.things, clip.sounds, clip.seen.impacts
    about = {
        "version": VERSION,
        "seed": clip.seed,
        "index": clip.index,
        "cut": clip.cut,
        "muted": clip.heard.muted,
        "difficulty": clip.difficulty.as_dict(),
    }
    frozen = clip.frozen_at is not None  # nothing strikes anything in a picture that stands still
    members = {
        _MARK: np.array(json.dumps(about)),
        "labels": pictures.labels,
        "layers": pictures.layers,
        "positions": pictures.positions.astype(np.float32),
        "radii": np.array([thing.radius for thing in things], np.float32),
        "materials": np.array([MATERIALS[thing.material].name for thing in things]),
        "shapes": np.array([SHAPES[thing.shape] for thing in things]),
        "hues": np.array([HUES[thing.hue] for thing in things]),
        "impact_time": np.array([impact.time for impact in impacts if not frozen], np.float64),
        "impact_object": np.array([impact.body for impact in impacts if not frozen], np.int16),
        "impact_other": np.array([impact.other for impact in impacts if not frozen], np.int16),
        "sound_time": np.array([sound.time for sound in sounds], np.float64),
        "sound_object": np.array([sound.body for sound in sounds], np.int16),
        "sound_material": np.array([MATERIALS[sound.material].name for sound in sounds], "U16"),
        "sound_strength": np.array([sound.strength for sound in sounds], np.float32),
        "sound_pan": np.array([sound.pan for sound in sounds], np.float32),
        "caption_start": np.array([cue.start for cue in clip.captions], np.float64),
        "caption_end": np.array([cue.end for cue in clip.captions], np.float64),
        "caption_text": np.array([cue.text for cue in clip.captions], "U"),
    }
    return _pack(members)


def _pack(members: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, _LEVEL)
    return file.getvalue()


def _from_members(members: dict[str, np.ndarray]) -> Truth:
    about = json.loads(str(members[_MARK]))

    def columns(prefix: str, *names: str) -> list[tuple[Any, ...]]:
        return list(zip(*(members[f"{prefix}_{name}"].tolist() for name in names), strict=True))

    return Truth(
        seed=about["seed"],
        index=about["index"],
        cut=about["cut"],
        muted=about["muted"],
        difficulty=about["difficulty"],
        fps=about["difficulty"]["fps"],
        labels=members["labels"],
        layers=members["layers"],
        positions=members["positions"],
        radii=members["radii"],
        materials=tuple(members["materials"].tolist()),
        shapes=tuple(members["shapes"].tolist()),
        hues=tuple(members["hues"].tolist()),
        impacts=tuple(TruthImpact(*row) for row in columns("impact", "time", "object", "other")),
        sounds=tuple(TruthSound(*row) for row in columns("sound", "time", "object", "material", "strength", "pan")),
        captions=tuple(Cue(*row) for row in columns("caption", "start", "end", "text")),
    )
