"""What the options of `mmssl localize` are worth on toy worlds, whose truth is exact: several sources, stereo, smoothing.

Each RUN is measured on the WORLD beside it. Figures are means over clips with 95 % intervals over clips.

Example: python tools/measure_localize.py --pair runs/demo world-two/ --clips 200 --page docs/results/localize.md
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.bench.result import machine
from mmssl.data.toyworld import Truth, load_truth
from mmssl.data.toyworld.materials import MATERIALS
from mmssl.data.toyworld.sound import strike_response
from mmssl.downstream.analysis import columns, windows
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.evaluation_file import read_calibration
from mmssl.downstream.film import look_at, seen_size
from mmssl.downstream.metrics.intervals import bootstrap
from mmssl.downstream.pairing import Pairing, choose, pair
from mmssl.downstream.smoothing import smooth_values
from mmssl.downstream.soundtrack import SILENCE
from mmssl.downstream.sources import SEPARATE, find_sources, read_classes, separate_maxima
from mmssl.downstream.stereo import listen_stereo
from mmssl.files import write_aside
from mmssl.run import load_run
from mmssl.types import Features, InputError, Span

FPS = 5.0
VISIBLE = 60  # pixels of an object that must be in view
SMOOTH = (0.0, 0.5, 1.0, 2.0)  # seconds
Point = tuple[int, int]  # row, column of a pixel


@dataclass(slots=True)
class Film:
    """One clip, encoded at `FPS` moments a second."""

    path: Path
    truth: Truth
    times: NDArray[np.float64]
    spans: list[Span]
    levels: NDArray[np.float64]
    cells: NDArray[np.float32]  # (M, h, w, D)
    sounds: NDArray[np.float32]  # (M, D)
    kept: list[tuple[float, Features, Features]]
    video: Features
    audio: Features

    @property
    def heard(self) -> NDArray[np.bool_]:
        return self.levels >= SILENCE

    def struck(self, k: int) -> tuple[int, ...]:
        """Objects in view that are struck within the window of sound of moment `k`."""
        return self.truth.sounding(*self.spans[k])

    def labels(self, k: int) -> NDArray[np.uint8]:
        return self.truth.labels[self.truth.frame_at(float(self.times[k]))]


Table = dict[str, dict[str, list[float]]]  # method -> measure -> one value for each clip


@dataclass(slots=True)
class Measured:
    """All tables of one run and world."""

    title: str
    sources: Table = field(default_factory=dict)
    stereo: Table = field(default_factory=dict)
    smoothing: Table = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs=2, type=Path, action="append", required=True, metavar=("RUN", "WORLD"))
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    measured = [measure(run, world, given.clips) for run, world in given.pair]
    text = page(measured, given.clips)
    if given.page:
        write_aside(given.page, text.encode())
    print(text)


def measure(run: Path, world: Path, clips: int) -> Measured:
    """Everything of one run on one world."""
    loaded = load_run(run)
    name = choose(loaded.objectives)
    pairing, scale = pair(name, loaded.objectives[name], loaded.encoders), read_calibration(run, name)
    if scale is None:
        raise InputError(f"{run} has no calibration: mmssl evaluate {run}")
    videos = sorted(world.rglob("*.mp4"))[:clips]
    classes = examples(pairing)
    found = Measured(f"`{run.name}`, {name}, on `{world.name}`, {len(videos)} clips")
    before: Film | None = None
    for number, path in enumerate(videos):
        film = encode(pairing, path)
        several_sources(found.sources, film, pairing, scale, classes)
        stereo(found.stereo, film, pairing)
        if before is not None:
            smoothing(found.smoothing, film, before, pairing, scale.threshold)
        before = film
        print(f"\r{run.name} {number + 1}/{len(videos)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def encode(pairing: Pairing, path: Path) -> Film:
    truth, film = load_truth(path), look_at(path)
    if truth is None:
        raise InputError(f"{path} has no ground truth beside it; give a folder that `mmssl toyworld` made")
    parts = list(windows(film, pairing, fps=FPS, seen=seen_size(pairing, film)))
    times = [moment for part in parts for moment in part.times]
    levels = np.array([loud for part in parts for loud in part.levels])
    single = [torch.tensor([i]) for i in range(max(len(part.times) for part in parts))]
    rows = [(part.video.rows(one), part.audio.rows(one)) for part in parts for one in single[: len(part.times)]]
    kept = [(times[k], *rows[k]) for k in range(len(times)) if levels[k] >= SILENCE]
    return Film(
        path,
        truth,
        np.array(times),
        [span for part in parts for span in part.spans],
        levels,
        np.concatenate([pairing.cells(part.video).mean(axis=1) for part in parts]),
        np.concatenate([pairing.embed(pairing.shape.audio, part.audio) for part in parts]),
        kept,
        _together([part.video for part in parts]),
        _together([part.audio for part in parts]),
    )


def _together(parts: list[Features]) -> Features:
    return Features(torch.cat([part.pooled for part in parts]), torch.cat([part.grid for part in parts]))


def examples(pairing: Pairing) -> dict[str, NDArray[np.float32]]:
    """Material -> centre, as `--classes` makes them from three strikes of each, written as WAV files."""
    rate = 16000
    with tempfile.TemporaryDirectory() as folder:
        sounding = [number for number, material in enumerate(MATERIALS) if material.modes]
        for number in sounding:
            for radius in (14.0, 17.0, 20.0):
                track = np.zeros(rate, np.float32)
                for start in (0.1, 0.55):
                    ring = strike_response(number, radius, rate)[: rate - round(start * rate)]
                    track[round(start * rate) :][: len(ring)] += 0.4 * ring
                target = Path(folder) / MATERIALS[number].name
                target.mkdir(exist_ok=True)
                with wave.open(str(target / f"{radius:g}.wav"), "wb") as file:
                    file.setparams((1, 2, rate, 0, "NONE", ""))
                    file.writeframes((np.clip(track, -1, 1) * 32767).astype("<i2").tobytes())
        names, centres = read_classes(Path(folder), pairing)
    return dict(zip(names, centres, strict=True))


# several sources ---------------------------------------------------------------------------------------------------------


def several_sources(
    table: Table, film: Film, pairing: Pairing, scale: Calibration, classes: dict[str, NDArray[np.float32]]
) -> None:
    """Do the two maps' maxima lie on the two objects that sound in the clip? Clips with two of them; moments in which both are seen."""
    bodies = film.truth.sounders
    moments = [k for k in range(len(film.times)) if all((film.labels(k) == body + 1).sum() >= VISIBLE for body in bodies)]
    if len(bodies) != 2 or not moments or film.heard.sum() < 2:
        return
    apart = SEPARATE * min(film.cells.shape[1:3])
    sounds = film.sounds[film.heard]
    answers = (film.cells @ sounds.T).max(axis=-1)  # (M, h, w): the best over the clip's sounds
    own = np.einsum("mhwd,md->mhw", film.cells, film.sounds)
    methods: dict[str, Callable[[int], list[Point]]] = {
        "own map, two maxima": lambda k: separate_maxima(own[k], 2, apart=apart),
        "map of all the clip's sounds, two maxima": lambda k: separate_maxima(answers[k], 2, apart=apart),
    }
    found = find_sources(pairing, film.kept, 2, scale)
    centred = {
        "clusters of the windows of sound": sound_clusters(sounds),
        "`--sources 2`: clusters of the places that answer": None if found is None else found.centres,
        "`--classes`, the two materials known": np.stack([classes[film.truth.materials[body]] for body in bodies]),
    }
    for name, centres in centred.items():
        if centres is not None and len(centres) == 2:
            methods[name] = lambda k, centres=centres: [_peak(film.cells[k] @ centre) for centre in centres]
        else:
            methods[name] = _nowhere
    for name, places in methods.items():
        hits = [[_body(film.labels(k), place, film.cells.shape[1:3]) for place in places(k)] for k in moments]
        either = [bodies, bodies[::-1]]
        put(table, name, "both", float(np.mean([sorted(hit) == sorted(bodies) for hit in hits])))
        put(table, name, "one at least", float(np.mean([bool(set(hit) & set(bodies)) for hit in hits])))
        put(
            table,
            name,
            "both, each its own all through",
            max(float(np.mean([tuple(hit) == way for hit in hits])) for way in either),
        )
        if name in centred:
            right = named_right(film, centred[name], hits, known=name.startswith("`--classes"))
            if right is not None:
                put(table, name, "the right one named heard", right)


def named_right(film: Film, centres: NDArray[np.float32] | None, hits: list[list[int]], *, known: bool) -> float | None:
    """Where one of the two is struck in the window: is its source the one the sound is likest? Sources found go by where they point most."""
    bodies, alone = film.truth.sounders, [k for k in range(len(film.times)) if len(film.struck(k)) == 1]
    if not alone:
        return None
    if centres is None or len(centres) != 2:
        return 0.0
    ways = [bodies] if known else [bodies, bodies[::-1]]
    way = max(ways, key=lambda order: sum(tuple(hit) == order for hit in hits))
    return float(np.mean([film.struck(k)[0] == way[int((centres @ film.sounds[k]).argmax())] for k in alone]))


def sound_clusters(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans

    return KMeans(2, n_init=5, random_state=0).fit(sounds).cluster_centers_  # type: ignore[arg-type]  # a string, say the stubs


def _nowhere(moment: int) -> list[Point]:
    """Fewer than two sources were found: a miss."""
    del moment
    return []


def _peak(values: NDArray[np.floating]) -> Point:
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    return int(y), int(x)


def _body(labels: NDArray[np.uint8], cell: Point, grid: tuple[int, ...]) -> int:
    """Number of the object at a cell's centre, -1: background. Toy clips are seen as large as they are."""
    stride = labels.shape[0] / grid[0]
    y, x = (min(int(stride * i + stride / 2 - 0.5), side - 1) for i, side in zip(cell, labels.shape, strict=True))
    return int(labels[y, x]) - 1


# stereo and smoothing ----------------------------------------------------------------------------------------------------


def truths(film: Film) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """(moment, pixels of what is struck in its window), where that is seen."""
    for k in map(int, np.flatnonzero(film.heard)):
        mask = np.isin(film.labels(k), [body + 1 for body in film.struck(k)])
        if mask.any():
            yield k, mask


def pointing(maps: NDArray[np.floating], film: Film) -> list[float]:
    return [float(_body(mask.astype(np.uint8), _peak(maps[k]), maps.shape[1:]) == 0) for k, mask in truths(film)]


def stereo(table: Table, film: Film, pairing: Pairing) -> None:
    own = np.einsum("mhwd,md->mhw", film.cells, film.sounds)
    plain = pointing(own, film)
    heard = listen_stereo(film.path)
    if not plain or heard is None:
        return
    places = columns(pairing, (film.truth.labels.shape[1], film.truth.labels.shape[2]), own.shape[2])
    lower = np.stack([heard.penalty(*span, places) for span in film.spans])[:, None]
    used = pointing(own + lower, film)
    put(table, "`--stereo ignore`", "pointing", float(np.mean(plain)))
    put(table, "`--stereo use`", "pointing", float(np.mean(used)))
    put(table, "use - ignore", "pointing", float(np.mean(used) - np.mean(plain)))


def smoothing(table: Table, film: Film, other: Film, pairing: Pairing, threshold: float) -> None:
    """Pointing and claims, averaged over time; a wrong sound is that of the clip before, at the same moment."""
    own = np.einsum("mhwd,md->mhw", film.cells, film.sounds)
    length = min(len(film.times), len(other.times))
    scores, wrong = (np.diagonal(pairing.scores(film.video, audio)) for audio in (film.audio, other.audio))
    struck, loud = [k for k, _ in truths(film)], np.flatnonzero(other.heard[:length])
    for seconds in SMOOTH:
        name = f"{seconds:g} s"
        if struck:
            put(table, name, "pointing", float(np.mean(pointing(smooth_values(film.times, own, seconds), film))))
            claims = smooth_values(film.times, scores, seconds) >= threshold
            put(table, name, "own sound said to be in view", float(claims[struck].mean()))
            changes = np.abs(np.diff(claims[film.heard].astype(int)))
            put(table, name, "changes of the claim a second", float(changes.sum() / max(1, len(changes)) * FPS))
        if len(loud):
            claims = smooth_values(film.times[:length], wrong[:length], seconds) >= threshold
            put(table, name, "wrong sound said not to be", float((~claims[loud]).mean()))


def put(table: Table, method: str, measure_: str, value: float) -> None:
    table.setdefault(method, {}).setdefault(measure_, []).append(value)


# the page ----------------------------------------------------------------------------------------------------------------


def page(measured: list[Measured], clips: int) -> str:
    about = machine()
    lines = [
        "# Localization: several sources, stereo, smoothing",
        "",
        f"`python {shlex.join(['tools/measure_localize.py', *(part.name if part.is_absolute() else str(part) for part in map(Path, sys.argv[1:]))])}`,",
        f"{datetime.date.today()}, {about.get('cpu', about.get('processor', ''))}, one thread; {FPS:g} moments a second of at most {clips} clips.",
        "Means over clips, 95 % intervals over clips. A maximum is the centre of the map's highest cell; it hits where that pixel belongs to the object.",
        "",
    ]
    for one in measured:
        lines += [f"## {one.title}", ""]
        for table in (one.sources, one.stereo, one.smoothing):
            if table:
                lines += [*_rows(table), ""]
    return "\n".join(lines)


def _rows(table: Table) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    yield f"| | {' | '.join(names)} | clips |"
    yield f"|---|{'---|' * len(names)}---|"
    for method, row in table.items():
        cells = [str(bootstrap(row[name])) if name in row else "" for name in names]
        yield f"| {method} | {' | '.join(cells)} | {max(len(values) for values in row.values())} |"


if __name__ == "__main__":
    main()
