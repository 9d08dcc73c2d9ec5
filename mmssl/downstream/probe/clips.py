"""Clips as an encoder takes them, cut at several places of a file that is opened once.

K views of a file lie in the middles of its K equal parts: one of picture encoders is a picture, one of clip encoders as many pictures at the
rate that the encoder was built for, one of sound encoders as many seconds. What is shorter than a view is filled: pictures by the last one,
sound by silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmssl.data.decode import answer
from mmssl.data.index import available_cores
from mmssl.encoders.base import Encoder
from mmssl.types import Frames, InputError, MediaError, Source, Span, Wave

FRAMES, FPS = 8, 12.5  # of clip encoders that take any number of pictures at any rate
SIZE = 224  # of encoders that take any size


@dataclass(frozen=True, slots=True)
class Cut:
    """What one view of a file is."""

    sound: bool
    size: int = 0  # pixels, side of the square
    frames: int = 0
    spacing: float = 0.0  # seconds from picture to picture
    seconds: float = 0.0  # of sound
    rate: int = 0  # samples a second

    @property
    def length(self) -> float:
        """Seconds from the first to the last picture, or of sound."""
        return self.seconds if self.sound else (self.frames - 1) * self.spacing


def cut_of(encoder: Encoder) -> Cut:
    """How an encoder wants its clips.

    Raises:
        InputError: the encoder takes neither pictures nor sound.
    """
    spec = encoder.spec
    if encoder.modality == "audio":
        return Cut(True, seconds=spec.seconds or 1.0, rate=spec.rate)
    if encoder.modality == "frame":
        return Cut(False, size=spec.size or SIZE, frames=1)
    if encoder.modality == "video":
        return Cut(False, size=spec.size or SIZE, frames=spec.frames or FRAMES, spacing=1.0 / (spec.fps or FPS))
    raise InputError(
        f"{encoder.name} is a {encoder.modality} encoder; probes take encoders of pictures (frame, video) or of sound (audio)"
    )


def even_starts(cut: Cut, span: Span, views: int) -> list[float]:
    """Where `views` views begin so that each lies in the middle of its part of the span, in seconds."""
    last = max(span.start, span.end - cut.length)
    middles = [span.start + (k + 0.5) / views * span.seconds for k in range(views)]
    return [min(max(middle - cut.length / 2, span.start), last) for middle in middles]


def random_start(cut: Cut, span: Span, rng: np.random.Generator) -> list[float]:
    """Where one view begins, drawn evenly."""
    return [span.start + float(rng.random()) * max(0.0, span.seconds - cut.length)]


def span_of(cut: Cut, source: Source) -> Span:
    """When the source has what is cut. Raises `MediaError` where it never has."""
    span = source.audio if cut.sound else source.video
    if span is None:
        raise MediaError(f"{source.path} has no {'sound' if cut.sound else 'picture'}")
    return span


def read_views(cut: Cut, source: Source, starts: list[float]) -> Tensor:
    """Views that begin at `starts`: uint8 (K, T, 3, size, size), or float32 (K, samples). One open.

    Raises:
        MediaError: the file cannot give them.
    """
    span = span_of(cut, source)
    if cut.sound:
        waves = [Wave(start, min(cut.seconds, max(span.end - start, 1 / cut.rate)), cut.rate) for start in starts]
        answers = answer(source, waves)
        length = round(cut.rate * cut.seconds)
        return torch.stack([_padded(answers[wave], length) for wave in waves])
    times = tuple(max(0.0, min(start + k * cut.spacing, span.end)) for start in starts for k in range(cut.frames))
    pictures = Frames(times, cut.size)
    return answer(source, [pictures])[pictures].unflatten(0, (len(starts), cut.frames))


def decode_ahead(
    jobs: Iterable[tuple[int, Source, list[float]]], cut: Cut, *, workers: int = 0
) -> Iterator[tuple[int, Tensor | str]]:
    """(number, views) of each job in order, or (number, why there are none); a few files are decoded ahead, so memory stays flat.

    Args:
        jobs: number, source, starts of views.
        cut: of the views.
        workers: decoding threads; 0: one for each core.
    """
    workers = workers or available_cores()
    waiting: deque[tuple[int, Future[Tensor | str]]] = deque()

    def read(source: Source, starts: list[float]) -> Tensor | str:
        try:
            return read_views(cut, source, starts)
        except MediaError as error:
            return str(error)

    with ThreadPoolExecutor(max_workers=workers) as pool:  # libav decodes without Python's lock
        try:
            for number, source, starts in jobs:
                waiting.append((number, pool.submit(read, source, starts)))
                if len(waiting) > 2 * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def batched(
    decoded: Iterable[tuple[int, Tensor | str]], rows: int, failed: Callable[[int, str], None]
) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers and stacked views (n, K, ...) of about `rows` files each; what could not be decoded goes to `failed`."""
    numbers: list[int] = []
    tensors: list[Tensor] = []
    for number, tensor in decoded:
        if isinstance(tensor, str):
            failed(number, tensor)
            continue
        numbers.append(number)
        tensors.append(tensor)
        if len(numbers) == rows:
            yield numbers, torch.stack(tensors)
            numbers, tensors = [], []
    if numbers:
        yield numbers, torch.stack(tensors)


def _padded(wave: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(wave[:length], (0, max(0, length - len(wave))))
