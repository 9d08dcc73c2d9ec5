"""Which part of the picture makes the sound: a heatmap film with the original sound, and the maps as numbers.

Two passes, both in constant memory: the first runs the model at `fps` moments a second and learns one scale for the whole film, the
second draws it over every picture. The model's claim "nothing in view makes this sound" is part of the answer: a map always has a
maximum, also where there is nothing to find.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mmssl.data.container import clock_start, display_size, open_media, picture_stream, sound_stream
from mmssl.data.playback import play_frames
from mmssl.downstream.analysis import Analysis, analyse, calibrate_on_film
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.heatmap import Placement, overlay
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.panel import Panel, State
from mmssl.downstream.render import FilmWriter
from mmssl.files import make_aside
from mmssl.types import InputError, MediaError

LARGEST, SMALLEST = 1280, 640  # pixels: bounds of the drawn picture's longer side
FASTEST = 30.0  # pictures a second written
STRENGTH: dict[State, float] = {"seen": 1.0, "unseen": 0.3, "silent": 0.0}  # how visible the heat is


@dataclass(frozen=True, slots=True)
class Film:
    """What must be known of a film before it is played."""

    path: Path
    width: int  # as displayed
    height: int
    fps: float
    begin: float  # seconds of the presentation clock at which the first picture is shown
    seconds: float  # 0.0 where the file does not say


@dataclass(frozen=True, slots=True)
class Localization:
    """What `localize` found; `film` and `maps` are the files written."""

    film: Path
    maps: Path
    times: NDArray[np.float64]  # (K,) seconds
    scores: NDArray[np.float64]  # (K,) correspondence
    confidence: NDArray[np.float64]  # (K,) 0 to 1
    states: tuple[State, ...]  # (K,)
    calibration: Calibration

    @property
    def share_seen(self) -> float:
        """Of the moments with sound, the share in which something in view seems to make it; NaN without any sound."""
        heard = [state for state in self.states if state != "silent"]
        return sum(state == "seen" for state in heard) / len(heard) if heard else float("nan")

    def sentence(self) -> str:
        """The finding in one or two plain sentences."""
        silent = sum(state == "silent" for state in self.states) / len(self.states)
        if silent == 1:
            return "The film is silent throughout: there is nothing to localize."
        judged = {
            "run": "",
            "film": " (Judged against the film's own sound at other moments: `mmssl evaluate` the run for a firmer threshold.)",
            "none": " (The film is too short to judge: run `mmssl evaluate` on the run for a threshold.)",
        }[self.calibration.origin]
        quiet = f", {silent:.0%} of the film is silent" if silent >= 0.01 else ""
        if self.share_seen == 0:
            return f"Nothing in view seems to make the sound at any moment{quiet}.{judged}"
        never = " Mostly, nothing in view seems to make the sound." if self.share_seen < 0.5 else ""
        return (
            f"Something in view seems to make the sound in {self.share_seen:.0%} of the moments with sound{quiet}.{never}{judged}"
        )


def localize(
    video: Path,
    out: Path,
    pairing: Pairing,
    *,
    calibration: Calibration | None = None,
    fps: float = 10.0,
    progress: bool = True,
) -> Localization:
    """Write the heatmap film `out` (.mp4) and `out` with suffix .npz: maps, times, scores, levels, confidence, states, scale.

    Args:
        video: any file with picture and sound.
        out: of the film; existing files are replaced, at the end and whole.
        pairing: the model.
        calibration: of the run; None: from the film's own sound at other moments.
        fps: maps a second; between them heat is interpolated over time.
        progress: show a bar.

    Raises:
        InputError: `video` is no film with picture and sound, or `out` is no name for one.
        MediaError: decoding failed on the way.
    """
    if not 0 < fps <= 120:
        raise InputError(f"--fps is {fps:g}; give a number of maps a second above 0 and up to 120")
    if out.suffix.lower() != ".mp4":
        raise InputError(f"the heatmap film is written as MP4: give a name that ends in .mp4, not {out.name!r}")
    film = look_at(video)
    if out.exists() and out.resolve() == video.resolve():
        raise InputError(f"{out} is the film itself; give another name for the heatmap film")
    out.parent.mkdir(parents=True, exist_ok=True)
    raw = out.with_name(f".{out.stem}.maps.part")
    try:
        with _bar(progress) as (bar, task):
            total = film.seconds or None
            bar.reset(task, total=total, description="listening")
            found = analyse(
                video,
                pairing,
                fps=fps,
                seen=seen_size(pairing, film),
                maps_file=raw,
                on_moment=lambda moment: bar.update(task, completed=moment),
            )
            if not found.times:
                raise InputError(f"{video} has no picture that can be decoded")
            scale = calibration or calibrate_on_film(found, pairing)
            bar.reset(task, total=total, description="drawing")
            states = found.states(scale)
            make_aside(out, lambda part: _draw(film, part, found, pairing, scale, states, bar, task))
        maps = out.with_suffix(".npz")
        make_aside(maps, lambda part: _save_maps(part, found, pairing, scale, states))
        confidence = scale.confidence(found.smooth_scores())
        return Localization(out, maps, np.array(found.times), np.array(found.scores), confidence, tuple(states), scale)
    finally:
        raw.unlink(missing_ok=True)


def look_at(path: Path) -> Film:
    """Open a film and read what must be known.

    Raises:
        InputError: in one sentence, why it cannot be localized.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one film")
    try:
        with open_media(path) as container:
            picture, sound = picture_stream(container), sound_stream(container)
            if picture is None:
                raise InputError(f"{path} has no picture; localization looks for the source of a sound in the picture")
            if sound is None:
                raise InputError(f"{path} has no sound; there is nothing to localize")
            rate = picture.average_rate or picture.guessed_rate
            width, height = display_size(picture)
            begin = float((picture.start_time or 0) * (picture.time_base or 0)) - clock_start(container)
            seconds = (container.duration or 0) / 1_000_000
            return Film(path, width, height, float(rate) if rate else 0.0, max(0.0, begin), seconds)
    except MediaError as error:
        raise InputError(f"{path} cannot be read as a film ({error})") from error


def seen_size(pairing: Pairing, film: Film) -> tuple[int, int]:
    """(height, width) at which the encoder sees the whole picture: its own short side, the film's aspect ratio.

    Encoders that insist on their own square (transformers with a table of positions) get the picture squeezed into it.
    """
    short = min(pairing.shape.size)
    # Beyond 4:1 the picture is squeezed: a strip of a hundred to one would not fit into memory.
    aspect = min(4.0, max(0.25, film.width / film.height))
    wanted = (short, round(short * aspect)) if aspect >= 1 else (round(short / aspect), short)
    if wanted == pairing.shape.size:
        return wanted
    frames = 1 if pairing.modality == "frame" else pairing.shape.frames
    try:
        pairing.encode(pairing.shape.video, torch.zeros(1, frames, 3, *wanted, dtype=torch.uint8))
    except (ValueError, RuntimeError):  # how encoders and torch refuse a shape
        return pairing.shape.size
    return wanted


def shown_size(film: Film) -> tuple[int, int]:
    """(height, width) of the drawn picture: the film's own, enlarged or reduced to a watchable size, even."""
    longer = max(film.width, film.height)
    scale = LARGEST / longer if longer > LARGEST else -(-SMALLEST // longer) if longer < SMALLEST else 1.0
    height, width = (max(2, 2 * round(side * scale / 2)) for side in (film.height, film.width))
    return height, width


def _draw(
    film: Film,
    part: Path,
    found: Analysis,
    pairing: Pairing,
    scale: Calibration,
    states: list[State],
    bar: Progress,
    task: TaskID,
) -> None:
    size = shown_size(film)
    encoder = pairing.encoders[pairing.shape.video]
    place = Placement(found.grid, offset=encoder.grid_offset, stride=encoder.grid_stride, seen=found.seen, shown=size)
    times, maps = np.array(found.times), found.maps()
    confidence = scale.confidence(found.smooth_scores())
    panel = Panel(size[1], times=times, levels=np.array(found.levels), confidence=confidence, states=states)
    strength = np.array([STRENGTH[state] for state in states])
    fps = min(film.fps, FASTEST) if film.fps > 0 else FASTEST
    with FilmWriter(part, size=(size[0] + panel.height, size[1]), fps=fps, sound=film.path) as writer:
        # From the first picture on: on a grid that began at 0, each picture would come up to 1 / fps late against the sound.
        for moment, picture in play_frames(film.path, fps=fps, size=size, start=film.begin):
            after = int(np.searchsorted(times, moment).clip(0, len(times) - 1))
            before = max(0, after - 1) if times[after] > moment else after
            step = float((moment - times[before]) / (times[after] - times[before])) if after > before else 0.0
            cosines = maps[before].astype(np.float32) * (1 - step) + maps[after].astype(np.float32) * step
            drawn = overlay(
                picture, scale.heat(place(cosines)), strength=float(strength[before] * (1 - step) + strength[after] * step)
            )
            strip = panel.draw(moment, after if step > 0.5 else before)
            writer.write(moment, np.concatenate([drawn, strip]))
            bar.update(task, completed=moment)


def _save_maps(part: Path, found: Analysis, pairing: Pairing, scale: Calibration, states: list[State]) -> None:
    encoder = pairing.encoders[pairing.shape.video]
    np.savez(
        part,
        maps=found.maps(),  # a memory map: written in pieces
        times=np.array(found.times),
        scores=np.array(found.scores),
        levels=np.array(found.levels),
        confidence=scale.confidence(found.smooth_scores()),
        states=np.array(states),
        threshold=scale.threshold,
        heat_from=scale.low,
        heat_full=scale.high,
        calibration=scale.origin,
        input_size=np.array(found.seen),
        grid_offset=encoder.grid_offset,
        grid_stride=encoder.grid_stride,
    )


@contextmanager
def _bar(show: bool) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description:>9}"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, disable=not show, transient=True) as bar:
        yield bar, bar.add_task("listening", total=None)
