"""A trained run on the test sets of sound localization: `mmssl probe soundnet`, `vggss` and `toyworld`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.data.index import open_corpus
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.evaluation_file import read_calibration, write_evaluation
from mmssl.downstream.pairing import Pairing, choose, pair
from mmssl.downstream.probe.localization import probe_localization
from mmssl.downstream.probe.localization_sets import read_soundnet_set, read_vggss_set
from mmssl.downstream.probe.localization_toyworld import probe_toyworld
from mmssl.files import ELSEWHERE, check_file
from mmssl.run import load_run
from mmssl.types import InputError

Data = Literal["soundnet", "vggss", "toyworld"]


def probe_localization_run(
    run: Path,
    root: Path,
    data: Data,
    *,
    extended: bool = False,
    allow_missing: bool = False,
    objective: str | None = None,
    out: Path | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> tuple[dict[str, Any], Path]:
    """Figures of a run on a test set, and the JSON file they were saved in.

    Args:
        run: folder.
        root: of the data, see `mmssl.downstream.probe.localization_sets`; of a toy world.
        data: which test set.
        extended: with its negatives; not for a toy world, which has them always.
        allow_missing: evaluate what is there of it, and call it that.
        objective: of the run; None: the first that localizes.
        out: JSON file; None: probe-DATA.json in the run.
        step: of the checkpoint; None: the newest.
        device: for the model.
        progress: show a bar on stderr.

    Raises:
        InputError: the run cannot localize, or the data are not those of the protocol.
    """
    loaded = load_run(run, step=step, device=device)
    place = out or run / f"probe-{data}{'-extended' if extended else ''}.json"
    check_file(place, ELSEWHERE)
    name = choose(loaded.objectives, objective)
    pairing, scale = pair(name, loaded.objectives[name], loaded.encoders, device=device), read_calibration(run, name)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("clips"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("clips", total=None)

        def started(total: int) -> Callable[[int], None]:
            bar.update(task, total=total)
            return lambda count: bar.advance(task, count)

        found = _measured(pairing, root, data, extended, allow_missing, scale, loaded.config.seed, started)
    content = {"step": loaded.step, "objective": name, "root": str(root), **found}
    return content, write_evaluation(place, content)


def _measured(
    pairing: Pairing,
    root: Path,
    data: Data,
    extended: bool,
    allow_missing: bool,
    scale: Calibration | None,
    seed: int,
    started: Callable[[int], Callable[[int], None]],
) -> dict[str, Any]:
    if data == "toyworld":
        sources = list(open_corpus(root))
        if not sources:
            raise InputError(f"{root} holds no film that can be read; `mmssl toyworld {root}` makes a world")
        advance = started(len(sources))
        return probe_toyworld(
            pairing, sources, seed=seed, allow_missing=allow_missing, calibration=scale, on_source=lambda: advance(1)
        )
    clips = (read_soundnet_set if data == "soundnet" else read_vggss_set)(root, extended=extended)
    return probe_localization(pairing, clips, allow_missing=allow_missing, calibration=scale, on_clips=started(len(clips.items)))
