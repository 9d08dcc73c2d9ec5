"""`mmssl tokenizer`: a corpus in, a vocabulary out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl.commands._places import new_file


def tokenizer(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER_OR_FILES...", help="Folders of clips or text, manifests, text or subtitle files."),
    ],
    out: Annotated[Path, typer.Argument(help="Where the tokenizer goes (.json).", callback=new_file)],
    size: Annotated[int, typer.Option(min=32, help="Tokens at most; fewer where the corpus does not give so many.")] = 8000,
    cased: Annotated[bool, typer.Option("--cased", help="Keep upper case and accents apart.")] = False,
    kind: Annotated[str, typer.Option(help="Of folders: media, text, or auto (text where there is no media).")] = "auto",
) -> None:
    """Train a WordPiece tokenizer from the sentences of texts and the captions of clips.

    Encoders of text need one: encoders.text.tokenizer=words.json. The same texts and size give the same file, byte for byte.

    Example: mmssl tokenizer clips/ notes.txt words.json --size 8000
    """
    from typing import get_args

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mmssl.data.index import Kind
    from mmssl.data.texts import corpus_texts
    from mmssl.data.tokens import train_tokenizer
    from mmssl.types import InputError

    chosen = next((name for name in get_args(Kind) if name == kind), None)
    if chosen is None:
        raise InputError(f"--kind is {kind!r}; it is one of {', '.join(get_args(Kind))}")
    if out.suffix.lower() != ".json":
        raise InputError(f"the tokenizer's file ends in .json, got {out}; the last argument says where it goes")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("sources"))
    sentences = words = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def counted():
            nonlocal sentences, words
            for text in corpus_texts(
                sources, kind=chosen, on_source=lambda done, total: bar.update(task, completed=done, total=total)
            ):
                sentences += 1
                words += len(text.split())
                yield text
            bar.update(task, description="learning")

        made = train_tokenizer(counted(), out, size=size, lowercase=not cased)
    typer.echo(f"wrote {out}: {made.size} tokens from {words:,} words in {sentences:,} sentences and captions")
