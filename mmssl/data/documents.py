"""Plain text files -> sections, paragraphs, sentences.

The rules:
  - The encoding is found as that of subtitles (`subtitles.decode_text`). Project Gutenberg's licence around a book is taken off, and `<unk>`
    (rare words in prepared corpora) becomes the tokenizer's "[UNK]".
  - A paragraph ends at an empty line. A heading is a line of its own: Markdown's `# Title` or a title underlined with `===` or `---`,
    a wiki's `= Title =`, "Chapter", "Part", "Act" and the like with a number, or a Roman number. Headings are no sentences.
  - A section begins at each heading of the file's highest rank; one of more than `SECTION_WORDS` words is parted at ends of paragraphs.
  - A sentence ends at `.`, `!`, `?` or `…` (and closing quotes or brackets) before white space and what can begin a sentence: a capital,
    a digit, an opening quote. Not after an abbreviation or an initial. A sentence holds a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmssl.data.subtitles import decode_text
from mmssl.types import Cue, MediaError

TEXT_SUFFIXES = frozenset((".txt", ".text", ".md", ".markdown", ".rst"))
LARGEST = 1 << 30  # bytes; larger corpora come as several files
SECTION_WORDS = 1000
DOCUMENTS_VERSION = "text-1"  # of the rules above; rows made by others are made anew

_GUTENBERG_START = re.compile(r"^\*\*\* ?START OF (?:THIS|THE) PROJECT GUTENBERG.*$", re.MULTILINE | re.IGNORECASE)
_GUTENBERG_END = re.compile(r"^(?:\*\*\* ?END OF|End of (?:the )?Project Gutenberg).*$", re.MULTILINE | re.IGNORECASE)
_MARKDOWN = re.compile(r"^[ ]{0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_WIKI = re.compile(r"^((?:= ?)+)([^=]+?)((?: ?=)+)$")
_CHAPTER = re.compile(
    r"^(?:chapter|book|part|volume|act|scene|canto|letter|stave|adventure|section)\s+(?:[ivxlcdm]+|\d+|one|two|three|four|five|six|seven"
    r"|eight|nine|ten|eleven|twelve)\b",
    re.IGNORECASE,
)
_NUMERAL = re.compile(r"^[IVXLCDM]+\.?$|^[IVXLCDM]+\.\s+[^a-z]+$")  # "IV.", "IV. THE SPECKLED BAND"
_UNDERLINE = re.compile(r"^(={3,}|-{3,})$")
LONGEST_HEADING = 100  # characters

_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?:\s[\"”](?=\s))?\s+(?=[\"'“‘(\[]?\s?[A-Z0-9À-ÖØ-Þ\[])")
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr st sr jr prof rev hon gen col capt lt sgt maj gov sen rep ed eds cf vs etc e.g i.e approx dept est inc ltd co corp jan
    feb apr jun jul aug sep sept oct nov dec messrs mme mlle""".split()  # noqa: SIM905 - a list of words is read as words
)
_NUMBERED = frozenset(
    {"no", "nos", "fig", "figs", "vol", "vols", "pp", "ch", "art"}
)  # abbreviations only before a number: "No. 10"


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a document: paragraphs of sentences."""

    number: int  # of its heading, from 1
    part: int  # of the parts that a long section makes, from 1
    paragraphs: tuple[tuple[str, ...], ...]

    @property
    def cues(self) -> tuple[Cue, ...]:
        """Sentences as cues. Times are counts: sentence k lasts from k to k + 1, and a paragraph's end is a gap of 1."""
        cues: list[Cue] = []
        place = 0
        for paragraph in self.paragraphs:
            for sentence in paragraph:
                cues.append(Cue(float(place), float(place + 1), sentence))
                place += 1
            place += 1
        return tuple(cues)


def read_document(path: Path) -> list[Section]:
    """The sections of a file, in order.

    Raises:
        MediaError: larger than 1 GB, not readable, binary, or without a sentence.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise MediaError(f"{size} bytes are too many for a text file, the limit is {LARGEST}; split it")
        content = path.read_bytes()
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror or error}") from error
    try:
        text = decode_text(content)
    except ValueError as error:
        raise MediaError("binary data, not text") from error
    sections = parse_document(text, markdown=path.suffix.lower() in (".md", ".markdown"))
    if not sections:
        raise MediaError("no sentence in it")
    return sections


def parse_document(text: str, *, markdown: bool = False) -> list[Section]:
    """The sections of a text; those without a sentence are left out, and numbers count the ones that stay."""
    grouped: list[list[tuple[str, ...]]] = [[]]
    items = list(_blocks(_plain(text), markdown))
    top = min((rank for rank, _ in items if rank), default=0)
    for rank, block in items:
        if rank:
            if rank == top:
                grouped.append([])
        elif sentences := tuple(split_sentences(block)):
            grouped[-1].append(sentences)
    sections: list[Section] = []
    for number, paragraphs in enumerate((group for group in grouped if group), start=1):
        sections += [Section(number, part, tuple(some)) for part, some in enumerate(_parts(paragraphs), start=1)]
    return sections


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, on one line each, by the rule above."""
    text = " ".join(paragraph.split())
    sentences, start = [], 0
    for match in _END.finditer(text):
        if not _abbreviated(text[start : match.end()].rstrip(), text[match.end()]):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if any(character.isalpha() for character in sentence)]


def _abbreviated(sentence: str, following: str) -> bool:
    """Whether the full stop at the end is an abbreviation's ("Mr.") or an initial's ("J."). `following` is the next character."""
    if not sentence.endswith("."):
        return False
    word = sentence.rsplit(" ", 1)[-1].rstrip(".").lstrip("(\"'“‘[")
    if word.lower() in _NUMBERED:
        return following.isdigit()
    return word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")


def _plain(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\0", "").replace("<unk>", "[UNK]")
    begin = _GUTENBERG_START.search(text)
    if begin is not None:
        text = text[begin.end() :]
        end = _GUTENBERG_END.search(text)
        text = text if end is None else text[: end.start()]
    return text


def _blocks(text: str, markdown: bool) -> Iterator[tuple[int, str]]:
    """(rank of a heading from 1, or 0 for a paragraph; its text) in order."""
    if markdown:
        text = _MARKDOWN.sub(lambda match: f"\n\n{'=' * len(match[1])} {match[2]} {'=' * len(match[1])}\n\n", text)
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        rank = _rank(lines)
        if rank:
            yield rank, lines[0]
        else:
            yield 0, " ".join(lines)


def _rank(lines: list[str]) -> int:
    if len(lines[0]) > LONGEST_HEADING:
        return 0
    if len(lines) == 2 and (line := _UNDERLINE.match(lines[1])):
        return 1 if line[1][0] == "=" else 2
    if len(lines) > 1 and not (len(lines) == 2 and _CHAPTER.match(lines[0]) and len(lines[1]) < LONGEST_HEADING / 2):
        return 0
    wiki = _WIKI.match(lines[0])
    if wiki is not None and wiki[1].count("=") == wiki[3].count("="):
        return wiki[1].count("=")
    if _NUMERAL.match(lines[0]):
        return 2 if " " not in lines[0] else 1
    return 1 if _CHAPTER.match(lines[0]) else 0


def _parts(paragraphs: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Stretches of paragraphs, each ended once it holds `SECTION_WORDS` words; a rest of less than a quarter stays with the one before."""
    parts: list[list[tuple[str, ...]]] = [[]]
    words = 0
    for paragraph in paragraphs:
        if words >= SECTION_WORDS:
            parts.append([])
            words = 0
        parts[-1].append(paragraph)
        words += sum(len(sentence.split()) for sentence in paragraph)
    if len(parts) > 1 and words < SECTION_WORDS / 4:
        last = parts.pop()
        parts[-1] += last
    return parts
