"""Which part of the picture makes the sound: a heatmap film with the original sound, and what was found as numbers.

Passes in constant memory: the first runs the model at `fps` moments a second and learns one scale for the whole film, the last draws it
over every picture; several sources found by clustering take one between. The model's claim "nothing in view makes this sound" is part
of the answer: a map always has a maximum, also where there is nothing to find.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.analysis import Analysis, SourceMaps, analyse, calibrate_on_film, windows
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.drawing import Drawn, draw_film
from mmssl.downstream.film import Film, look_at, seen_size, shown_size
from mmssl.downstream.findings import write_findings
from mmssl.downstream.mapfile import MapFile, write_npz
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.panel import State
from mmssl.downstream.passes import Passes, Watch, passes
from mmssl.downstream.smoothing import smooth_maps, smooth_values
from mmssl.downstream.sources import MOST, Sources, check_cells, class_sources, find_sources, read_classes
from mmssl.downstream.stereo import listen_stereo
from mmssl.files import make_aside
from mmssl.types import InputError

__all__ = ["Localization", "Options", "localize", "look_at", "seen_size", "shown_size"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may ask for beside the plain maps.

    smooth: seconds over which maps and scores are averaged. steady: the same for scores alone, so that claims do not flicker. stereo: lower the map where the level of the two channels says that the sound is not.
    sources: how many sources to find by clustering, 0 for none. classes: a folder of example sounds, a source for each class.
    """

    fps: float = 10.0  # maps a second
    smooth: float = 0.0
    steady: float = 0.5
    stereo: bool = False
    sources: int = 0
    classes: Path | None = None

    @property
    def score_window(self) -> float:
        """Seconds over which scores are averaged."""
        return max(self.smooth, self.steady)

    def check(self) -> None:
        """Raise `InputError` for a value that cannot be."""
        if not 0 < self.fps <= 120:
            raise InputError(f"--fps is {self.fps:g}; give a number of maps a second above 0 and up to 120")
        for name, seconds in (("smooth", self.smooth), ("steady", self.steady)):
            if not 0 <= seconds <= 60:
                raise InputError(f"--{name} is {seconds:g}; give seconds from 0 (off) to 60")
        if self.sources and not 2 <= self.sources <= MOST:
            raise InputError(f"--sources is {self.sources}; give a number of sources from 2 to {MOST}")
        if self.sources and self.classes is not None:
            raise InputError("--sources looks for sources and --classes names them; give one of the two")


@dataclass(frozen=True, slots=True)
class Localization:
    """What `localize` found; `film`, `maps` and `findings` are the files written (None: not asked for)."""

    film: Path | None
    maps: Path | None
    findings: Path
    times: NDArray[np.float64]  # (K,) seconds
    scores: NDArray[np.float64]  # (K,) correspondence, that the claims rest on
    confidence: NDArray[np.float64]  # (K,) 0 to 1
    states: tuple[State, ...]  # (K,)
    calibration: Calibration
    notes: str = ""  # what was done beside the plain maps
    sources: tuple[str, ...] = ()  # names
    heard: NDArray[np.int64] | None = None  # (K,) which source each moment's sound is likest

    @property
    def share_seen(self) -> float:
        """Of the moments with sound, the share in which something in view seems to make it; NaN without any sound."""
        heard = [state for state in self.states if state != "silent"]
        return sum(state == "seen" for state in heard) / len(heard) if heard else float("nan")

    def sentence(self) -> str:
        """The finding in a few plain sentences."""
        silent = sum(state == "silent" for state in self.states) / len(self.states)
        if silent == 1:
            return "The film is silent throughout: there is nothing to localize."
        judged = {
            "run": "",
            "film": " (Judged against the film's own sound at other moments: `mmssl evaluate` the run for a firmer threshold.)",
            "none": " (The film is too short to judge: run `mmssl evaluate` on the run for a threshold.)",
        }[self.calibration.origin]
        quiet = f", {silent:.0%} of the film is silent" if silent >= 0.01 else ""
        notes = f" {self.notes[0].upper()}{self.notes[1:]}." if self.notes else ""
        if self.share_seen == 0:
            return f"Nothing in view seems to make the sound at any moment{quiet}.{notes}{judged}"
        never = " Mostly, nothing in view seems to make the sound." if self.share_seen < 0.5 else ""
        whole = f"Something in view seems to make the sound in {self.share_seen:.0%} of the moments with sound{quiet}.{never}"
        return f"{whole}{self._by_source()}{notes}{judged}"

    def _by_source(self) -> str:
        if self.heard is None:
            return ""
        seen = np.array([state == "seen" for state in self.states])
        shares = [f"{name} in {np.mean(self.heard[seen] == k):.0%}" for k, name in enumerate(self.sources)]
        return f" Of these, the sound is likest {', '.join(shares)}."


def localize(
    video: Path,
    out: Path,
    pairing: Pairing,
    *,
    calibration: Calibration | None = None,
    options: Options | None = None,
    model: str = "",
    progress: bool = True,
    watch: Watch | None = None,
) -> Localization:
    """Write the heatmap film `out` (.mp4), and beside it the maps (.npz) and the findings (.json); or, with `out` a .json, the findings alone.

    Args:
        video: any file with picture and sound.
        out: of the film or the findings; existing files are replaced, at the end and whole.
        pairing: the model.
        calibration: of the run; None: from the film's own sound at other moments.
        options: see `Options`.
        model: names the model in the findings.
        progress: show a bar on stderr.
        watch: is told what the bar shows; what it raises ends the work, and nothing is left behind.

    Raises:
        InputError: `video` is no film with picture and sound, `out` is no name for one, or an option cannot be.
        MediaError: decoding failed on the way.
    """
    options = options or Options()
    options.check()
    drawn = out.suffix.lower() == ".mp4"
    if not drawn and out.suffix.lower() != ".json":
        raise InputError(
            f"the heatmap film is written as MP4, the findings alone as JSON: give a name that ends in .mp4 or .json, not {out.name!r}"
        )
    film = look_at(video)
    if out.exists() and out.resolve() == video.resolve():
        raise InputError(f"{out} is the film itself; give another name for the heatmap film")
    if options.sources or options.classes is not None:
        check_cells(pairing)
    out.parent.mkdir(parents=True, exist_ok=True)
    more, last = ("looking for sources",) if options.sources else (), ("drawing",) if drawn else ()
    names = ("listening", *more, *last, "reading off boxes")
    with _scratch(out) as scratch, passes(*names, show=progress, watch=watch) as bar:
        found, what = _examine(film, pairing, options, calibration, scratch, bar)
        encoder = pairing.encoders[pairing.shape.video]
        if drawn:
            bar.begin("drawing", (film.seconds - film.begin) * film.shown_fps)
            make_aside(out, lambda part: draw_film(film, part, what, encoder, bar.advance))
            make_aside(out.with_suffix(".npz"), lambda part: _save_maps(part, what, pairing))
        about = {
            "model": model or pairing.name,
            "window_seconds": pairing.shape.seconds,
            "maps_per_second": options.fps,
            "smooth_seconds": options.smooth,
            "steady_seconds": options.score_window,
            "stereo": what.stereo,
            "notes": what.notes,
        }
        findings = out.with_suffix(".json")
        bar.begin("reading off boxes", len(what.times))
        make_aside(findings, lambda part: write_findings(part, film, found, what, encoder, about, bar.advance))
    return Localization(
        out if drawn else None,
        out.with_suffix(".npz") if drawn else None,
        findings,
        what.times,
        what.scores,
        what.confidence,
        tuple(what.states),
        what.scale,
        what.notes,
        what.sources.names if what.sources else (),
        what.heard,
    )


class Scratch:
    """Files of maps beside the output, gone at the end."""

    def __init__(self, out: Path, stack: ExitStack) -> None:
        self._out, self._stack = out, stack

    def maps(self, name: str) -> MapFile:
        """A new file, opened for writing."""
        path = self._out.with_name(f".{self._out.stem}.{name}.part")
        self._stack.callback(path.unlink, missing_ok=True)
        return self._stack.enter_context(MapFile(path))


@contextmanager
def _scratch(out: Path) -> Iterator[Scratch]:
    with ExitStack() as stack:
        yield Scratch(out, stack)


def _examine(
    film: Film, pairing: Pairing, options: Options, calibration: Calibration | None, scratch: Scratch, bar: Passes
) -> tuple[Analysis, Drawn]:
    """All passes but the drawing."""
    seen, moments = seen_size(pairing, film), film.seconds * options.fps
    named: SourceMaps | None = None
    if options.classes is not None:
        names, centres = read_classes(options.classes, pairing)
        # Their scale is that of the run, or of the film once it is known.
        unscaled = class_sources(names, centres, Calibration(0.0, 1.0, 0.0, 1.0))
        named = SourceMaps(unscaled, scratch.maps("sources"))
    stereo = listen_stereo(film.path) if options.stereo else None
    bar.begin("listening", moments)
    found = analyse(
        film, pairing, fps=options.fps, seen=seen, maps=scratch.maps("maps"), stereo=stereo, sources=named, on_moments=bar.advance
    )
    if not found.times:
        raise InputError(f"{film.path} has no picture that can be decoded")
    scale = calibration or calibrate_on_film(found, pairing)
    sources, source_maps = (class_sources(named.sources.names, named.sources.centres, scale), named) if named else (None, None)
    if options.sources:
        bar.begin("looking for sources", moments)
        sources = find_sources(pairing, found.kept, options.sources, scale)
        if sources is not None:
            source_maps = SourceMaps(sources, scratch.maps("sources"))
            for some in windows(film, pairing, fps=options.fps, seen=seen):
                source_maps.add(pairing, some)
                bar.advance(len(some.times))
    used = "ignored" if not options.stereo else "prior" if stereo is not None else "none"
    notes = _notes(options, used, len(sources) if sources else 0)
    steadied = f"claims steadied over {options.steady:g} s" if options.steady > options.smooth else ""
    caption = ", ".join(text for text in (notes, steadied) if text)
    drawn = _drawn(found, scale, options, sources, source_maps, scratch)
    return found, replace(drawn, notes=notes, caption=caption, stereo=used)


def _drawn(
    found: Analysis,
    scale: Calibration,
    options: Options,
    sources: Sources | None,
    source_maps: SourceMaps | None,
    scratch: Scratch,
) -> Drawn:
    times = np.array(found.times)
    maps, several, heard = found.maps, source_maps.maps if source_maps else None, None
    if source_maps is not None:
        heard = smooth_values(times, source_maps.matches, options.score_window).argmax(axis=1)
    if options.smooth > 0:
        maps = smooth_maps(maps, times, options.smooth, scratch.maps("smooth"))
        if several is not None:
            several = smooth_maps(several, times, options.smooth, scratch.maps("smooth-sources"))
    scores = smooth_values(times, found.scores, options.score_window)
    return Drawn(
        maps,
        found.seen,
        times,
        scores,
        np.array(found.levels),
        scale.confidence(scores),
        found.states(scale, smooth=options.score_window),
        scale,
        sources,
        several,
        heard,
    )


def _notes(options: Options, stereo: str, found: int) -> str:
    notes = []
    if options.smooth > 0:
        notes.append(f"smoothed over {options.smooth:g} s")
    if options.stereo:
        notes.append("a hand-made stereo prior was used" if stereo == "prior" else "no stereo to use: one channel, or two alike")
    if options.sources and found < options.sources:
        notes.append(f"{options.sources} sources asked for, {found or 'none'} found")
    return ", ".join(notes)


def _save_maps(part: Path, what: Drawn, pairing: Pairing) -> None:
    encoder = pairing.encoders[pairing.shape.video]
    small: dict[str, Any] = {
        "times": what.times,
        "scores": what.scores,
        "levels": what.levels,
        "confidence": what.confidence,
        "states": np.array(what.states),
        "threshold": what.scale.threshold,
        "heat_from": what.scale.low,
        "heat_full": what.scale.high,
        "calibration": what.scale.origin,
        "notes": what.notes,
        "input_size": np.array(what.seen),
        "grid_offset": encoder.grid_offset,
        "grid_stride": encoder.grid_stride,
    }
    big = {"maps": what.maps}
    if what.sources is not None and what.source_maps is not None:
        big["source_maps"] = what.source_maps
        small |= {
            "source_names": np.array(what.sources.names),
            "source_heat_from": what.sources.low,
            "source_heat_full": what.sources.high,
            "source_heard": what.heard,
        }
    write_npz(part, big, small)
