"""The runs behind the tabs: each loaded once, or a sentence that says why it cannot serve and which could."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from mmssl.downstream.calibration import Calibration
from mmssl.downstream.evaluation_file import read_calibration
from mmssl.downstream.follow import Sight, sight_of
from mmssl.downstream.pairing import Pairing, choose, pair
from mmssl.downstream.search.store import open_store
from mmssl.run import load_run
from mmssl.search import Searcher
from mmssl.types import InputError

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Listener:
    """A run that localizes."""

    run: Path
    step: int
    pairing: Pairing
    calibration: Calibration | None

    @property
    def words(self) -> str:
        """Which model it is."""
        return f"{self.run.resolve().name} {self.pairing.name} step {self.step}"


@dataclass(frozen=True, slots=True)
class Tracker:
    """A run that tracks."""

    run: Path
    step: int
    sight: Sight

    @property
    def words(self) -> str:
        """Which model it is."""
        return f"{self.run.resolve().name}, step {self.step}"


@dataclass(frozen=True, slots=True)
class Models:
    """What stands behind each tab: a model, or why there is none."""

    search: Searcher | str
    localize: Listener | str
    track: Tracker | str


def load_models(run: Path, *, search: Path | None = None, track: Path | None = None, device: str = "auto") -> Models:
    """Load what the page needs.

    Args:
        run: folder of a trained run.
        search: an index, as `mmssl search index` makes it.
        track: another run for tracking.
        device: for all of them; "auto": a GPU where torch sees one.

    Raises:
        InputError: there is no such run, the index or the run for tracking cannot be used, or nothing at all can be done.
    """
    place = resolve_device(device)
    loaded = load_run(run, device=place)
    searcher: Searcher | str = "no index was given"
    if search is not None:
        searcher = _searcher(search, run, place)
    listener: Listener | str
    try:
        name = choose(loaded.objectives, None)
        pairing = pair(name, loaded.objectives[name], loaded.encoders, device=place)
        listener = Listener(run, loaded.step, pairing, read_calibration(run, name))
    except InputError as error:
        listener = str(error)
    tracker: Tracker | str
    try:
        other = loaded if track is None else load_run(track, device=place)
        tracker = Tracker(track or run, other.step, sight_of(other.encoders, other.objectives, device=place))
    except InputError as error:
        if track is not None:
            raise
        tracker = str(error)
    models = Models(searcher, listener, tracker)
    if all(isinstance(one, str) for one in (models.search, models.localize, models.track)):
        raise InputError(
            f"{run} can neither localize ({listener}) nor track ({tracker}), and --search names no index; give a run of av_nce, colorize or another "
            "objective that can, or an index"
        )
    return models


def resolve_device(device: str) -> str:
    """ "auto" as a GPU where torch sees one, else the CPU; anything else as it is, if torch knows it.

    Raises:
        InputError: torch knows no such device.
    """
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return "cuda" if found is not None and found.type == "cuda" else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # as torch refuses a name, and a build without CUDA its devices
        raise InputError(
            f"--device is {device!r}, which torch cannot use ({str(error).splitlines()[0]}); give auto, cpu or cuda"
        ) from error
    return device


def _searcher(db: Path, run: Path, device: str) -> Searcher:
    """An index with the run that made it: where it was then, or else the run that was given."""
    made_by = Path(open_store(db).about["run"])
    try:
        return Searcher(db, run=None if made_by.is_dir() else run, device=device)
    except (json.JSONDecodeError, OSError) as error:
        raise InputError(f"{db} cannot be opened ({error})") from error
