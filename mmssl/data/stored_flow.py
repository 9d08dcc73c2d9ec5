"""Optical flow computed once: a film of flow beside the film, and answers to `Flow` requests out of it.

What is stored is a function of time. The flow at `t` is that between the pictures shown at `t` and at `t + step` (`mmssl.data.flow`), and this pair
changes only when a picture begins, or `step` before one does. So there is one field for each such moment (`schedule`), stamped with it, and the field
shown at `t` is the right one for every `t`, whatever the film's rate. Where the step is a multiple of the time between pictures there are as many fields as
pictures; where it is not, up to twice as many.

A field has the size of the film's pictures, and is estimated as a request for the whole picture at that size would be. It is written losslessly as 16-bit
grey (FFV1, each picture by itself), the vectors' right parts above their down parts, in steps of 1 / `PER_PIXEL` pixels: no vector is off by
more than half a step, and none that a film of up to 4096 pixels can hold is clipped. The last row begins with the CRC-32 of the rows above, because libav shows a
damaged picture as well as it can, without a word. A request's box is cut out of the field, resized, and its
vectors scaled with it. Computing would instead estimate on the cut picture: the two differ by what an estimate is unsure of (`tools/bench_prepare.py` measures it).

H x W pixels of the film; times in seconds on its presentation clock, or ticks of 1/90000 s.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from mmssl.data.container import clock_start, open_media, orientation, picture_stream, pixel_aspect, shown_size, tick
from mmssl.data.decode.frames import TAIL
from mmssl.data.decode.picture import WHOLE, Painter, centred_box, cut, output_size, whole_pixels
from mmssl.data.decode.pyav import PyavAnswerer
from mmssl.data.decode.stamps import FrameClock
from mmssl.data.flow import SAME, enlargement, estimate, shrink
from mmssl.files import make_aside
from mmssl.types import Flow, MediaError, StoredFlow

TICK = Fraction(1, 90_000)  # seconds: as in the films that are prepared
NEAR = 45  # ticks (half a millisecond, the precision of films' own stamps) within which two changes of the pair are one
PER_PIXEL = 8
ZERO = 1 << 15  # grey value of no motion
MARK = "mmssl.flow"
VERSION = 1


class Part(NamedTuple):
    """From `tick` on, flow goes from the `first` to the `second` picture of the film."""

    tick: int
    first: int
    second: int


class Track(NamedTuple):
    """The pictures of a film: when each begins, in ticks, ascending, and when the last one ends, in seconds."""

    stamps: tuple[int, ...]
    end: float


def serves(stored: StoredFlow, flow: Flow) -> bool:
    """Whether a request can be answered from what is stored: same method, same step. Nothing is stored of times before 0."""
    return stored.method == flow.method and abs(stored.step - flow.step) <= SAME and min(flow.times) >= 0.0


def schedule(stamps: Sequence[int], end: float, step: float) -> list[Part]:
    """Which pairs of pictures a film shows `step` seconds apart, and from when on; up to where the flow is no longer known (`TAIL` past `end`)."""
    ahead = step / float(TICK)
    changes = {0, *stamps, *(math.ceil(stamp - ahead - 0.5) for stamp in stamps)}
    last = (end + TAIL - step) / float(TICK)
    parts: list[Part] = []
    for change in sorted(change for change in changes if 0 <= change <= last):
        first, second = (max(0, bisect_right(stamps, change + later + 0.5) - 1) for later in (0.0, ahead))
        since = change
        if parts and change - parts[-1].tick <= NEAR:
            since = parts.pop().tick
        if not parts or (first, second) != parts[-1][1:]:
            parts.append(Part(since, first, second))
    return parts


def store_flow(film: Path, target: Path, *, step: float, method: str) -> int:
    """Compute the flow of a whole film and write it as `target` (an MP4 film, whatever its suffix), whole or not at all.

    Args:
        film: one that `mmssl prepare` made, or any whose pictures can all be decoded.
        target: where it goes.
        step: seconds.
        method: one of `mmssl.data.flow.METHODS`.

    Returns:
        How many fields were written; 0, and no file, where the film is too short for any.

    Raises:
        MediaError: a picture is damaged, or there is none.
        InputError: as `mmssl.data.flow.estimate`.
    """
    track = read_track(film)
    parts = schedule(track.stamps, track.end, step)
    if not parts:
        return 0
    about = {"version": VERSION, "method": method, "step": step, "per_pixel": PER_PIXEL, "end": track.end}

    def fill(place: Path) -> None:
        with av.open(str(place), "w", format="mp4", options={"movie_timescale": str(TICK.denominator)}) as out:
            out.metadata["comment"] = json.dumps({MARK: about})
            fields = _fields(film, parts, method)
            first = next(fields)
            stream = _add_stream(out, 2 * first.shape[0] + 1, first.shape[1])
            until = [part.tick for part in parts[1:]] + [math.ceil((track.end + TAIL - step) / TICK)]
            for part, following, field in zip(parts, until, itertools.chain([first], fields), strict=True):
                frame = VideoFrame.from_ndarray(to_grey(field), format="gray16le")
                frame.pts, frame.time_base, frame.duration = part.tick, TICK, max(1, following - part.tick)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))

    make_aside(target, fill)
    return len(parts)


def answer_stored(stored: StoredFlow, flow: Flow) -> Tensor:
    """float16 (T, 2, height, width), as `mmssl.data.flow.answer_flow` gives it, for a request that `serves`.

    Raises:
        MediaError: the stored flow is missing, damaged or another one than the manifest says, or a time lies past its end.
    """
    canvas = FieldCanvas(flow)
    with open_media(stored.path) as container:
        about = _about(stored, container)
        late = max(flow.times)
        if late + flow.step > about["end"] + TAIL:
            raise MediaError(
                f"{stored.path}: flow at {late:.3f} s for {flow.step:.3f} s asked for; the picture ends at {about['end']:.3f} s"
            )
        canvas.per_pixel = about["per_pixel"]
        PyavAnswerer(stored.path, container, canvas, FieldPainter()).collect(canvas.times, [])
    return torch.from_numpy(canvas.fields).permute(0, 3, 1, 2).to(torch.float16, memory_format=torch.contiguous_format)


def to_grey(field: np.ndarray) -> np.ndarray:
    """A field (H, W, 2) in pixels -> uint16 (2 H + 1, W)."""
    grey = np.clip(np.rint(field * PER_PIXEL) + ZERO, 0, 2 * ZERO - 1).astype("<u2")
    rows = np.concatenate((grey[..., 0], grey[..., 1], np.zeros_like(grey[:1, :, 0])))
    rows[-1, :2] = _checksum(rows)
    return rows


class FieldPainter:
    """Frames of stored flow as numbers."""

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """uint16 (2 H, W), as written. Raises `ValueError` where it is not."""
        if frame.format.name != "gray16le":
            raise ValueError(f"stored flow is gray16le, this is {frame.format.name}")
        rows = frame.to_ndarray()
        if not np.array_equal(rows[-1, :2], _checksum(rows)):
            raise ValueError("a field of flow is damaged: its checksum is another")
        return rows[:-1]


def _checksum(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of all rows but the last, uint16 (2,)."""
    return np.array([zlib.crc32(rows[:-1].tobytes())], "<u4").view("<u2")


class FieldCanvas:
    """Collects the fields of one request as the frames of stored flow come along."""

    def __init__(self, flow: Flow) -> None:
        self.per_pixel = float(PER_PIXEL)
        self.fields = np.empty((len(flow.times), *output_size(flow), 2), np.float32)
        self._flow = flow

    @property
    def times(self) -> list[float]:
        """All times that are asked for, ascending, each once."""
        return sorted(set(self._flow.times))

    def draw(self, time: float, pixels: np.ndarray, *, shown: tuple[int, int], turns: int = 0, mirrored: bool = False) -> None:
        """Fill every place that asked for `time`; `pixels` as `FieldPainter` gives them."""
        del shown, turns, mirrored  # the film is prepared: shown as it is coded
        height = len(pixels) // 2
        field = (np.stack((pixels[:height], pixels[height:]), axis=-1).astype(np.float32) - ZERO) / self.per_pixel
        size = output_size(self._flow)
        found = cut_field(field, self._flow, size)
        for place, wanted in enumerate(self._flow.times):
            if wanted == time:
                self.fields[place] = found


def cut_field(field: np.ndarray, flow: Flow, size: tuple[int, int]) -> np.ndarray:
    """The box of a request out of a whole field (H, W, 2), resized -> (*size, 2), its vectors in pixels of that size."""
    tall, wide = field.shape[:2]
    box = flow.box or centred_box((wide, tall), size)
    x0, x1 = whole_pixels(box.left, box.left + box.width, wide)
    y0, y1 = whole_pixels(box.top, box.top + box.height, tall)
    part = field[y0:y1, x0:x1]
    shrinks = size[0] < y1 - y0 or size[1] < x1 - x0
    if part.shape[:2] != size:
        part = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return part * np.array([size[1] / (x1 - x0), size[0] / (y1 - y0)], np.float32)


def read_track(film: Path) -> Track:
    """When the pictures of a film begin and end, from its packets. Raises `MediaError`."""
    stamps: list[int] = []
    end = -math.inf
    with open_media(film) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{film}: no picture that can be decoded")
        clock, rate = clock_start(container), stream.average_rate
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                at = packet.pts * tick(stream) - clock
                stamps.append(round(at / float(TICK)))
                end = max(end, at + max((packet.duration or 0) * tick(stream), float(1 / rate) if rate else 0.0))
    if not stamps:
        raise MediaError(f"{film}: no picture that can be decoded")
    return Track(tuple(sorted(stamps)), end)


def _add_stream(out: OutputContainer, height: int, width: int) -> VideoStream:
    options = {"level": "3", "g": "1", "slices": "4", "slicecrc": "0"}
    stream = out.add_stream("ffv1", rate=Fraction(25), options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "gray16le"
    stream.codec_context.time_base = TICK
    stream.time_base = TICK
    return stream


def _fields(film: Path, parts: Sequence[Part], method: str) -> Iterator[np.ndarray]:
    """float32 (H, W, 2) for each part, holding no more pictures than the step spans."""
    pictures = enumerate(_pictures(film))
    held: dict[int, np.ndarray] = {}
    for part in parts:
        for number in [number for number in held if number < part.first]:
            del held[number]
        while part.second not in held:
            number, picture = next(pictures, (-1, np.empty(0)))
            if number < 0:
                raise MediaError(f"{film}: {part.second + 1} pictures are listed, fewer can be decoded")
            if number >= part.first:
                held[number] = picture
        height, width, _ = held[part.first].shape
        k = enlargement(height, width)
        large = (k * height, k * width)
        one, other = (cut(held[number], box=WHOLE, size=large) for number in (part.first, part.second))
        yield shrink(estimate([(one, other)], method)[0], height, width)


def _pictures(film: Path) -> Iterator[np.ndarray]:
    """All pictures as shown, uint8 (H, W, 3). Raises `MediaError` for damage."""
    with open_media(film) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{film}: no picture that can be decoded")
        stream.codec_context.thread_count = 1
        clock, painter, aspect = FrameClock(), Painter(), pixel_aspect(stream)
        for frame in container.decode(stream):
            stamp = clock.stamp(frame)
            if stamp is None or frame.is_corrupt:
                raise MediaError(f"{film}: the picture stamped {stamp} is damaged")
            turns, mirrored = orientation(frame)
            width, height = shown_size(frame, aspect)
            picture = cut(painter.rgb(frame), box=WHOLE, size=(height, width), turns=turns, mirrored=mirrored)
            yield np.ascontiguousarray(picture)


def _about(stored: StoredFlow, container: InputContainer) -> dict[str, float]:
    """What the file says of itself."""
    try:
        about = json.loads(container.metadata["comment"])[MARK]
        said = about["version"], about["method"], float(about["step"])
        found = {"per_pixel": float(about["per_pixel"]), "end": float(about["end"])}
    except (KeyError, TypeError, ValueError) as error:
        raise MediaError(f"{stored.path}: holds no flow that mmssl stored; run `mmssl prepare` again") from error
    if said[:2] != (VERSION, stored.method) or abs(said[2] - stored.step) > SAME:
        raise MediaError(
            f"{stored.path}: holds flow of version {said[0]}, method {said[1]}, step {said[2]} s, the manifest says version {VERSION}, "
            f"{stored.method}, {stored.step} s; run `mmssl prepare` again"
        )
    return found
