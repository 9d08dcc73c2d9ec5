"""The texts of a corpus, one after the other: what a tokenizer is trained from, and language models are measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmssl.data.documents import TEXT_SUFFIXES, read_document
from mmssl.data.index import Kind, open_corpus
from mmssl.data.subtitles import read_subtitles
from mmssl.data.walk import SUBTITLE_SUFFIXES
from mmssl.types import InputError, MediaError


def corpus_texts(
    paths: Iterable[Path], *, kind: Kind = "auto", on_source: Callable[[int, int], None] | None = None
) -> Iterator[str]:
    """Sentences and captions of folders, manifests, text files and subtitle files. `on_source` is told how many sources are done, of all.

    Raises:
        InputError: something is neither of these, or cannot be read.
    """
    paths = list(paths)
    corpora = [open_corpus(path, kind=kind) if path.is_dir() or path.suffix.lower() == ".parquet" else None for path in paths]
    total = sum(1 if corpus is None else len(corpus) for corpus in corpora)
    done = 0
    for path, corpus in zip(paths, corpora, strict=True):
        for texts in [_file_texts(path)] if corpus is None else ([cue.text for cue in source.cues] for source in corpus):
            yield from texts
            done += 1
            if on_source is not None:
                on_source(done, total)


def _file_texts(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"there is no file or folder {path}")
    suffix = path.suffix.lower()
    try:
        if suffix in SUBTITLE_SUFFIXES:
            return [cue.text for cue in read_subtitles(path)]
        if suffix in TEXT_SUFFIXES:
            return [cue.text for section in read_document(path) for cue in section.cues]
    except MediaError as error:
        raise InputError(f"{path}: {error}") from error
    known = " ".join([*sorted(TEXT_SUFFIXES), *SUBTITLE_SUFFIXES])
    raise InputError(f"{path} is no text by its suffix; {known} are, and folders and manifests")
