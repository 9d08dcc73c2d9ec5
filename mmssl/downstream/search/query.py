"""A query: a text, an image, or a stretch of a film or a recording, embedded as the store's windows were."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mmssl.data.decode import answer
from mmssl.data.decode.picture import centred_box, cut
from mmssl.data.probe import probe
from mmssl.downstream.spaces import WORDS, Embedded, JointSpace, Kind, spread_cells
from mmssl.types import Frames, InputError, MediaError, Source, Span

MOST_WINDOWS = 64  # of a long query, evenly spread: it is summed up anyhow
QUERY_CELLS = 16  # cells of a query's pictures
BATCH = 32
_CLOCK = r"(?:\d+:)?(?:\d+:)?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"(?P<path>.+?):(?P<start>{_CLOCK})-(?P<end>{_CLOCK})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, embedded."""

    kind: Kind
    words: str  # what it is, for people
    vector: NDArray[np.float32]  # (D,), unit length: the mean over its windows
    cells: NDArray[np.float32] | None = None  # (K, D) of its pictures, where the objective scores by cells
    source: Source | None = None  # of a film or a recording, its streams cut to what was asked
    image: Path | None = None
    text: str = ""
    windows: int = 1


def text_query(space: JointSpace, text: str) -> Query:
    """Ask by words. Raises `InputError` where the space does not join text, or there are none."""
    space.check("text")
    if not text.strip():
        raise InputError("--text is empty; say what to look for")
    request = space.texts((text,))
    tokens = answer(Source("query", Path("query")), [request])[request]
    return Query("text", f'"{text}"', space.embed("text", tokens).vectors[0], text=text)


def image_query(space: JointSpace, path: Path) -> Query:
    """Ask by a still picture. An encoder of clips is shown it standing still.

    Raises:
        InputError: the space does not join pictures, no such file, or it is no image.
    """
    shape = space.check("video").shape
    assert isinstance(shape, Frames)
    pixels = read_image(path)
    height, width = pixels.shape[:2]
    size = (shape.size, shape.size) if isinstance(shape.size, int) else shape.size
    box = space.views.whole(Source("query", path, width=width, height=height)) or centred_box((width, height), size)
    picture = torch.from_numpy(np.ascontiguousarray(cut(pixels, box=box, size=size))).permute(2, 0, 1)
    found = space.embed("video", picture.expand(1, len(shape.times), -1, -1, -1), cells=QUERY_CELLS)
    return Query("video", f"the image {path}", found.vectors[0], None if found.cells is None else found.cells[0], image=path)


def media_query(space: JointSpace, kind: Kind, path: Path, span: Span | None = None, *, stride: float = 1.0) -> Query:
    """Ask by the picture, the sound or the motion of a file, or of a stretch of it.

    Args:
        space: the encoders.
        kind: "video", "audio" or "flow".
        path: of a film or a recording.
        span: seconds; None: all of it.
        stride: seconds from one window to the next; of long stretches fewer windows are taken.

    Raises:
        InputError: the space does not join the modality, or the file has none of it then.
    """
    space.check(kind)
    source = _stretch(probe_source(path), kind, span)
    spans = space.spans(kind, source, stride)
    if not spans:
        raise InputError(f"{_named(path, span)} is silent; there is nothing to search by")
    if len(spans) > MOST_WINDOWS:
        spans = [spans[int(place)] for place in np.linspace(0, len(spans) - 1, MOST_WINDOWS)]
    parts: list[Embedded] = []
    try:
        for start in range(0, len(spans), BATCH):
            requests = [space.request(kind, source, window) for window in spans[start : start + BATCH]]
            answers = answer(source, requests)
            rows = torch.stack([space.fit(kind, answers[request]) for request in requests])
            parts.append(space.embed(kind, rows, cells=QUERY_CELLS))
    except MediaError as error:
        raise InputError(f"{_named(path, span)} cannot be decoded: {error}") from error
    words = f"the {WORDS[kind]} of {_named(path, span)}"
    mean = np.concatenate([part.vectors for part in parts]).mean(axis=0)
    cells = [part.cells.reshape(-1, space.dim) for part in parts if part.cells is not None]
    return Query(kind, words, unit(mean), _fewer(np.concatenate(cells)) if cells else None, source, windows=len(spans))


def probe_source(path: Path) -> Source:
    """What a file holds. Raises `InputError` where it is no media."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    facts = probe(str(path.absolute()), loudness=True)
    if facts["reason"] is not None:
        raise InputError(f"{path} cannot be used as a query: {facts['reason']}")
    video, audio = (None if facts[key] is None else Span(*facts[key]) for key in ("video", "audio"))
    return Source("query", path, facts["fps"], facts["width"], facts["height"], video, audio, loudness=tuple(facts["loudness"]))


def read_image(path: Path) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3), upright. Raises `InputError` where the file is no image."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no image that can be read ({error}); for a film give --video") from error


def parse_place(text: str) -> tuple[Path, Span | None]:
    """`clip.mp4:12-15` or `clip.mp4:1:02-1:10.5` -> path and seconds; a plain path -> path and None.

    Raises:
        InputError: a range that ends before it begins.
    """
    found = _RANGE.fullmatch(text)
    if found is None or Path(text).exists():
        return Path(text), None
    start, end = clock(found["start"]), clock(found["end"])
    if end <= start:
        raise InputError(
            f"the range {found['start']}-{found['end']} of {found['path']} is empty; give start-end in seconds, the end after the start"
        )
    return Path(found["path"]), Span(start, end)


def clock(text: str) -> float:
    """Seconds of `75`, `1:15` or `0:01:15.5`."""
    return sum(float(part) * 60.0**place for place, part in enumerate(reversed(text.split(":"))))


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """A vector of length 1. Raises `InputError` where it has none: the parts of the query are opposites."""
    length = float(np.linalg.norm(vector))
    if not (math.isfinite(length) and length > 1e-6):
        raise InputError("the windows of the query cancel one another out; ask by a shorter stretch")
    return (vector / length).astype(np.float32)


def _stretch(source: Source, kind: Kind, span: Span | None) -> Source:
    """The source with its streams cut to what is asked. Raises `InputError` where nothing of the modality is left."""
    stream = source.audio if kind == "audio" else source.video
    what = "sound" if kind == "audio" else "picture"
    if stream is None:
        raise InputError(f"{source.path} has no {what}; there is nothing to search by")
    if span is None:
        return source
    if stream.overlap(span).seconds <= 0.0:
        raise InputError(
            f"{source.path} has {what} from {stream.start:.1f} to {stream.end:.1f} s, asked is {span.start:g} to {span.end:g} s; give a range "
            "within it"
        )
    video, audio = (None if part is None else part.overlap(span) for part in (source.video, source.audio))
    return replace(source, video=video, audio=audio)


def _fewer(cells_CD: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(cells_CD) <= QUERY_CELLS:
        return cells_CD
    kept, _ = spread_cells(torch.from_numpy(cells_CD)[None], QUERY_CELLS)
    return kept[0].numpy()


def _named(path: Path, span: Span | None) -> str:
    return str(path) if span is None else f"{path} from {span.start:g} to {span.end:g} s"
