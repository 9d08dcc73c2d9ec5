"""Small tokenizers, and batches of token ids with a planted link that can be cut, for `TinyText` (no tokenizer, no files)."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mmssl.data.texts import corpus_texts
from mmssl.data.tokens import train_tokenizer
from tests.tiny_av import TINY_WORDS

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A red ball and two green cubes fall on the wooden floor.",
    "The ball bounces twice; then it rolls away, quickly.",
    "Seven small boats were sailing slowly towards the harbour walls.",
    "She played the played-out song again, playing louder and louder.",
)
CLS, SEP = TINY_WORDS.cls, TINY_WORDS.sep
KEYS = 16  # tokens 10 to 25 can be the key of a document


@cache
def tokenizer_file() -> str:
    """A tokenizer of `SENTENCES`, one file for the whole session, gone at its end."""
    folder = tempfile.TemporaryDirectory(prefix="mmssl-words-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "words.json"
    train_tokenizer(SENTENCES * 3, path, size=200)
    return str(path)


def tokenizer_of(folder: Path, out: Path) -> Path:
    """A tokenizer of a folder's captions."""
    train_tokenizer(corpus_texts([folder]), out, size=300)
    return out


def _fixed(size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(77))


def couples(rows: int, seed: int, *, linked: bool = True) -> dict[str, Tensor]:
    """Texts of couples: after a token of the lower half stands its own partner of the upper half. Cut: all words of the batch shuffled."""
    g = torch.Generator().manual_seed(seed)
    first = torch.randint(5, 29, (rows, 7), generator=g)
    words = torch.stack([first, 29 + _fixed(24)[first - 5]], dim=2).flatten(1)
    if not linked:
        words = words.flatten()[torch.randperm(words.numel(), generator=g)].view_as(words)
    ends = [torch.full((rows, 1), CLS), words, torch.full((rows, 1), SEP)]
    return {"text": torch.cat(ends, dim=1)[:, None], "source": torch.arange(rows) + 1000 * seed}


def halves(rows: int, seed: int, *, linked: bool = True) -> dict[str, Tensor]:
    """Two texts of one of 4 topics, all of whose words are its own; the first also of words that only come early, the second late.

    Cut: all words of the batch shuffled.
    """
    g = torch.Generator().manual_seed(seed)
    topic = torch.randint(4, (rows, 1), generator=g)
    first, second = (5 + 14 * topic + 7 * late + torch.randint(7, (rows, 5), generator=g) for late in (0, 1))
    if not linked:
        words = torch.cat([first, second]).flatten()
        first, second = words[torch.randperm(len(words), generator=g)].view(2, rows, 5)
    ends = torch.full((rows, 1), CLS), torch.full((rows, 1), SEP)
    texts = {key: torch.cat([ends[0], part, ends[1]], dim=1)[:, None] for key, part in (("first", first), ("second", second))}
    return {**texts, "source": torch.arange(rows) + 1000 * seed}


def keyed(rows: int, seed: int, *, linked: bool = True) -> dict[str, Tensor]:
    """A document that names its key among other words, and a target that is the key. Cut: the keys of the batch shuffled."""
    g = torch.Generator().manual_seed(seed)
    key = torch.randint(10, 10 + KEYS, (rows, 1), generator=g)
    said = key if linked else torch.randint(10, 10 + KEYS, (rows, 1), generator=g)
    other = torch.randint(30, 60, (rows, 3), generator=g)
    cls, sep, pad = (torch.full((rows, 1), number) for number in (CLS, SEP, TINY_WORDS.pad))
    document = torch.cat([cls, said, other, said, sep], dim=1)
    target = torch.cat([cls, key, sep, pad, pad], dim=1)
    return {"document": document[:, None], "target": target[:, None], "source": torch.arange(rows) + 1000 * seed}
