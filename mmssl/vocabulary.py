"""A tokenizer and what its ids mean: which are special, which go on with a word. Loaded once a process, by path or by hub name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from mmssl.types import InputError

TOKENIZER_FILE = "tokenizer.json"
SHORTEST = 4  # tokens: two special ones, and room to learn something

# What a special token does -> its name in our tokenizers, then in those of BERT, BART and Pegasus on the hub.
NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<pad>"),  # Pegasus begins with padding
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>", "<mask_2>"),
    "sent": ("[SENT]", "<mask_1>", "[MASK]", "<mask>"),  # stands for a whole sentence
}
SPECIAL = tuple(names[0] for names in NAMES.values())  # of our own tokenizers: their ids are 0, 1, 2, ...


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A tokenizer with its special ids. Text goes in by `ids`, comes out by `words`."""

    core: Tokenizer
    size: int
    pad: int
    unk: int
    cls: int  # begins a text
    sep: int  # ends a text
    mask: int  # stands for words that are hidden
    sent: int  # stands for a sentence that is hidden
    special: tuple[int, ...]  # all of them; never hidden, never drawn
    digest: bytes  # sha256 of the tokenizer's file

    @property
    def json(self) -> str:
        """What `tokenizer.json` holds."""
        self.core.no_truncation()  # the last text's length is no part of it
        return self.core.to_str()

    @property
    def continues(self) -> tuple[bool, ...]:
        """For each id, whether its token goes on with the word before it: "##ing" after "play".

        Byte-level and SentencePiece vocabularies mark the beginnings of words instead.
        """
        tokens = [self.core.id_to_token(number) or "" for number in range(self.size)]
        begin = next((mark for mark in ("\u0120", "\u2581") if any(token.startswith(mark) for token in tokens)), None)
        going_on = [token.startswith("##") if begin is None else not token.startswith(begin) for token in tokens]
        special = set(self.special)
        return tuple(flag and number not in special for number, flag in enumerate(going_on))

    def ids(self, text: str | tuple[str, str], length: int) -> list[int]:
        """`length` ids: cls, the text, sep (a pair: and the second text, sep), cut off to fit, padded at the end.

        Special tokens may stand in the text by our names, whatever the tokenizer calls them.
        """
        self.core.enable_truncation(length)
        first, second = (text, None) if isinstance(text, str) else text
        found = self.core.encode(self._named(first), None if second is None else self._named(second)).ids
        return found + [self.pad] * (length - len(found))

    def words(self, ids: list[int], *, special: bool = False) -> str:
        """The text of ids, without padding; special tokens are shown by name, or left out."""
        return self.core.decode([number for number in ids if number != self.pad], skip_special_tokens=not special)

    def _named(self, text: str) -> str:
        if "[" not in text or self.core.token_to_id("[MASK]") is not None:
            return text
        for name, number in (("[MASK]", self.mask), ("[SENT]", self.sent), ("[UNK]", self.unk)):
            text = text.replace(name, self.core.id_to_token(number) or name)
        return text


def load_tokenizer(name: Path | str) -> Vocabulary:
    """The tokenizer of a `tokenizer.json`, of a folder that holds one, or (for who is online) of a model on the Hugging Face hub.

    A file is read once a process, and again where it has changed.

    Raises:
        InputError: neither a file nor a folder nor a name on the hub; no tokenizer; one that lacks padding or a mask.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / TOKENIZER_FILE
    if path.is_file():
        status = path.stat()
        return _from_file(str(path.absolute()), status.st_mtime_ns, status.st_size)
    if not str(name) or path.suffix == ".json" or (path.parent.is_dir() and len(path.parts) > 2):
        raise InputError(f"there is no tokenizer {name}; `mmssl tokenizer FOLDER {name or 'tokenizer.json'}` makes one")
    return _from_hub(str(name))


def vocabulary_of(core: Tokenizer, origin: str) -> Vocabulary:
    """Find a tokenizer's special ids by their names. Raises `InputError` where one is missing that mmssl needs."""
    core.no_padding()
    core.no_truncation()
    found: dict[str, int] = {}
    for role, names in NAMES.items():
        numbers = [core.token_to_id(name) for name in names]
        known = [number for number in numbers if number is not None]
        if not known:
            raise InputError(f"the tokenizer {origin} has none of {', '.join(names)}; make one with `mmssl tokenizer`")
        found[role] = known[0]
    added = [number for number, token in core.get_added_tokens_decoder().items() if token.special]
    special = tuple(sorted({*found.values(), *added}))
    digest = hashlib.sha256(core.to_str().encode()).digest()
    # Ids may have holes (added tokens far up), so the size is what an embedding must have.
    size = max(core.get_vocab(with_added_tokens=True).values()) + 1
    return Vocabulary(core, size, **found, special=special, digest=digest)


@lru_cache(maxsize=8)
def _from_file(path: str, changed: int, size: int) -> Vocabulary:
    del changed, size  # part of the key only
    try:
        core = Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
        raise InputError(f"{path} is no tokenizer ({error}); `mmssl tokenizer FOLDER {path}` makes one") from error
    return vocabulary_of(core, path)


@lru_cache(maxsize=8)
def _from_hub(name: str) -> Vocabulary:
    try:
        core = Tokenizer.from_pretrained(name)
    except Exception as error:  # as above: no network, no such model, no tokenizer.json
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"there is no tokenizer {name!r}: it is no file or folder, and the hub does not give it ({reason}); "
            "`mmssl tokenizer FOLDER tokenizer.json` makes one from a corpus"
        ) from error
    return vocabulary_of(core, name)
