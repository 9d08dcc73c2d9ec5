"""What a run that tracks is used for, each in one call: following things through a film, and the benchmarks of tracking.

Like `mmssl.usage`, these join a run folder with the tools of `mmssl.downstream`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mmssl.downstream.follow import sight_of
from mmssl.downstream.footage import open_footage
from mmssl.downstream.given import read_given
from mmssl.downstream.probe.davis import DavisFigures, Year, evaluate_davis, open_davis
from mmssl.downstream.probe.jhmdb import JhmdbFigures, evaluate_jhmdb, open_jhmdb
from mmssl.downstream.probe.trackers import BASELINES, Tracker, by_features
from mmssl.downstream.propagate import Propagation
from mmssl.downstream.track_film import Tracked, check_out, track_film
from mmssl.files import ELSEWHERE, check_folder, write_aside
from mmssl.run import Run, load_run
from mmssl.types import InputError, MediaError


def track_run(
    run: Path,
    video: Path,
    out: Path,
    *,
    mask: Path | None = None,
    boxes: Sequence[str] = (),
    points: Path | None = None,
    settings: Propagation = Propagation(),
    short_side: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    objective: str | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Tracked:
    """Follow a mask, boxes or keypoints through a film by a run; see `mmssl.downstream.track_film`.

    Raises:
        InputError: the film, what is to be followed, or the run cannot be used, or `out` holds something.
    """
    check_out(out)
    footage = open_footage(video, fps=fps)
    given = read_given(footage.size, mask=mask, boxes=boxes, points=points)
    loaded = load_run(run, step=step, device=device)
    sight = sight_of(loaded.encoders, loaded.objectives, objective, device=device)
    about = {"run": str(run), "step": loaded.step, "objective": sight.objective}
    with _bar("tracking", "frames", footage.count(start, end), progress) as (bar, task):
        try:
            return track_film(
                footage,
                given,
                sight,
                out,
                settings=settings,
                short_side=short_side,
                start=start,
                end=end,
                about=about,
                on_frame=lambda: bar.advance(task),
            )
        except MediaError as error:
            raise InputError(f"{video} could not be played: {error}") from error


def davis_run(
    run: Path,
    root: Path,
    *,
    year: Year = 2017,
    out: Path | None = None,
    masks_out: Path | None = None,
    baselines: bool = True,
    settings: Propagation = Propagation(),
    short_side: int | None = None,
    allow_missing: bool = False,
    objective: str | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> tuple[DavisFigures, Path]:
    """Measure a run on DAVIS, write davis-YEAR.json and .csv into `out` (default: the run folder); see `mmssl.downstream.probe.davis`.

    Returns:
        the figures, and the JSON file.

    Raises:
        InputError: the data are not the benchmark, or the run cannot track.
    """
    check_folder(out or run, ELSEWHERE)
    davis = open_davis(root, year, allow_missing=allow_missing)
    loaded, trackers = _trackers(run, settings, short_side, objective, step, device, baselines)
    with _bar("measuring", "frames", davis.frames * len(trackers), progress) as (bar, task):
        try:
            figures = evaluate_davis(davis, trackers, masks_out=masks_out, on_frame=lambda: bar.advance(task))
        except MediaError as error:
            raise InputError(f"{root} cannot be evaluated: {error}") from error
    how = {"propagation": asdict(settings), "short_side": short_side}
    return figures, _save(out or run, f"davis-{year}", loaded, figures.as_json() | how, figures.as_csv())


def jhmdb_run(
    run: Path,
    root: Path,
    *,
    out: Path | None = None,
    baselines: bool = True,
    settings: Propagation = Propagation(),
    allow_missing: bool = False,
    objective: str | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> tuple[JhmdbFigures, Path]:
    """Measure a run on JHMDB, write jhmdb.json and .csv into `out` (default: the run folder); see `mmssl.downstream.probe.jhmdb`.

    Returns:
        the figures, and the JSON file.

    Raises:
        InputError: the data are not the benchmark, or the run cannot track.
    """
    check_folder(out or run, ELSEWHERE)
    jhmdb = open_jhmdb(root, allow_missing=allow_missing)
    loaded, trackers = _trackers(run, settings, None, objective, step, device, baselines)
    with _bar("measuring", "videos", len(jhmdb.videos), progress) as (bar, task):
        try:
            figures = evaluate_jhmdb(jhmdb, trackers, on_video=lambda: bar.advance(task))
        except MediaError as error:
            raise InputError(f"{root} cannot be evaluated: {error}") from error
    return figures, _save(out or run, "jhmdb", loaded, figures.as_json() | {"propagation": asdict(settings)}, figures.as_csv())


def _trackers(
    run: Path,
    settings: Propagation,
    short_side: int | None,
    objective: str | None,
    step: int | None,
    device: str,
    baselines: bool,
) -> tuple[Run, list[Tracker]]:
    """The run, after what costs nothing and after its own encoder as it was before training."""
    loaded = load_run(run, step=step, device=device)
    sight = sight_of(loaded.encoders, loaded.objectives, objective, device=device)
    trained = by_features(f"{run.resolve().name}, step {loaded.step}", sight, settings, short_side=short_side)
    if not baselines:
        return loaded, [trained]
    fresh = loaded.config.build_encoders()
    before = sight_of(fresh, loaded.config.build_objectives(fresh), objective, device=device)
    return loaded, [*BASELINES, by_features("before training", before, settings, short_side=short_side), trained]


def _save(folder: Path, name: str, run: Run, content: Mapping[str, Any], rows: str) -> Path:
    path = folder / f"{name}.json"
    write_aside(folder / f"{name}.csv", rows.encode())
    whole = {"run": str(run.path), "step": run.step, **content}
    write_aside(path, json.dumps(whole, indent=2, allow_nan=False).encode())
    return path


@contextmanager
def _bar(what: str, unit: str, total: int | None, show: bool) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    console = Console(stderr=True)  # where nobody watches, a bar would leave an empty line before what an error says
    with Progress(*columns, console=console, disable=not (show and console.is_terminal), transient=True) as bar:
        yield bar, bar.add_task(what, total=total)
