"""`mmssl probe soundnet`, `vggss`, `toyworld`: how well a run finds the source of a sound, by the published protocols."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl.commands._places import new_file

if TYPE_CHECKING:
    from mmssl.usage_localization import Data

Run = Annotated[Path, typer.Argument(help="Folder of a trained run.")]
Root = Annotated[Path, typer.Argument(help="Folder of the data: frames/, audio/ (or videos/), the annotations and lists.")]
World = Annotated[Path, typer.Argument(help="Folder of a toy world, with its ground truth.")]
Extended = Annotated[bool, typer.Option("--extended", help="With the pairs whose sound has no source in view.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Be content with the clips that are there, and say so.")]
Chosen = Annotated[str | None, typer.Option(help="Which objective of the run; default: the first that localizes.")]
Out = Annotated[Path | None, typer.Option(help="JSON file for the figures; default: in the run.", callback=new_file)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout, and nothing else.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint to use; default: the newest.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]


def soundnet(
    run: Run,
    root: Root,
    extended: Extended = False,
    allow_missing: AllowMissing = False,
    objective: Chosen = None,
    out: Out = None,
    as_json: AsJson = False,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """Flickr-SoundNet's 250 test clips: cIoU and AUC, beside the centre, the object prior and a wrong sound.

    With --extended as many negatives are added: AP, max-F1 and LocAcc. A test set that is not whole is refused.

    Example: mmssl probe soundnet runs/demo flickr-soundnet/
    """
    _perform(run, root, "soundnet", extended, allow_missing, objective, out, as_json, step, device)


def vggss(
    run: Run,
    root: Root,
    extended: Extended = False,
    allow_missing: AllowMissing = False,
    objective: Chosen = None,
    out: Out = None,
    as_json: AsJson = False,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """VGG-SS's 5,158 clips: cIoU and AUC, beside the centre, the object prior and a wrong sound.

    With --extended as many negatives are added: AP, max-F1 and LocAcc. Videos of the set have gone: --allow-missing evaluates
    what is left and tells how many of how many, without the name of the test set.

    Example: mmssl probe vggss runs/demo vgg-ss/ --extended
    """
    _perform(run, root, "vggss", extended, allow_missing, objective, out, as_json, step, device)


def toyworld(
    run: Run,
    world: World,
    allow_missing: AllowMissing = False,
    objective: Chosen = None,
    out: Out = None,
    as_json: AsJson = False,
    step: Step = None,
    device: Device = "cpu",
) -> None:
    """A toy world's exact masks: pointing game and IoU beside four baselines, and foreign sounds that nothing in view makes.

    Give a world that the run was not trained on.

    Example: mmssl probe toyworld runs/demo other-world/
    """
    _perform(run, world, "toyworld", False, allow_missing, objective, out, as_json, step, device)


def _perform(
    run: Path,
    root: Path,
    data: Data,
    extended: bool,
    allow_missing: bool,
    objective: str | None,
    out: Path | None,
    as_json: bool,
    step: int | None,
    device: str,
) -> None:
    import json

    from rich.console import Console

    from mmssl.downstream.probe.localization_table import localization_tables
    from mmssl.usage_localization import probe_localization_run

    found, place = probe_localization_run(
        run,
        root,
        data,
        extended=extended,
        allow_missing=allow_missing,
        objective=objective,
        out=out,
        step=step,
        device=device,
    )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = Console(soft_wrap=True)
    for table in localization_tables(found):
        console.print(table)
    if found["missing"]:
        console.print(
            f"{len(found['missing'])} are missing; the reasons are in {place}", highlight=False, markup=False, soft_wrap=True
        )
    console.print(f"{place}", highlight=False, markup=False, soft_wrap=True)
