"""`mmssl search`: find moments of a folder by text, sound, picture or motion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl.commands._places import new_file, new_folder

if TYPE_CHECKING:
    from rich.table import Table

    from mmssl.downstream.search.answers import Answer

search = typer.Typer(
    help="Find moments of a folder by text, sound, picture or motion: an index of embeddings, and queries of it.",
    no_args_is_help=True,
)


@search.command("index")
def index(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    folder: Annotated[Path, typer.Argument(help="Folder of media, or a manifest written by `mmssl index`.")],
    db: Annotated[Path, typer.Argument(help="Folder of the index, new or one to bring up to date.", callback=new_folder)],
    modality: Annotated[
        str | None, typer.Option(help="Which to index, separated by commas; default: those that the objective joins.")
    ] = None,
    stride: Annotated[float, typer.Option(help="Seconds from one window to the next.")] = 1.0,
    cells: Annotated[int, typer.Option(help="Parts kept of each picture, where the objective compares parts.")] = 8,
    ann: Annotated[
        str, typer.Option(help="auto, none, ivf_flat, ivf_pq or ivf_hnsw_sq: how large tables are searched.")
    ] = "auto",
    objective: Annotated[
        str | None, typer.Option(help="Which objective of the run; default: the first that joins two modalities.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Embed the files of a folder, window by window, into a LanceDB index.

    Start it again at any time: only new and changed files are embedded, and files that are gone are deleted from the index.
    Ctrl-C, or a machine that goes down, loses half a minute of work at most. The label of a file is the name of its folder.

    Example: mmssl search index runs/demo clips/ clips.search
    """
    from rich.console import Console

    from mmssl.search import search_index

    done = search_index(
        run,
        folder,
        db,
        modalities=_names(modality),
        stride=stride,
        cells=cells,
        ann=ann,
        objective=objective,
        step=step,
        device=device,
    )
    console = Console(soft_wrap=True)
    counts = ((done.added, "new"), (done.changed, "changed"), (done.unchanged, "unchanged"), (done.gone, "gone"))
    told = ", ".join(f"{count} {word}" for count, word in counts if count or word == "new")
    rows = ", ".join(f"{count:,} of {name.replace('_', ' ')}" for name, count in done.rows.items())
    console.print(f"{done.files} files ({told}); rows: {rows}; in {done.db}", highlight=False, markup=False, soft_wrap=True)
    if done.rejected:
        reasons = ", ".join(f"{reason} {count}" for reason, count in list(done.rejected.items())[:5])
        console.print(f"{sum(done.rejected.values())} files cannot be used ({reasons})", highlight=False, markup=False)
    if done.notes:
        console.print(f"{len(done.notes)} files gave nothing or not all:", highlight=False, markup=False)
        for name, reason in list(done.notes.items())[:5]:
            console.print(f"  {name}: {reason}", highlight=False, markup=False)


@search.command("query")
def query(
    db: Annotated[Path, typer.Argument(help="Folder of an index.")],
    text: Annotated[str | None, typer.Option(help="Words to look for.")] = None,
    audio: Annotated[str | None, typer.Option(help="A sound: any file with sound, or a part of it, clip.mp4:12-15.")] = None,
    image: Annotated[Path | None, typer.Option(help="A still picture.")] = None,
    video: Annotated[str | None, typer.Option(help="The picture of a film, or of a part of it, clip.mp4:1:02-1:10.")] = None,
    motion: Annotated[str | None, typer.Option(help="The motion in a film, or in a part of it.")] = None,
    into: Annotated[
        str | None, typer.Option("--in", help="video, audio, text or flow: what is searched; default: the other modality.")
    ] = None,
    count: Annotated[int, typer.Option("-k", help="Hits.")] = 10,
    per_file: Annotated[int, typer.Option(help="Windows of one file, at most; they do not overlap.")] = 1,
    path: Annotated[str | None, typer.Option(help="Only paths like this: * is any characters, ? one.")] = None,
    labels: Annotated[str | None, typer.Option(help="Only files in folders of these names, separated by commas.")] = None,
    after: Annotated[float | None, typer.Option(help="Only windows that begin at this second of their file or later.")] = None,
    before: Annotated[float | None, typer.Option(help="Only windows that end by this second.")] = None,
    min_duration: Annotated[float | None, typer.Option(help="Only files that last so many seconds.")] = None,
    max_duration: Annotated[float | None, typer.Option(help="Only files that last no longer.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Only rows for which this SQL holds; columns id, path, label, duration, start, end, text.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every row, also where there is an approximate index.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet (.png): pictures, sounds and times of the hits.", callback=new_file)
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Where the run is now, if it has moved.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Find the moments that are nearest to a text, a sound, a picture or a motion.

    Which queries are possible depends on what the run's objective joins: pictures and sound, pictures and text, or pictures
    and motion. The score is a cosine; compare scores of one query only.

    Example: mmssl search query clips.search --audio bell.wav --sheet found.png
    """
    import json

    from rich.console import Console

    from mmssl.search import Filter, Searcher
    from mmssl.types import InputError

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise InputError(f"--sheet names a PNG file and ends in .png, got {sheet}")
    searcher = Searcher(db, run=run, device=device)
    asked = searcher.query(text=text, audio=audio, image=image, video=video, motion=motion)
    narrowed = Filter(path, _names(labels), after, before, min_duration, max_duration, where)
    found = searcher.find(asked, into=into, k=count, per_file=per_file, narrowed=narrowed, exact=exact)
    if sheet is not None:
        from mmssl.downstream.search.sheet import write_sheet

        write_sheet(found, searcher.space, sheet)
    if as_json:
        about = {"kind": asked.kind, "words": asked.words, "windows": asked.windows, "in": found.kind, "root": str(found.root)}
        print(json.dumps({"query": about, "hits": [hit.to_json() for hit in found.hits]}, indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(_table(found) if found.hits else "nothing passes the conditions")
    if sheet is not None:
        console.print(f"contact sheet: {sheet}", markup=False, highlight=False, soft_wrap=True)


def _names(listed: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (listed or "").split(",") if part.strip()))


def _table(found: Answer) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from mmssl.downstream.search.sheet import moment
    from mmssl.downstream.spaces import WORDS

    table = Table(
        title=escape(f"{found.query.words} \u2192 {WORDS[found.kind]}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        header_style="dim",
    )
    labelled, said = any(hit.label for hit in found.hits), any(hit.text for hit in found.hits)
    for name, wanted in (("", True), ("score", True), ("file", True), ("time", True), ("label", labelled), ("text", said)):
        if wanted:
            table.add_column(name, justify="right" if name in ("", "score") else "left", overflow="fold")
    for hit in found.hits:
        cells = [str(hit.rank), f"{hit.score:.3f}", hit.path, f"{moment(hit.start)}\u2013{moment(hit.end)}"]
        cells += [hit.label] * labelled + [hit.text or ""] * said
        table.add_row(*map(escape, cells))
    return table
