"""Text to token ids: the answer to `Text` requests, and tokenizers trained from a corpus.

WordPiece: Wu et al., "Google's Neural Machine Translation System", 2016, arXiv:1609.08144, section 4.1, as BERT uses it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from mmssl.files import write_aside
from mmssl.types import InputError, Text
from mmssl.vocabulary import SHORTEST, SPECIAL, Vocabulary, load_tokenizer, vocabulary_of

LONGEST = 1 << 16  # tokens of a text
PREFIX = "##"  # of a token that goes on with a word
LONGEST_WORD = 100  # characters; a longer "word" is unknown, as BERT has it
LINE = 10_000  # words that the trainer is given at once
ALPHABET = 1000  # characters that are tokens of their own; rarer ones are unknown

__all__ = ["check_text", "load_tokenizer", "token_ids", "train_tokenizer"]


def token_ids(request: Text) -> Tensor:
    """Answer a request: int64 (P, length). Raises `InputError` as `load_tokenizer` does."""
    vocabulary = load_tokenizer(request.tokenizer)
    return torch.tensor([vocabulary.ids(text, request.length) for text in request.texts], dtype=torch.int64)


def check_text(request: Text) -> None:
    """Raise `InputError` for a request that makes no sense."""
    if not request.texts:
        raise InputError("a request for text holds no text; give at least one")
    if not SHORTEST <= request.length <= LONGEST:
        raise InputError(f"a request for text asks for {request.length} tokens; a text has {SHORTEST} to {LONGEST}")
    if not request.tokenizer:
        raise InputError("a request for text names no tokenizer; give the path of a tokenizer.json (`mmssl tokenizer` makes one)")


def train_tokenizer(texts: Iterable[str], out: Path | None = None, *, size: int = 8000, lowercase: bool = True) -> Vocabulary:
    """Train a WordPiece tokenizer: the same texts give the same file, in whatever order they come.

    A word is a run of letters and digits, or one mark of punctuation. From single characters on, the pair of neighbouring tokens that
    occurs most often becomes a token, until there are `size`.

    Args:
        texts: what it is to be trained on.
        out: file to write; a folder gets a `tokenizer.json`.
        size: tokens at most, special ones included.
        lowercase: fold case and strip accents, as BERT "uncased".

    Raises:
        InputError: no words in the texts, or `size` below what the characters need.
    """
    core = Tokenizer(models.WordPiece(vocab={"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    vocabulary = _learn(_count(texts, core), size)
    core.model = models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
    core.decoder = decoders.WordPiece(prefix=PREFIX)
    core.add_special_tokens(list(SPECIAL))
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    if out is not None:
        try:
            write_aside(out, core.to_str(pretty=True).encode())
        except OSError as error:
            raise InputError(f"the tokenizer cannot be written to {out}: {error.strerror or error}") from error
    return vocabulary_of(core, str(out or "just trained"))


def _count(texts: Iterable[str], core: Tokenizer) -> Counter[str]:
    """How often each word occurs, after normalisation."""
    assert core.normalizer is not None and core.pre_tokenizer is not None
    names = re.compile("|".join(map(re.escape, SPECIAL)))
    count: Counter[str] = Counter()
    for text in texts:
        plain = core.normalizer.normalize_str(names.sub(" ", text))
        count.update(word for word, _ in core.pre_tokenizer.pre_tokenize_str(plain))
    return count


def _learn(count: Counter[str], size: int) -> dict[str, int]:
    letters = Counter({letter: 0 for word in count for letter in word})
    for word, times in count.items():
        for letter in word:
            letters[letter] += times
    kept = sorted(sorted(letters), key=lambda letter: -letters[letter])[:ALPHABET]
    known = set(kept)
    words = sorted(word for word in count if len(word) <= LONGEST_WORD and known.issuperset(word))
    if not words:
        raise InputError("there are no words to train a tokenizer from; give files of text, or of clips with captions")
    # Given as special tokens, in order, the characters have the same numbers in every run; the trainer breaks its ties by them.
    base = [*SPECIAL, *sorted(kept), *(PREFIX + letter for letter in sorted(kept))]
    if size < len(base):
        raise InputError(
            f"a vocabulary of {size} tokens is too small for {len(kept)} characters, which need {len(base)}; raise --size"
        )
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, show_progress=False, special_tokens=base)
    core = Tokenizer(models.WordPiece(vocab={"[UNK]": 0}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.train_from_iterator(_repeated(words, count), trainer)
    fixed = set(base)
    learnt = core.get_vocab(with_added_tokens=False)
    ordered = [*base, *(token for token in sorted(learnt, key=learnt.__getitem__) if token not in fixed)]
    return {token: number for number, token in enumerate(ordered)}


def _repeated(words: list[str], count: Counter[str]) -> Iterator[str]:
    for word in words:
        for done in range(0, count[word], LINE):
            yield " ".join([word] * min(LINE, count[word] - done))
