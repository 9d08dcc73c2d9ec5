"""How hard a toy world is: one frozen dataclass of plain numbers, and presets by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal, get_args

from mmssl.types import InputError

Cut = Literal["sound_from_other_clip", "sound_shifted", "captions_shuffled", "frozen", "silent_only", "turned"]
CUTS: tuple[Cut, ...] = get_args(Cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """What is drawn in a toy world. Shares are probabilities (0 to 1); lengths are pixels of a picture 128 px wide.

    Lengths scale with `size`, so that a world of 256 px looks like one of 128 px, only finer.
    """

    size: int = 128  # side of the square picture, pixels, even
    fps: int = 25
    seconds: float = 4.0
    rate: int = 16_000  # samples a second; the sound is stereo
    sounders: int = 1  # objects in view that sound, in every clip
    silent_min: int = 1  # objects in view that make no sound
    silent_max: int = 3
    radius_min: float = 13.0
    radius_max: float = 22.0  # a larger object sounds lower
    shape_agreement: float = 0.9  # objects that have their material's own shape; the others have any other shape
    hue_agreement: float = 0.8  # the same for the hue
    twins: float = 0.3  # clips in which a silent object has a sounder's hue
    muted: float = 0.25  # clips whose sound track is digital silence
    background_contrast: float = 0.6  # 0: plain grey, 1: as strong as the objects
    camera: float = 4.0  # amplitude of the camera's motion, pixels
    snr_db: float = 20.0  # mean power of the objects' sound over that of the background noise
    offscreen: float = 0.2  # clips in which another material sounds from outside the view
    caption_slack: float = 0.4  # largest error of a caption's times, seconds
    falling: float = 0.5  # clips in which things fall; in the others nothing says which way is down
    restitution: float = 1.0  # speed that an impact leaves, as a share; below 1 films look different backwards

    def __post_init__(self) -> None:
        for name in ("shape_agreement", "hue_agreement", "twins", "muted", "background_contrast", "offscreen", "falling"):
            self._require(name, 0.0, 1.0)
        self._require("size", 32, 1024)
        self._require("fps", 1, 120)
        self._require("seconds", 1.0, 60.0)
        self._require("rate", 8_000, 48_000)
        self._require("sounders", 1, 4)
        self._require("silent_min", 0, self.silent_max)
        self._require("silent_max", 0, 6)
        self._require("radius_min", 4.0, self.radius_max)
        self._require("radius_max", 4.0, 30.0)
        self._require("camera", 0.0, 12.0)
        self._require("snr_db", -20.0, 80.0)
        self._require("caption_slack", 0.0, 2.0)
        self._require("restitution", 0.5, 1.0)
        if self.size % 2:
            raise InputError(f"difficulty.size is {self.size}; H.264 with 4:2:0 colour needs an even size")
        if self.twins > 0 and self.silent_max == 0:
            raise InputError(f"difficulty.twins is {self.twins}, which needs silent objects; raise silent_max or set twins to 0")

    def _require(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise InputError(f"difficulty.{name} is {value}; it must lie in {low} to {high}")

    @property
    def frames(self) -> int:
        """Pictures in a clip."""
        return round(self.seconds * self.fps)

    @property
    def samples(self) -> int:
        """Samples in each channel of a clip."""
        return round(self.seconds * self.rate)

    @property
    def scale(self) -> float:
        """Pixels of this picture for each pixel of a picture 128 px wide."""
        return self.size / 128

    def as_dict(self) -> dict[str, float]:
        """Field name -> value, for the stamp of a corpus.

        Without those of `_LATER` that have the value of every corpus from before there was a choice: those stay valid.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != _LATER.get(name)}


_LATER: Mapping[str, float] = MappingProxyType({"falling": 0.5, "restitution": 1.0})


_DEFAULT = Difficulty()

PRESETS: Mapping[str, Difficulty] = MappingProxyType(
    {
        "easy": replace(
            _DEFAULT,
            silent_max=1,
            shape_agreement=1.0,
            hue_agreement=1.0,
            twins=0.0,
            muted=0.0,
            background_contrast=0.25,
            camera=0.0,
            snr_db=40.0,
            offscreen=0.0,
        ),
        "default": _DEFAULT,
        "twins": replace(_DEFAULT, twins=1.0),
        "two_sounders": replace(_DEFAULT, sounders=2, silent_max=2),
        "noisy": replace(_DEFAULT, snr_db=5.0, offscreen=0.6),
        "lossy": replace(_DEFAULT, restitution=0.6),
        "falling": replace(_DEFAULT, falling=1.0),
        "hard": replace(_DEFAULT, silent_min=2, silent_max=4, hue_agreement=0.6, twins=0.5, background_contrast=1.0),
    }
)


def find_difficulty(difficulty: str | Difficulty) -> Difficulty:
    """The preset of that name, or the difficulty itself. Raises `InputError` for an unknown name."""
    if isinstance(difficulty, Difficulty):
        return difficulty
    if difficulty not in PRESETS:
        raise InputError(f"there is no difficulty named {difficulty!r}; known: {', '.join(PRESETS)}")
    return PRESETS[difficulty]


def find_cut(cut: str | None) -> Cut | None:
    """The switch of that name; None is no cut. Raises `InputError` for an unknown name."""
    for known in CUTS:
        if cut == known:
            return known
    if cut is not None:
        raise InputError(f"there is no cut named {cut!r}; known: {', '.join(CUTS)}")
    return None
