"""A contact sheet of what was found: the query on top, then a row for each hit, with times, pictures and sound."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from mmssl.data.container import display_size, open_media, picture_stream
from mmssl.data.decode import answer
from mmssl.data.decode.picture import centred_box, cut
from mmssl.downstream.panel import font
from mmssl.downstream.search.answers import Answer, Hit
from mmssl.downstream.search.query import Query, read_image
from mmssl.downstream.spaces import WORDS, JointSpace
from mmssl.downstream.spectrogram import spectrogram_image
from mmssl.files import make_aside
from mmssl.types import Box, Frames, MediaError, Source, Span, Wave

SIDE, GAP, MARGIN = 120, 6, 16  # pixels: a picture's side, between pictures, around everything
PICTURES = 4  # of a window
HEARD = 16_000  # Hz: what a spectrogram shows
LONGEST = 30.0  # seconds of sound in a spectrogram
WIDTH = 190 + (PICTURES + 2) * (SIDE + GAP) + 2 * MARGIN
INK, FAINT, PAPER, LINE = (30, 30, 34), (120, 120, 125), (250, 250, 247), (225, 225, 220)
RING = (255, 70, 40)


def write_sheet(found: Answer, space: JointSpace, out: Path) -> Path:
    """Draw the sheet (PNG). Files that are gone since they were indexed leave their pictures empty, and say so."""
    rows = [] if found.query.text else [_query_row(found.query, space)]  # words stand in the title
    rows += [_hit_row(hit, found, space) for hit in found.hits]
    words = f"{found.query.words}  \u2192  {WORDS[found.kind]}"
    told = f"{len(found.hits)} of {found.rows:,} rows, by objective {space.name}; scores are cosines"
    if any(hit.x is not None for hit in found.hits):
        told += "; the ring is the part of the picture that matches"
    head = 52
    sheet = Image.new("RGB", (WIDTH, head + sum(row.height + GAP for row in rows) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 12), _fitting(words, 17, WIDTH - 2 * MARGIN), font=font(17, bold=True), fill=INK)
    pen.text((MARGIN, 34), told, font=font(12), fill=FAINT)
    top = head
    for row in rows:
        pen.line((MARGIN, top, WIDTH - MARGIN, top), fill=LINE)
        sheet.paste(row, (0, top + 1))
        top += row.height + GAP
    make_aside(out, lambda part: sheet.save(part))
    return out


def moment(seconds: float) -> str:
    """Seconds as 0:07.5."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def _hit_row(hit: Hit, found: Answer, space: JointSpace) -> Image.Image:
    lines = [hit.path, f"{moment(hit.start)} \u2013 {moment(hit.end)}  of {moment(hit.duration)}"]
    lines += [hit.label] if hit.label else []
    source = Source(hit.id, found.root / hit.path)
    tiles = _tiles(source, Span(hit.start, hit.end), space, heard=hit.kind == "audio" or found.query.kind == "audio", hit=hit)
    tiles += [(_words(f"\u201c{hit.text}\u201d", INK, PAPER), "")] if hit.text else []
    return _row(f"{hit.rank}", f"{hit.score:.3f}", lines, tiles)


def _query_row(query: Query, space: JointSpace) -> Image.Image:
    tiles: list[tuple[Image.Image, str]] = []
    lines: list[str] = []
    if query.image is not None:
        pixels = read_image(query.image)
        box = centred_box((pixels.shape[1], pixels.shape[0]), (SIDE, SIDE))
        tiles = [(Image.fromarray(np.ascontiguousarray(cut(pixels, box=box, size=(SIDE, SIDE)))), "")]
        lines = [query.image.name]
    if query.source is not None:
        span = (query.source.audio if query.kind == "audio" else query.source.video) or Span(0.0, 0.0)
        lines = [query.source.path.name, f"{moment(span.start)} \u2013 {moment(span.end)}", f"{query.windows} windows"]
        tiles = _tiles(query.source, span, space, heard=query.kind == "audio")
    return _row("", "query", lines, tiles)


def _tiles(
    source: Source, span: Span, space: JointSpace, *, heard: bool, hit: Hit | None = None
) -> list[tuple[Image.Image, str]]:
    """Pictures of a window with their times, and its sound where that matters; what cannot be decoded any more is left out."""
    tiles: list[tuple[Image.Image, str]] = []
    times = [span.start + (k + 0.5) * span.seconds / PICTURES for k in range(PICTURES)]
    marked = None
    if hit is not None and hit.at is not None:  # the picture that the cell is in, instead of the one nearest to it
        marked = int(np.abs(np.array(times) - hit.at).argmin())
        times[marked] = hit.at
    try:
        box = _box(source, space)
        for number, time in enumerate(times):
            request = Frames((time,), SIDE, box)
            picture = answer(source, [request])[request][0].permute(1, 2, 0).numpy()
            image = Image.fromarray(np.ascontiguousarray(picture))
            if number == marked and hit is not None and hit.x is not None and hit.y is not None:
                _ring(image, hit.x, hit.y)
            tiles.append((image, moment(time)))
    except MediaError as error:
        tiles += [] if heard else [(_words(str(error), FAINT, LINE), "")]
    if heard:
        tiles.append(_sound(source, span))
    return tiles


def _sound(source: Source, span: Span) -> tuple[Image.Image, str]:
    seconds = min(span.seconds, LONGEST)
    request = Wave(span.start, seconds, HEARD)
    try:
        wave = answer(source, [request])[request]
    except MediaError as error:
        return _words(str(error), FAINT, LINE), ""
    pad = max(0, 1024 - len(wave))
    image = spectrogram_image(torch.nn.functional.pad(wave, (0, pad)).numpy(), SIDE, 2 * SIDE)
    return image, f"{moment(span.start)} \u2013 {moment(span.start + seconds)}, to {HEARD // 2000} kHz"


def _box(source: Source, space: JointSpace) -> Box | None:
    """The part of the picture that the model looks at. Raises `MediaError` where there is no picture."""
    with open_media(source.path) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{source.path.name} has no picture")
        width, height = display_size(stream)
    return space.views.whole(replace(source, width=width, height=height))


def _ring(image: Image.Image, x: float, y: float) -> None:
    radius = SIDE * 0.11
    centre = x * image.width, y * image.height
    pen = ImageDraw.Draw(image)
    for wide, colour in ((radius + 2, (0, 0, 0)), (radius, RING)):
        pen.ellipse((centre[0] - wide, centre[1] - wide, centre[0] + wide, centre[1] + wide), outline=colour, width=3)


def _row(rank: str, score: str, lines: list[str], tiles: list[tuple[Image.Image, str]]) -> Image.Image:
    row = Image.new("RGB", (WIDTH, SIDE + 22), PAPER)
    pen = ImageDraw.Draw(row)
    left = MARGIN
    pen.text((left, 8), rank, font=font(20, bold=True), fill=INK)
    pen.text((left + (34 if rank else 0), 13), score, font=font(14), fill=INK)
    for number, line in enumerate(lines[:4]):
        ink = INK if number == 0 else FAINT
        pen.text((left, 40 + 19 * number), _fitting(line, 13, 190 - GAP), font=font(13), fill=ink)
    left += 190
    for image, words in tiles:
        row.paste(image, (left, 4))
        pen.text((left, SIDE + 6), words, font=font(10), fill=FAINT)
        left += image.width + GAP
    return row


def _words(words: str, ink: tuple[int, int, int], ground: tuple[int, int, int]) -> Image.Image:
    """Words where a picture would be."""
    image = Image.new("RGB", (2 * SIDE, SIDE), ground)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(textwrap.wrap(words, 32, max_lines=6, placeholder=" \u2026")):
        pen.text((6, 8 + 17 * number), line, font=font(12), fill=ink)
    return image


def _fitting(text: str, size: int, room: float) -> str:
    """`text`, its middle left out where it is wider than `room` pixels."""
    if font(size).getlength(text) <= room:
        return text
    for kept in range(len(text) - 2, 1, -1):
        short = f"{text[: (kept + 1) // 2]}\u2026{text[len(text) - kept // 2 :]}"
        if font(size).getlength(short) <= room:
            return short
    return "\u2026"
