"""Embedded subtitle tracks of text (mov_text, SubRip, SubStation, WebVTT): choosing one, and reading its cues while the file is read."""

from __future__ import annotations

import math
from itertools import pairwise

from av import Packet
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.subtitles.subtitle import AssSubtitle

from mmssl.data.container import BROKEN
from mmssl.data.subtitle_text import plain_ass
from mmssl.data.subtitles import tidy
from mmssl.types import Cue

TEXT_CODECS = ("mov_text", "subrip", "srt", "text", "ass", "ssa", "webvtt")
LONGEST_OPEN = 10.0  # seconds that a cue without an end lasts at most; the next cue ends it, too


def text_tracks(container: InputContainer) -> list[Stream]:
    """Subtitle streams of text, best first: not forced, default, English or no language, then as they come. Pictures of text are none."""
    tracks = [s for s in container.streams.subtitles if s.codec_context is not None and s.codec_context.name in TEXT_CODECS]

    def rank(stream: Stream) -> tuple[bool, bool, bool, int]:
        foreign = (stream.language or "und").lower() not in ("und", "en", "eng")
        return bool(stream.disposition & Disposition.forced), not stream.disposition & Disposition.default, foreign, stream.index

    return sorted(tracks, key=rank)


class TrackReader:
    """Collects the cues of one track from its packets, on the presentation clock."""

    def __init__(self, stream: Stream, clock_start: float) -> None:
        self.stream = stream
        self._clock_start = clock_start
        self._cues: list[Cue] = []

    def take(self, packet: Packet) -> None:
        """Read a packet of the track; one that cannot be decoded is left out."""
        if packet.pts is None:
            return
        start = float(packet.pts * packet.time_base) - self._clock_start
        end = start + float(packet.duration * packet.time_base) if packet.duration else math.inf
        try:
            parts = [plain_ass(_text(part)) for part in packet.decode() if isinstance(part, AssSubtitle)]
        except BROKEN:
            return
        text = " ".join(part for part in parts if part)
        # An empty packet still matters: mov_text ends an open cue with one.
        self._cues.append(Cue(start, end, text))

    def cues(self, end: float) -> tuple[Cue, ...]:
        """The cues of the track, by the rule of `mmssl.data.subtitles`; `end` is the media's duration."""
        ordered = sorted(self._cues)
        closed = [
            cue._replace(end=min(cue.end, after.start, cue.start + LONGEST_OPEN)) if math.isinf(cue.end) else cue
            for cue, after in pairwise(ordered)
        ]
        if ordered:
            last = ordered[-1]
            closed.append(last._replace(end=min(last.end, last.start + LONGEST_OPEN)) if math.isinf(last.end) else last)
        return tidy(closed, end=end)


def _text(part: AssSubtitle) -> str:
    """The text field of an event that libav hands over as "ReadOrder,Layer,Style,Name,MarginL,MarginR,MarginV,Effect,Text"."""
    fields = part.ass.split(b",", 8)
    return (fields[8] if len(fields) == 9 else part.text).decode("utf-8", errors="replace")
