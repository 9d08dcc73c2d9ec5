"""Video object segmentation on DAVIS-2016 and DAVIS-2017 (val, semi-supervised: the first frame's masks are given), by the definitions of the published tools.

Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv:1704.00675; definitions in `mmssl.downstream.metrics.segmentation`. 2017: each object by itself, those
numbered 1 to the highest number in the first frame. 2016: all objects of a sequence merged into one. In both, the first and the last frame of a sequence do not
count, and void (255) is background. A benchmark's name is only given to figures of exactly its sequences, with exactly its frames.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.metrics.segmentation import VOID, Scores, Summary, decay, recall, score_sequence, summarize
from mmssl.downstream.palette import write_mask
from mmssl.downstream.probe.trackers import Tracker
from mmssl.downstream.tracking_data import MASKS, PICTURES, MaskedVideo, davis_sequence
from mmssl.types import InputError

Year = Literal[2016, 2017]

RESOLUTION = "480p"
# Sequence -> frames, as the data sets' own lists have them.
VAL_2016 = {
    "blackswan": 50, "bmx-trees": 80, "breakdance": 84, "camel": 90, "car-roundabout": 75, "car-shadow": 40, "cows": 104,
    "dance-twirl": 90, "dog": 60, "drift-chicane": 52, "drift-straight": 50, "goat": 90, "horsejump-high": 50, "kite-surf": 50,
    "libby": 49, "motocross-jump": 40, "paragliding-launch": 80, "parkour": 100, "scooter-black": 43, "soapbox": 99,
}  # fmt: skip
VAL_2017 = VAL_2016 | {
    "bike-packing": 69, "dogs-jump": 66, "gold-fish": 78, "india": 81, "judo": 34, "lab-coat": 47, "loading": 50,
    "mbike-trick": 79, "pigs": 79, "shooting": 40,
}  # fmt: skip
VAL: Mapping[int, Mapping[str, int]] = {2016: VAL_2016, 2017: VAL_2017}


@dataclass(frozen=True, slots=True)
class Davis:
    """What of a benchmark there is."""

    root: Path
    year: Year
    sequences: tuple[str, ...]
    problems: tuple[str, ...] = ()  # why this is not the benchmark; empty where it is

    @property
    def name(self) -> str:
        """The benchmark's name, or what these are instead."""
        if not self.problems:
            return f"DAVIS-{self.year} val"
        return f"{len(self.sequences)} of the {len(VAL[self.year])} sequences of DAVIS-{self.year} val, not the benchmark"

    @property
    def frames(self) -> int:
        """Pictures in all sequences."""
        return sum(len(list(_pictures(self.root, name))) for name in self.sequences)

    def read(self, name: str) -> MaskedVideo:
        """One sequence, void made background, in 2016 all objects merged. Raises `MediaError` where files are missing or differ in size."""
        video = davis_sequence(self.root, name, resolution=RESOLUTION)
        masks = np.where(video.masks == VOID, 0, video.masks)
        return MaskedVideo(video.name, video.play, (masks > 0).astype(np.uint8) if self.year == 2016 else masks, video.fps)


@dataclass(slots=True)
class DavisFigures:
    """Scores of each tracker, by sequence."""

    davis: Davis
    scores: dict[str, dict[str, Scores]] = field(default_factory=dict)

    def summaries(self) -> dict[str, Summary]:
        """Tracker -> mean over all objects."""
        return {name: summarize(by_sequence) for name, by_sequence in self.scores.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "data": self.davis.name,
            "year": self.davis.year,
            "benchmark": not self.davis.problems,
            "problems": list(self.davis.problems),
            "sequences": len(self.davis.sequences),
            "trackers": {
                name: {
                    "J&F": s.jf,
                    "J": {"mean": s.j_mean, "recall": s.j_recall, "decay": s.j_decay},
                    "F": {"mean": s.f_mean, "recall": s.f_recall, "decay": s.f_decay},
                    "objects": s.objects,
                }
                for name, s in self.summaries().items()
            },
        }

    def as_csv(self) -> str:
        """One row for each tracker, sequence and object."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["tracker", "sequence", "object", "frames", "J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay"]
        )
        for name, by_sequence in self.scores.items():
            for sequence, scores in by_sequence.items():
                for number, region, boundary in zip(*scores, strict=True):
                    figures = [*_figures(region), *_figures(boundary)]
                    both = (figures[0] + figures[3]) / 2
                    writer.writerow([name, sequence, number, len(region), *(f"{value:.6f}" for value in (both, *figures))])
        return text.getvalue()


def open_davis(root: Path, year: Year, *, allow_missing: bool = False) -> Davis:
    """Look which sequences of a benchmark lie under `root` (`JPEGImages/480p/NAME/00000.jpg`, `Annotations/480p/NAME/00000.png`).

    Args:
        root: of DAVIS as downloaded.
        year: 2016 or 2017.
        allow_missing: take what is there; the result then does not bear the benchmark's name.

    Raises:
        InputError: sequences or frames are missing or too many, or nothing is there.
    """
    wanted = VAL[year]
    listed = root / "ImageSets" / str(year) / "val.txt"
    problems: list[str] = []
    if listed.is_file():
        names = {line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}
        if names != set(wanted):
            odd = sorted(names ^ set(wanted))
            problems.append(f"{listed} differs from the benchmark's list in {len(odd)} names ({_some(odd)})")
    there = {name: len(list(_pictures(root, name))) for name in wanted}
    missing = [name for name, frames in there.items() if not frames or not (root / MASKS / RESOLUTION / name).is_dir()]
    if missing:
        problems.append(f"{len(missing)} of the {len(wanted)} sequences are missing ({_some(missing)})")
    sequences = tuple(name for name in sorted(wanted) if name not in missing)
    for name in sequences:
        if there[name] != wanted[name]:
            problems.append(f"{name} has {there[name]} frames instead of {wanted[name]}")
    if not sequences:
        raise InputError(
            f"{root} holds no sequence of DAVIS-{year} val: {root / PICTURES / RESOLUTION} and {root / MASKS / RESOLUTION} should hold a folder for each"
        )
    if problems and not allow_missing:
        raise InputError(
            f"{root} is not DAVIS-{year} val: {'; '.join(problems)}; add --allow-missing to evaluate what is there, without the benchmark's name"
        )
    return Davis(root, year, sequences, tuple(problems))


def evaluate_davis(
    davis: Davis,
    trackers: Sequence[Tracker],
    *,
    masks_out: Path | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> DavisFigures:
    """Measure trackers, one sequence in memory at a time.

    Args:
        davis: see `open_davis`.
        trackers: by name.
        masks_out: folder for the masks found, TRACKER/SEQUENCE/00000.png, as the published tools read them; None: not kept.
        on_frame: called for each frame of each tracker.

    Raises:
        InputError: the masks are not those of this year.
        MediaError: a sequence cannot be read.
    """
    figures = DavisFigures(davis, {tracker.name: {} for tracker in trackers})
    most = 0
    for name in davis.sequences:
        video = davis.read(name)
        objects = range(1, int(video.masks[0].max()) + 1)
        most = max(most, len(objects))
        if not objects:
            raise InputError(f"{name} has no object in its first frame; is {davis.root} whole?")
        for tracker in trackers:
            found = np.stack(list(_counted(tracker.masks(video.play(), video.masks[0]), on_frame)))
            if davis.year == 2016:
                found = (found > 0).astype(np.uint8)
            figures.scores[tracker.name][name] = score_sequence(found, video.masks, objects=objects)
            if masks_out is not None:
                _keep(masks_out / tracker.name / name, found)
    if davis.year == 2017 and not davis.problems and most == 1:
        raise InputError(
            f"the masks in {davis.root} show one object in each sequence: they are those of DAVIS-2016; say --year 2016, or take the masks of 2017"
        )
    return figures


def _figures(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values.mean()), recall(values), decay(values)


def _counted(masks: Iterator[NDArray[np.uint8]], on_frame: Callable[[], object]) -> Iterator[NDArray[np.uint8]]:
    for mask in masks:
        yield mask
        on_frame()


def _keep(folder: Path, masks: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        write_mask(folder / f"{number:05d}.png", mask)


def _pictures(root: Path, name: str) -> Iterator[Path]:
    return (root / PICTURES / RESOLUTION / name).glob("*.jpg")


def _some(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")
