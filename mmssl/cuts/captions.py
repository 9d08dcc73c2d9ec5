"""Ways to cut a film by its captions: a clip with the captions nearest to it, and a window with all captions that fall into it.

Times are seconds on the presentation clock. Captions are said about what is seen near them, seldom exactly then, so a clip comes with
a bag of candidates (Miech et al., "End-to-End Learning of Visual Representations from Uncurated Instructional Videos", CVPR 2020,
arXiv:1912.06430, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mmssl.cuts.passages import LONGEST_SENTENCE, check_pause, resolve_text
from mmssl.cuts.pictures import WHOLE, check_crop, check_region, draw_box, even_times, fill_size, region_box, region_problem
from mmssl.nn.augment import FrameAugment
from mmssl.types import Box, Cue, Frames, InputError, InputSpec, Plan, Source, Span, Text, Views

TRIES = 32  # draws of a window before one that holds too few captions is given up
# Captions name colours and sides, so neither hue nor left and right may change under them.
CAPTION_AUGMENT = FrameAugment(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.0, flip=0.0)


def usable_cues(source: Source, pause: float = 0.0) -> tuple[Cue, ...]:
    """The captions, in order of time, whose middle lies where there is picture; those less than `pause` seconds apart joined."""
    if source.video is None:
        return ()
    cues = joined_cues(tuple(cue for cue in source.cues if cue.text.strip()), pause)
    return tuple(cue for cue in cues if source.video.start <= _middle(cue) < source.video.end)


def joined_cues(cues: tuple[Cue, ...], pause: float) -> tuple[Cue, ...]:
    """Join captions with less than `pause` seconds between them, up to `LONGEST_SENTENCE` words; 0 joins none.

    Word by word alignments become sentences so.
    """
    joined: list[Cue] = []
    for cue in sorted(cues):
        if joined and cue.start - joined[-1].end < pause and len(joined[-1].text.split()) < LONGEST_SENTENCE:
            joined[-1] = Cue(joined[-1].start, max(joined[-1].end, cue.end), f"{joined[-1].text} {cue.text}")
        else:
            joined.append(cue)
    return tuple(joined)


def nearest_cues(cues: tuple[Cue, ...], time: float, count: int) -> tuple[Cue, ...]:
    """At most `count` captions of different text, nearest to `time` first: by the gap to their span, then to their middle.

    At the ends of a film there are fewer on one side, and none is taken twice.
    """
    order = sorted(cues, key=lambda cue: (max(cue.start - time, time - cue.end, 0.0), abs(_middle(cue) - time)))
    found: dict[str, Cue] = {}
    for cue in order:
        if cue.text not in found and len(found) < count:
            found[cue.text] = cue
    return tuple(found.values())


def _middle(cue: Cue) -> float:
    return (cue.start + cue.end) / 2


def _unusable(source: Source, views: CaptionViews | WindowViews, cues: tuple[Cue, ...], least: int, seconds: float) -> str | None:
    if source.video is None:
        return "no picture"
    if problem := region_problem(source, views.region):
        return problem
    if not cues:
        return "no captions"
    if len(cues) < least:
        return f"fewer than {least} captions"
    return None if source.video.seconds >= seconds else f"shorter than {seconds:.1f} s"


def _check_pictures(views: CaptionViews | WindowViews) -> None:
    if views.frames is not None and views.frames < 1:
        raise InputError(f"views.frames is {views.frames}; at least one frame is needed")
    check_crop(views.crop)
    check_region(views.region)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionViews(Views):
    """A clip somewhere in a caption's time, and the captions nearest to it.

    Requests `video` (T, 3, size, size) and `text` (P, length) token ids, nearest first; labels `captions`, how many of the P are there
    (the rest repeat the first and must not count), and `time`, the middle of the clip in seconds.

    None in `candidates`, `frames`, `fps`, `size`, `length`, `tokenizer` is filled in by `resolve`.
    """

    candidates: int | None = None  # P
    frames: int | None = None  # T; 4 where the encoder takes any number
    fps: float | None = None  # 5 where the encoder takes any; the clip lasts frames / fps
    size: int | None = None  # pixels
    length: int | None = None  # tokens of a caption
    tokenizer: str | None = None  # the text encoder's, by path or name
    pause: float = 0.0  # seconds; captions with less between them are joined
    crop: tuple[float, float] = (0.85, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        _check_pictures(self)
        if self.fps is not None and self.fps <= 0.0:
            raise InputError(f"views.fps is {self.fps}; give frames a second, above 0")
        check_pause(self.pause)
        if self.candidates is not None and self.candidates < 1:
            raise InputError(f"views.candidates is {self.candidates}; a clip needs at least one caption")

    def resolve(self, picture: InputSpec, text: InputSpec, *, candidates: int = 1) -> CaptionViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoders say, or where they differ."""
        length, tokenizer = resolve_text(self.length, self.tokenizer, text)
        return replace(
            self,
            candidates=self.candidates or candidates,
            frames=self.frames or picture.frames or 4,
            fps=self.fps or picture.fps or 5.0,
            size=fill_size(self.size, picture),
            length=length,
            tokenizer=tokenizer,
        )

    def reject(self, source: Source) -> str | None:
        """ "no picture", "no captions" (where there is picture), "shorter than 0.8 s", or no size to cut a region of."""
        frames, fps, *_ = self._numbers()
        return _unusable(source, self, usable_cues(source, self.pause), 1, frames / fps)

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw a caption, a clip whose middle lies in its time as far as the film's ends allow, and the crop."""
        frames, fps, size, count, length, tokenizer = self._numbers()
        assert source.video is not None
        cues = usable_cues(source, self.pause)
        cue = cues[int(rng.integers(len(cues)))]
        seconds = frames / fps
        start = rng.uniform(cue.start, cue.end) - seconds / 2
        start = float(min(max(start, source.video.start), source.video.end - seconds))
        time = start + seconds / 2
        bag = [near.text for near in nearest_cues(cues, time, count)]
        texts = bag + bag[:1] * (count - len(bag))
        return Plan(
            {
                "video": Frames(
                    even_times(start, seconds, frames, fps), size, draw_box(source, self.crop, rng, region=self.region)
                ),
                "text": Text(tuple(texts), length, tokenizer),
            },
            {"captions": len(bag), "time": time},
        )

    def _numbers(self) -> tuple[int, float, int, int, int, str]:
        if None in (self.frames, self.fps, self.size, self.candidates, self.length, self.tokenizer):
            raise InputError(f"{self} still has a None; call resolve with the encoders' specs first")
        assert self.frames and self.fps and self.size and self.candidates and self.length and self.tokenizer
        return self.frames, self.fps, self.size, self.candidates, self.length, self.tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowViews(Views):
    """A window of a film, cut into steps of equal length, and the captions whose middle falls into it, in order of time.

    Requests `video` (S * T, 3, size, size), T frames of each of S steps, and `text` (K, length); labels `captions`, how many of the K
    are there (the rest repeat the first and must not count), and for k = 0 to K - 1 `start_k` and `end_k`, the caption's time in seconds
    from the beginning of the window, cut off at its ends.

    The window begins anywhere, so a place in it is no place in the film. Where more than K captions fall into it, K in a row are drawn.
    None in `frames`, `size`, `length`, `tokenizer` is filled in by `resolve`.
    """

    seconds: float = 8.0  # of the window
    steps: int = 16  # S
    frames: int | None = None  # T, of each step; 1 where the encoder takes any number
    captions: int = 4  # K, at most; at least 2 are in every window
    size: int | None = None  # pixels
    length: int | None = None  # tokens of a caption
    tokenizer: str | None = None  # the text encoder's, by path or name
    crop: tuple[float, float] = (0.85, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at, shares of the picture

    def __post_init__(self) -> None:
        _check_pictures(self)
        if self.captions < 2 or self.steps < 2 * self.captions:
            raise InputError(
                f"views.captions is {self.captions}, views.steps is {self.steps}; give at least 2 captions, and two steps for each of them"
            )
        if self.seconds <= 0.0:
            raise InputError(f"views.seconds is {self.seconds}; give a length above 0")

    @property
    def hop(self) -> float:
        """Seconds of a step."""
        return self.seconds / self.steps

    def resolve(self, picture: InputSpec, text: InputSpec) -> WindowViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoders say, or where they differ."""
        length, tokenizer = resolve_text(self.length, self.tokenizer, text)
        frames = self.frames or picture.frames or 1
        return replace(self, frames=frames, size=fill_size(self.size, picture), length=length, tokenizer=tokenizer)

    def reject(self, source: Source) -> str | None:
        """ "no picture", "no captions", "fewer than 2 captions", "shorter than 8.0 s", "no two captions within 8.0 s", or no size to cut a region of."""
        cues = usable_cues(source)
        reason = _unusable(source, self, cues, 2, self.seconds)
        if reason is None and not self._close_pairs(cues):
            return f"no two captions within {self.seconds:.1f} s"
        return reason

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the window, which captions of it are taken, and the crop."""
        if self.frames is None or self.size is None or self.length is None or self.tokenizer is None:
            raise InputError(f"{self} still has a None; call resolve with the encoders' specs first")
        start, held = self._draw(source, rng)
        first = int(rng.integers(max(0, len(held) - self.captions) + 1))
        held = held[first : first + self.captions]
        labels: dict[str, int | float] = {"captions": len(held)}
        for k in range(self.captions):
            cue = held[k] if k < len(held) else held[0]
            labels[f"start_{k}"] = max(0.0, cue.start - start)
            labels[f"end_{k}"] = min(self.seconds, cue.end - start)
        texts = [cue.text for cue in held] + [held[0].text] * (self.captions - len(held))
        times: list[float] = []
        for step in range(self.steps):
            times += even_times(start + step * self.hop, self.hop, self.frames, self.frames / self.hop)
        box = draw_box(source, self.crop, rng, region=self.region)
        requests = {"video": Frames(tuple(times), self.size, box), "text": Text(tuple(texts), self.length, self.tokenizer)}
        return Plan(requests, labels)

    def _draw(self, source: Source, rng: np.random.Generator) -> tuple[float, tuple[Cue, ...]]:
        """Where the window begins, and the captions whose middle lies in it: uniform over all windows that hold two, nearly always."""
        assert source.video is not None
        cues, span = usable_cues(source), source.video
        for _ in range(TRIES):
            start = float(rng.uniform(span.start, span.end - self.seconds))
            held = self._held(cues, start)
            if len(held) >= 2:
                return start, held
        # Captions are rare: a window that holds two that follow one another, uniform over its places.
        pairs = self._close_pairs(cues)
        one, other = pairs[int(rng.integers(len(pairs)))]
        low = max(span.start, _middle(other) - self.seconds)
        high = min(_middle(one), span.end - self.seconds)
        start = float(rng.uniform(low, high))
        return start, self._held(cues, start) if low < start <= high else (one, other)

    def _held(self, cues: tuple[Cue, ...], start: float) -> tuple[Cue, ...]:
        window = Span(start, start + self.seconds)
        return tuple(sorted((cue for cue in cues if window.start <= _middle(cue) < window.end), key=_middle))

    def _close_pairs(self, cues: tuple[Cue, ...]) -> list[tuple[Cue, Cue]]:
        ordered = sorted(cues, key=_middle)
        return [(one, other) for one, other in pairwise(ordered) if _middle(other) - _middle(one) < self.seconds]
