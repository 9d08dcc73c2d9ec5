"""Subtitle files -> cues.

The rule for which cues are kept, the same for sidecar files, embedded tracks and alignments (`tidy`):
  - text is plain and on one line; a cue without any text left is dropped;
  - a cue whose times cannot be read, or that does not end after it starts, is dropped; its neighbours are not;
  - cues are in order of start, then end; an exact repeat (same times, same text) is dropped;
  - overlapping cues are kept as they are: two people may speak at once;
  - what lies before 0 or after the end of picture and sound is cut off, and a cue of which nothing is left is dropped.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable
from pathlib import Path

from charset_normalizer import from_bytes

from mmssl.data.subtitle_text import parse_ass, parse_srt, parse_vtt
from mmssl.types import Cue, MediaError

LARGEST = 32 << 20  # bytes; a day of speech is below 4 MB
GRID_RATE = 25_000  # ticks a second in GRID's alignments
GRID_SILENCE = ("sil", "sp")

# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]


def read_subtitles(path: Path, *, end: float = math.inf) -> tuple[Cue, ...]:
    """Cues of a `.srt`, `.vtt`, `.ass`, `.ssa` or GRID `.align` file, by the rule above; `end` is the media's duration.

    Raises:
        MediaError: no such file, not readable, larger than 32 MB, not text, or of another suffix.
    """
    suffix = path.suffix.lower()
    parse = {".srt": parse_srt, ".vtt": parse_vtt, ".ass": parse_ass, ".ssa": parse_ass, ".align": parse_align}.get(suffix)
    if parse is None:
        raise MediaError(f"{path}: {suffix or 'no suffix'} is no suffix of subtitles; .srt, .vtt, .ass, .ssa and .align are")
    try:
        if not path.is_file():
            raise MediaError(f"{path}: no such subtitle file")
        size = path.stat().st_size
        if size > LARGEST:
            raise MediaError(f"{path}: {size} bytes are too many for subtitles, the limit is {LARGEST}")
        content = path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
    try:
        return tidy(parse(decode_text(content)), end=end)
    except ValueError as error:
        raise MediaError(f"{path}: {error}") from error


def parse_align(text: str) -> list[Cue]:
    """One cue for each word of a GRID alignment: lines `start end word`, 25,000 ticks a second; silences and other lines are dropped."""
    cues = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit() and parts[2] not in GRID_SILENCE:
            cues.append(Cue(int(parts[0][:15]) / GRID_RATE, int(parts[1][:15]) / GRID_RATE, parts[2]))
    return cues


def tidy(cues: Iterable[Cue], *, end: float = math.inf) -> tuple[Cue, ...]:
    """Apply the rule above to cues of plain text."""
    kept = set()
    for cue in cues:
        if not (math.isfinite(cue.start) and math.isfinite(cue.end)) or cue.end <= cue.start or not cue.text:
            continue
        clipped = Cue(max(0.0, cue.start), min(end, cue.end), cue.text)
        if clipped.end > clipped.start:
            kept.add(clipped)
    return tuple(sorted(kept))


def decode_text(content: bytes) -> str:
    """Bytes of unknown encoding -> text.

    In this order: a byte order mark; UTF-8, which other text is practically never valid as; UTF-16 without a mark (every other
    byte zero); the likeliest by its characters, where there is enough to judge by; else Windows-1252, the commonest of the rest.

    Raises:
        ValueError: binary data.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if content.count(0) * 8 > len(content):
        return _decode_wide(content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start > 0 and _is_mostly_utf8(content):
            return content.decode("utf-8", errors="replace")
    encoding = "cp1252"
    if sum(byte > 127 for byte in content) >= ENOUGH:
        best = from_bytes(content[:65536], cp_isolation=[*_SCRIPTS, *_LATIN]).best()
        if best is not None:
            encoding = _latin(content) if best.encoding in _LATIN else best.encoding
    return content.decode(encoding, errors="replace")


def _latin(content: bytes) -> str:
    """Which of three encodings of Latin letters: most of their bytes mean letters in all three, and guesses are ties.

    Windows-1250 where Windows-1252 would put signs inside words (Polish) or letters that only central Europe uses (s and z with
    a caron); 1254 where it would put Icelandic letters into a text without Icelandic's accents (Turkish).
    """
    western = content.decode("cp1252", errors="replace").lower()
    if _SIGN_IN_WORD.search(western) or set("šž") & set(western):
        return "cp1250"
    return "cp1254" if set("þðý") & set(western) and not set("áéíóúæ") & set(western) else "cp1252"


ENOUGH = 24  # bytes above 127 below which a guess from the characters is no better than chance
_SIGN_IN_WORD = re.compile(r"[^\W\d_][³¹¿¼¾£¥]")
_LATIN = ("cp1250", "cp1252", "cp1254")
# The encodings, other than Unicode's, that subtitles come in; the rarer ones that charset-normalizer knows win by chance.
_SCRIPTS = ("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr")


def _decode_wide(content: bytes) -> str:
    even, odd = content[0::2].count(0), content[1::2].count(0)
    if max(even, odd) < 4 * min(even, odd) + 1:
        raise ValueError("binary data, not subtitles")
    return content.decode("utf-16-le" if odd > even else "utf-16-be", errors="replace")


def _is_mostly_utf8(content: bytes) -> bool:
    """A long UTF-8 file with a damaged byte or two is still UTF-8."""
    text = content.decode("utf-8", errors="replace")
    broken = text.count("\N{REPLACEMENT CHARACTER}")
    return broken * 20 < sum(character > "\x7f" for character in text)
