"""The words that every room of mmssl shares: sources, requests, plans, features, losses.

Times are seconds on the *presentation clock* of a file: 0.0 is the container's start time (the earliest moment that a
player would show or sound), whatever time stamps the file itself begins with. Sizes are pixels. No `torch.nn` here.

Shape letters used throughout: N clips in a batch, T frames, H rows, W columns, D features, F frequency bands, L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:  # the command line imports this module for its errors: seconds of `--help` hang on it
    import numpy as np
    from torch import Tensor

Modality = Literal["frame", "video", "audio", "text", "flow"]
Backend = Literal["pyav", "decord", "torchcodec"]


class Span(NamedTuple):
    """A stretch of time in seconds, `start <= t < end`."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Length; 0.0 where the span is empty."""
        return max(0.0, self.end - self.start)

    def overlap(self, other: Span) -> Span:
        """The time that both spans cover (possibly empty: `seconds == 0.0`)."""
        return Span(max(self.start, other.start), min(self.end, other.end))


class Box(NamedTuple):
    """A rectangle in fractions (0 to 1) of the picture as displayed: after rotation and pixel aspect ratio."""

    left: float
    top: float
    width: float
    height: float


class Cue(NamedTuple):
    """One caption: `start` and `end` in seconds, plain text without markup."""

    start: float
    end: float
    text: str


LOUDNESS_HOP = 0.1  # seconds that one value of `Source.loudness` covers
MOTION_HOP = 0.25  # seconds that one value of `Source.motion` covers
MOTION_STEP = 0.125  # seconds between the two pictures of which it is the difference


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """Optical flow that `mmssl prepare --flow` computed once, of all moments of a film: what `Flow` requests of its method and step are answered from."""

    path: Path
    step: float  # seconds
    method: str  # as in `Flow`


@dataclass(frozen=True, slots=True)
class Source:
    """What the index knows about one file. No pixels, no samples.

    `loudness` holds the RMS level in dBFS of each `LOUDNESS_HOP` seconds of sound, counted from time 0.0 (not from the
    start of the audio stream); it is empty where the index was told not to measure it. `motion` holds for each `MOTION_HOP`
    seconds, counted likewise, the mean absolute change of brightness (0 to 255) between pictures `MOTION_STEP` apart, of
    the picture shrunk to a short side of 64 pixels; it is empty unless the index was told to measure it.
    """

    id: str  # path under the root, posix, without suffix: stable across machines
    path: Path
    fps: float = 0.0  # average frames per second; 0.0 where there is no picture
    width: int = 0  # as displayed
    height: int = 0
    video: Span | None = None  # when the picture stream has frames
    audio: Span | None = None  # when the sound stream has samples
    cues: tuple[Cue, ...] = ()
    loudness: tuple[float, ...] = ()
    motion: tuple[float, ...] = ()
    flow: StoredFlow | None = None

    @property
    def has_video(self) -> bool:
        """Whether there is a decodable picture stream (cover art is none)."""
        return self.video is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is a decodable sound stream (it may still be silent: see `loudness`)."""
        return self.audio is not None

    @property
    def duration(self) -> float:
        """The last moment at which anything is shown, heard or said, in seconds."""
        ends = [span.end for span in (self.video, self.audio) if span is not None]
        return max(ends) if ends else max((cue.end for cue in self.cues), default=0.0)


@dataclass(frozen=True, slots=True)
class Frames:
    """Ask for the pictures shown at `times` -> uint8 (T, 3, height, width), RGB.

    `size` is the side of a square, or (height, width). `box` is cut from the displayed picture and then resized to `size`;
    None takes the largest centred box of the output's own aspect ratio.
    """

    times: tuple[float, ...]
    size: int | tuple[int, int]
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Wave:
    """Ask for mono sound -> float32 (round(rate * seconds),), in [-1, 1], beginning with the sample at `start`."""

    start: float
    seconds: float
    rate: int


@dataclass(frozen=True, slots=True)
class Text:
    """Ask for texts as token ids -> int64 (len(texts), length), cut off or padded at the end.

    A text may be a pair, which the tokenizer joins as it joins two segments. A text may hold the tokenizer's special tokens by their
    names ("[MASK]"). `tokenizer` is the path or name that `mmssl.data.tokens.load_tokenizer` takes. No file is opened for it.
    """

    texts: tuple[str | tuple[str, str], ...]
    length: int
    tokenizer: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Ask for the optical flow from the pictures at `times` to those `step` seconds later -> float16 (T, 2, height, width).

    Channel 0 points right, channel 1 down, in pixels of the output for one `step`. `size` and `box` as in `Frames`. `method`: "dis"
    (OpenCV, no weights) or "raft" (torchvision, where its weights are at hand).
    """

    times: tuple[float, ...]
    step: float
    size: int | tuple[int, int]
    box: Box | None = None
    method: str = "dis"


Request = Frames | Wave | Text | Flow


@dataclass(frozen=True, slots=True)
class Plan:
    """What one objective wants of one source: named requests, and labels that go into its batch beside the answers."""

    requests: Mapping[str, Request]
    labels: Mapping[str, int | float] = field(default_factory=dict)


class Views(ABC):
    """How an objective cuts a source. Subclasses are frozen dataclasses of plain numbers: pure, hashable, picklable.

    Two objectives whose views compare equal receive the same cuts, so that one decode and one encoder pass serve both.
    Views that read `Source.motion` set `needs_motion`: the index then measures it, and other runs do not see it.
    """

    needs_motion: ClassVar[bool] = False

    @abstractmethod
    def reject(self, source: Source) -> str | None:
        """Why this source can never be cut (a short reason that groups well when counted), or None where it can."""

    @abstractmethod
    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw one cut of an accepted source. All randomness comes from `rng`."""

    def whole(self, source: Source) -> Box | None:
        """The part of the picture that evaluation looks at, where training draws crops; None: its largest centred square."""
        del source
        return None


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What an encoder was built to take; 0 means "any" or "does not apply"."""

    size: int = 0  # pixels, side of the square
    frames: int = 0
    fps: float = 0.0
    rate: int = 0  # samples a second
    seconds: float = 0.0
    tokens: int = 0  # longest text
    tokenizer: str = ""  # path or name, as `Text.tokenizer`


class Features(NamedTuple):
    """What an encoder gives: one vector for each clip, and the grid from which it was pooled."""

    pooled: Tensor  # (N, D)
    grid: Tensor  # frame, video and flow (N, T, H, W, D); audio (N, T, F, D); text (N, L, D)
    valid: Tensor | None = None  # bool, grid's shape without D; None: all of it

    def rows(self, which: Tensor) -> Features:
        """The features of the rows `which` (M,), in that order."""
        return self.each(lambda part: part[which])

    def each(self, change: Callable[[Tensor], Tensor]) -> Features:
        """`change` done to every part that there is; it must treat all of them alike, rows first."""
        return Features(change(self.pooled), change(self.grid), None if self.valid is None else change(self.valid))


@dataclass(slots=True)
class Loss:
    """What an objective gives back for one batch.

    Well-known metric names, which the trainer, the display and the warnings understand:
    `accuracy` and `accuracy/chance` (any `<name>` with `<name>/chance`), `spread/<role>` (mean standard deviation of the
    unit-length embeddings over the batch times sqrt(D): 1 is uniform on the sphere, 0 is collapse), `cosine/positive`,
    `cosine/negative`.
    """

    value: Tensor  # scalar, mean over this rank's rows
    metrics: dict[str, Tensor] = field(default_factory=dict)  # detached scalars on the device, never .item() here
    carry: dict[str, Tensor] = field(default_factory=dict)  # detached rows (n, ...), gathered over ranks for after_step


class MediaError(Exception):
    """A file that cannot give what was asked of it. The text says which file, what was asked, what there is."""


class InputError(Exception):
    """Bad input or configuration, in one clear sentence with the value, the limit and the next move (exit status 2)."""
