"""`mmssl toyworld`: write the embedded corpus, and show what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl.commands._places import new_folder

if TYPE_CHECKING:
    from rich.table import Table

    from mmssl.data.toyworld.survey import Survey


def toyworld(
    out: Annotated[
        Path, typer.Argument(help="Folder for the corpus; new, empty, or one that this command began.", callback=new_folder)
    ],
    clips: Annotated[int, typer.Option(help="How many clips. More than there are: the rest is added.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed is another world.")] = 0,
    difficulty: Annotated[
        str, typer.Option(help="easy, default, twins, two_sounders, noisy, lossy, falling or hard.")
    ] = "default",
    cut: Annotated[
        str | None,
        typer.Option(help="Cut a link: sound_from_other_clip, sound_shifted, captions_shuffled, frozen, silent_only or turned."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Rendering processes. Default: one for each core.")] = None,
) -> None:
    """Write a corpus of rendered videos whose every answer is known: who sounds, when and where, what moves how, what is said.

    Each clip is an mp4 (H.264, AAC) with captions (.srt) and ground truth (.npz) beside it. The same seed and parameters give the
    same clips. The same command again does nothing; after an interruption it continues.

    Example: mmssl toyworld world/ --clips 1000 --seed 1
    """
    from rich.console import Console

    from mmssl.data.toyworld import make_toyworld
    from mmssl.data.toyworld.sheet import draw_contact_sheet
    from mmssl.data.toyworld.survey import survey

    make_toyworld(out, clips=clips, seed=seed, difficulty=difficulty, cut=cut, workers=workers)
    sheet = draw_contact_sheet(out, clips=min(clips, 10))
    console = Console()
    console.print(_table(survey(out)))
    console.print(f"clips:         {out}", markup=False, soft_wrap=True)
    console.print(f"contact sheet: {sheet}", markup=False, soft_wrap=True)


def _table(found: Survey) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    whole = "" if found.counted == found.clips else f" [dim](what follows: the first {found.counted})[/]"
    table.add_row(str(found.clips), f"clips of {found.seconds:g} s, {found.clips * found.seconds / 3600:.2f} hours{whole}")
    table.add_row(f"{(found.video_bytes + found.other_bytes) / 1e6:.0f} MB", f"{found.video_bytes / 1e6:.0f} MB of it video")
    table.add_row(f"{found.objects:.1f}", "objects in view, a clip")
    table.add_row(f"{found.strikes:.1f}", "strikes heard, a clip that is not muted")
    table.add_row(f"{found.captions:.1f}", "captions, a clip")
    for share, what in (
        (found.muted, "muted"),
        (found.offscreen, "with a sound from outside the view"),
        (found.twins, "with a silent object in a sounding one's colour"),
    ):
        table.add_row(f"{share:.0%}", what)
    heard = ", ".join(f"{name} {count}" for name, count in found.materials.most_common())
    table.add_row("", f"[dim]heard, in how many clips:[/] {heard}")
    return table
