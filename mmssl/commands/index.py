"""`mmssl index`: a folder of media or of text in, a manifest out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl.commands._places import new_file

if TYPE_CHECKING:
    from rich.table import Table

    from mmssl.data.manifest import Summary


def index(
    folder: Annotated[Path, typer.Argument(help="Folder of media files, or of text files; subfolders and links are followed.")],
    out: Annotated[
        Path | None, typer.Option(help="The manifest (.parquet). Default: a file in your cache folder.", callback=new_file)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON on stdout.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Probing processes. Default: one for each core.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one file may take (more above 100 MB).")] = 30.0,
    loudness: Annotated[bool, typer.Option("--loudness/--no-loudness", help="Measure how loud the sound is over time.")] = True,
    kind: Annotated[str, typer.Option(help="media, text, or auto: text where there is no media.")] = "auto",
    motion: Annotated[
        bool,
        typer.Option(
            "--motion", help="Measure how much the picture moves over time: decodes all of it, two to five times slower."
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Probe everything again, also what has not changed.")] = False,
) -> None:
    """List what a folder of media holds: streams, spans, loudness, captions; what cannot be used, and why.

    Files go by their suffix (.mp4, .mkv, .webm, .avi, .wav, ...); what is no media by its suffix is ignored and counted. Subtitles
    beside a file (NAME.srt, NAME.en.vtt, NAME.ass, GRID's NAME.align) come before those inside it. Run it again at any time: files
    that have not changed are not probed again. No file is fatal: one that hangs or crashes the decoder is rejected with that reason.

    A folder without media but with text (.txt, .md, .rst) is a corpus of text: each section of a document is a source, its sentences
    are the captions. Text beside media is ignored, unless --kind text asks for it.

    Example: mmssl index clips/ --out clips.parquet
    """
    import json
    from dataclasses import asdict
    from typing import get_args

    from rich.console import Console

    from mmssl.data.index import Kind, default_manifest, index_folder, suffixes
    from mmssl.types import InputError

    if out is not None and out.suffix.lower() != ".parquet":
        raise InputError(f"--out names a Parquet file and ends in .parquet, got {out}")
    chosen = next((name for name in get_args(Kind) if name == kind), None)
    if chosen is None:
        raise InputError(f"--kind is {kind!r}; it is one of {', '.join(get_args(Kind))}")
    manifest = index_folder(
        folder,
        out,
        workers=workers,
        timeout=timeout,
        loudness=loudness,
        motion=motion,
        fresh=fresh,
        progress=not as_json,
        kind=chosen,
    )
    place = out if out is not None else default_manifest(folder, chosen)
    summary = manifest.summary()
    if as_json:
        print(json.dumps({**asdict(summary), "manifest": str(place), "sha256": manifest.sha256}, indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(_table(summary))
    for name in summary.unreadable_folders:
        console.print(f"could not be listed: {name}", markup=False, style="yellow")
    if not summary.usable and not summary.rejected:
        console.print(f"No media files there. Suffixes that count: {suffixes()}", markup=False, style="yellow")
    console.print(f"manifest: {place}", markup=False, soft_wrap=True)


def _table(summary: Summary) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_row(f"[bold green]{summary.usable}[/]", f"[bold green]usable[/] ({summary.hours:.2f} hours)")
    if summary.texts:
        table.add_row(str(summary.texts), "  sections of text")
    table.add_row(str(summary.with_sound), "  with sound")
    nothing_to_hear = f" ({summary.silent_tracks} with a track in which nothing is to be heard)" if summary.silent_tracks else ""
    table.add_row(str(summary.silent), f"  silent{nothing_to_hear}")
    table.add_row(str(summary.with_subtitles), "  with captions")
    if summary.audio_only:
        table.add_row(str(summary.audio_only), "  sound only, no picture")
    for note, count in summary.notes.items():
        table.add_row(str(count), f"  [dim]{escape(note)}[/]")
    table.add_row(f"[bold red]{summary.rejected}[/]", "[bold red]rejected[/]")
    for reason, count in summary.reasons.items():
        table.add_row(str(count), f"  {escape(reason)}")
    table.add_row(str(summary.ignored), "[dim]other files, ignored[/]")
    return table
