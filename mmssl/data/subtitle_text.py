"""SubRip, WebVTT and SubStation text -> raw cues; `subtitles.py` says what becomes of them.

Own parsers for SubRip and WebVTT, because pysubs2 gives up a whole WebVTT file for one malformed time, knows neither its notes,
styles and metadata nor inline times, and reads `00:00:04` without a fraction as text. It serves for what SubStation's markup means.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

from pysubs2 import SSAEvent

from mmssl.types import Cue

# hours may be missing or have any number of digits; a fraction may be missing, and is a decimal fraction however many digits it
# has ("0,5" is half a second); a comma or a point precedes it.
_CLOCK = r"(-?)(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d+))?"
_TIMING = re.compile(rf"^\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s|$)")
_CLOCK_ALONE = re.compile(rf"^\s*{_CLOCK}\s*$")
_INLINE_TIME = re.compile(r"<\d[\d:.]*>")  # karaoke: when the next word is due
_RUBY_NOTE = re.compile(r"<rt(?:\.[^>]*)?>.*?(?:</rt>|$)", re.DOTALL)  # a reading, beside the word that it explains
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<>|</>")
_OVERRIDE = re.compile(r"\{\\[^}]*\}")  # SubStation tags, which SubRip files borrow: {\an8}
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad]")
ROLL_GAP = 0.05  # seconds between two cues of one rolling caption


def parse_srt(text: str) -> list[Cue]:
    """Cues of SubRip text. A cue's text runs to the next line of times, less the counter above that: it may hold empty lines.

    WebVTT under SubRip's suffix is read as WebVTT.
    """
    if text.lstrip("\ufeff \r\n").startswith("WEBVTT"):
        return parse_vtt(text)
    blocks = list(_timed_blocks(text.splitlines()))
    cues = []
    for number, (start, end, lines) in enumerate(blocks, start=1):
        kept = _without_counter(lines, last=number == len(blocks))
        cues.append(Cue(start, end, plain_text("\n".join(kept))))
    return cues


def parse_vtt(text: str) -> list[Cue]:
    """Cues of WebVTT text: without header, notes, styles, regions, identifiers, settings, tags, and cues of JSON (metadata).

    A file with inline times is a rolling caption, as speech recognition writes them: each cue repeats the line before. There,
    lines that the cue before has shown already are taken off, and cues without a new line go.
    """
    cues: list[Cue] = []
    rolling = bool(_INLINE_TIME.search(text))
    shown: list[str] = []
    shown_until = float("-inf")
    for start, end, lines in _timed_blocks(text.splitlines()):
        payload = _until_empty(lines, exactly=rolling)
        if _is_metadata("\n".join(payload)):
            continue
        said = [line for line in (plain_text(line) for line in "\n".join(payload).split("\n")) if line]
        fresh = said
        if rolling and start - shown_until <= ROLL_GAP:
            fresh = said[_repeated(shown, said) :]
        shown, shown_until = said or shown, max(shown_until, end)
        cues.append(Cue(start, end, plain_text("\n".join(payload)) if fresh == said else " ".join(fresh)))
    return cues


def parse_ass(text: str) -> list[Cue]:
    """Cues of SubStation text (ass, ssa): dialogue events; no comments, no drawings.

    Typesetting repeats a line in many short events, one for each frame or layer: equal texts that touch become one cue.
    """
    fields = ["layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text"]
    cues: list[Cue] = []
    in_events = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            in_events = line.lower() == "[events]"
        if not in_events:
            continue
        kind, _, rest = line.partition(":")
        if kind.lower() == "format":
            fields = [name.strip().lower() for name in rest.split(",")]
        elif kind.lower() == "dialogue":
            event = dict(zip(fields, rest.strip().split(",", len(fields) - 1), strict=False))
            start, end = _clock(event.get("start", "")), _clock(event.get("end", ""))
            if start is not None and end is not None:
                cues.append(Cue(start, end, plain_ass(event.get("text", ""))))
    return _merged(sorted(cue for cue in cues if cue.text))


def plain_ass(text: str) -> str:
    """The words of a SubStation event's text field; "" for a drawing."""
    event = SSAEvent(text=text.replace("\0", ""))
    return "" if event.is_drawing else plain_text(event.plaintext)


def plain_text(text: str) -> str:
    """Words without markup, on one line: tags, overrides, inline times, readings (ruby) and invisible marks out, entities resolved."""
    text = _RUBY_NOTE.sub("", _INLINE_TIME.sub("", _OVERRIDE.sub("", text)))
    text = html.unescape(_TAG.sub("", text))  # entities last: "&lt;b&gt;" is a "<b>" that someone wrote about
    return " ".join(_INVISIBLE.sub("", text).replace("\0", "").split())


def _timed_blocks(lines: list[str]) -> Iterator[tuple[float, float, list[str]]]:
    """(start, end, lines up to the next line of times). A line with an arrow but no times that can be read drops its own block only."""
    times: tuple[float, float] | None = None
    block: list[str] = []
    for line in lines:
        if "-->" in line:
            if times is not None:
                yield *times, block
            times, block = _times(line), []
        else:
            block.append(line)
    if times is not None:
        yield *times, block


def _times(line: str) -> tuple[float, float] | None:
    match = _TIMING.match(line)
    return None if match is None else (_seconds(*match.groups()[:5]), _seconds(*match.groups()[5:]))


def _clock(text: str) -> float | None:
    match = _CLOCK_ALONE.match(text)
    return None if match is None else _seconds(*match.groups())


def _seconds(sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    whole = int((hours or "0")[-6:]) * 3600 + int(minutes) * 60 + int(seconds)  # 6 digits of hours: no float overflows
    value = whole + float(f"0.{(fraction or '0')[:9]}")
    return -value if sign else value


def _without_counter(lines: list[str], *, last: bool) -> list[str]:
    """Lines between two lines of times, without the counter of the next cue: a number right above its times, or apart from the text.

    A number that is all the text there is stays: people say "1984".
    """
    kept = list(lines)
    while kept and not kept[-1].strip():
        kept.pop()
    if not kept or not kept[-1].strip().isdigit():
        return kept
    above_times = not last and lines[-1].strip().isdigit()
    apart = len(kept) > 1 and not kept[-2].strip()
    return kept[:-1] if above_times or apart else kept


def _until_empty(lines: list[str], *, exactly: bool) -> list[str]:
    """Lines before the first empty one. Rolling captions hold lines of one space, which the format counts as text; people do not."""
    for number, line in enumerate(lines):
        if not (line if exactly else line.strip()):
            return lines[:number]
    return lines


def _is_metadata(text: str) -> bool:
    """A JSON object, or what was meant to be one: in braces, with a quoted key first."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return False
    if re.match(r'\{\s*"[^"]*"\s*:', text):
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _repeated(shown: list[str], said: list[str]) -> int:
    """How many of the first lines of `said` are the last lines of `shown`."""
    for count in range(min(len(shown), len(said)), 0, -1):
        if shown[-count:] == said[:count]:
            return count
    return 0


def _merged(cues: list[Cue]) -> list[Cue]:
    out: list[Cue] = []
    last: dict[str, int] = {}  # text -> place in `out`
    for cue in cues:
        place = last.get(cue.text)
        if place is not None and cue.start - out[place].end <= ROLL_GAP:
            out[place] = Cue(out[place].start, max(out[place].end, cue.end), cue.text)
        else:
            last[cue.text] = len(out)
            out.append(cue)
    return out
