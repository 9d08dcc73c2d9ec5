"""Following what users give through any film: masks, an overlay film with the sound, and figures of every frame, in constant memory.

The folder that is written: `masks/00000.png` ... (palette PNGs as in DAVIS; not for keypoints), `overlay.mp4`, `track.json`. It appears whole, at the end.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmssl.downstream.cells import Mask, cell_shares, full_size
from mmssl.downstream.follow import Picture, Sight, comfortable_side, follow, objects_of, resized, track_points
from mmssl.downstream.footage import Footage
from mmssl.downstream.given import Given, Keypoints, Objects
from mmssl.downstream.masks import paint, paint_boxes, paint_points
from mmssl.downstream.palette import write_mask
from mmssl.downstream.propagate import Propagation
from mmssl.downstream.render import FilmWriter
from mmssl.files import make_folder_aside
from mmssl.types import InputError

CRUMB = 0.1  # of an object's largest piece: smaller pieces do not count for its box


class Seen(NamedTuple):
    """One frame, done."""

    drawn: Picture
    mask: Mask | None
    entry: dict[str, Any]  # for the JSON
    there: Mapping[str, bool]  # what is followed -> whether it is still in view


@dataclass(slots=True)
class Tracked:
    """What `track_film` found; `out` is the folder written."""

    out: Path
    frames: int = 0
    first: float = 0.0  # seconds
    last: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)  # what is followed -> seconds from which on it was not found again

    def sentence(self) -> str:
        """What happened, in one or two plain sentences."""
        gone = "".join(f" {name} is lost from {since:.2f} s on." for name, since in self.lost.items())
        return f"Followed through {self.frames} frames, {self.first:.2f} to {self.last:.2f} s.{gone}"


def check_out(out: Path) -> None:
    """Raise `InputError` where `out` holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already; nothing is overwritten, give another folder or delete it")


def track_film(
    footage: Footage,
    given: Given,
    sight: Sight,
    out: Path,
    *,
    settings: Propagation = Propagation(),
    short_side: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    about: Mapping[str, Any] | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> Tracked:
    """Follow what is `given` in the frame at `start` through a film.

    Args:
        footage: see `open_footage`.
        given: objects or keypoints of that frame, see `read_given`.
        sight: the encoder, see `sight_of`.
        out: folder, absent or empty.
        settings: of the propagation.
        short_side: pixels to which frames are resized for the encoder; None: see `comfortable_side`.
        start: seconds of the film's clock.
        end: seconds; None: to the end.
        about: goes into the JSON as it is.
        on_frame: called after each frame.

    Raises:
        InputError: `out` holds something, `start` and `end` leave no frame, or the encoder cannot take such pictures.
        MediaError: decoding failed on the way.
    """
    check_out(out)
    if not start >= 0 or (end is not None and not end > start):
        raise InputError(
            f"--start {start:g} and --end {end if end is None else f'{end:g}'} leave no frame; end lies after start, and start at 0 or later"
        )
    if footage.end and start >= footage.end:
        raise InputError(f"--start is {start:g} s, {footage.path} lasts {footage.end:.2f} s; give an earlier one")
    seen = resized(footage.size, comfortable_side(sight.encoder, footage.size) if short_side is None else short_side)
    tracked = Tracked(out)
    head = dict(about or {}) | {
        "video": str(footage.path),
        "size": {"height": footage.size[0], "width": footage.size[1]},
        "fps": footage.fps,
        "followed": "keypoints" if isinstance(given, Keypoints) else given.kind,
        "propagation": asdict(settings) | {"seen": {"height": seen[0], "width": seen[1]}},
    }

    def fill(folder: Path) -> None:
        frames: deque[tuple[float, Picture]] = deque()  # those that the encoder has seen and nobody has drawn on yet
        pictures = _kept(footage.play(start, end), frames)
        if isinstance(given, Objects):
            found = _objects(pictures, given, sight, seen, settings)
        else:
            found = _keypoints(pictures, given, sight, seen, settings)
        _write(folder, footage, frames, found, head, tracked, start, end, on_frame)

    make_folder_aside(out, fill)
    return tracked


def _kept(played: Iterator[tuple[float, Picture]], frames: deque[tuple[float, Picture]]) -> Iterator[Picture]:
    """The pictures of what is played, each put into `frames`, too. (`itertools.tee` would hold 57 of them.)"""
    for moment, picture in played:
        frames.append((moment, picture))
        yield picture


# What is found in each frame: a picture comes in, `Seen` comes out.
Draw = Callable[[Picture], Seen]


def _objects(
    pictures: Iterator[Picture], given: Objects, sight: Sight, seen: tuple[int, int], settings: Propagation
) -> Iterator[Draw]:
    objects = objects_of(given.mask)
    placement = None
    for cells, labels in follow(
        pictures,
        lambda cells: cell_shares(given.mask, objects, cells),
        sight.encoder,
        seen=seen,
        settings=settings,
        prepare=sight.prepare,
    ):
        mask = given.mask if placement is None else full_size(labels, objects, placement)
        placement = placement or cells.placement()
        figures = [
            {"id": int(number)} | measure(mask == number) | {"confidence": sure}
            for number, sure in zip(objects[1:], confidences(labels), strict=True)
        ]
        yield lambda picture, mask=mask, figures=figures: _seen_objects(picture, mask, figures, given.kind)


def _seen_objects(picture: Picture, mask: Mask, figures: list[dict[str, Any]], kind: str) -> Seen:
    drawn = paint(picture, mask, edges=True)
    if kind == "box":
        drawn = paint_boxes(drawn, {figure["id"]: figure["box"] for figure in figures})
    there = {f"object {figure['id']}": figure["area"] > 0 for figure in figures}
    return Seen(drawn, mask, {"objects": figures}, there)


def _keypoints(
    pictures: Iterator[Picture], given: Keypoints, sight: Sight, seen: tuple[int, int], settings: Propagation
) -> Iterator[Draw]:
    for points, sure in track_points(pictures, given.points, sight.encoder, settings=settings, prepare=sight.prepare, seen=seen):
        yield lambda picture, points=points, sure=sure: _seen_points(picture, given.names, points, sure)


def _seen_points(picture: Picture, names: tuple[str, ...], points: NDArray[np.float64], sure: NDArray[np.float64]) -> Seen:
    figures: dict[str, dict[str, float | None]] = {}
    for name, (x, y), value in zip(names, points.tolist(), sure.tolist(), strict=True):
        there = x == x  # not NaN
        figures[name] = {"x": _short(x) if there else None, "y": _short(y) if there else None, "confidence": _short(value, 3)}
    there_by_name = {f"keypoint {name}": figure["x"] is not None for name, figure in figures.items()}
    return Seen(paint_points(picture, points, sure, names), None, {"keypoints": figures}, there_by_name)


def measure(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Area in pixels, box (x, y, width, height) around the pieces of at least a tenth of the largest, centroid (x, y); null where there is none."""
    count, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count == 1:
        return {"area": 0, "box": None, "centroid": None}
    areas = stats[1:, cv2.CC_STAT_AREA]
    left, top, width, height = stats[1:, :4][areas >= CRUMB * areas.max()].T
    x, y = int(left.min()), int(top.min())
    centre = (centres[1:] * areas[:, None]).sum(axis=0) / areas.sum()
    return {
        "area": int(areas.sum()),
        "box": [x, y, int((left + width).max()) - x, int((top + height).max()) - y],
        "centroid": [_short(value) for value in centre.tolist()],
    }


def confidences(labels: Tensor) -> list[float]:
    """How sure each object is, the background left out: its mean share (L, h, w) in the cells that it wins, or its highest where it wins none."""
    best = labels.argmax(dim=0)
    found = []
    for number, share in enumerate(labels[1:], start=1):
        won = share[best == number]
        found.append(_short(float(won.mean() if len(won) else share.max()), 3))
    return found


def _write(
    folder: Path,
    footage: Footage,
    frames: deque[tuple[float, Picture]],
    found: Iterator[Draw],
    head: dict[str, Any],
    tracked: Tracked,
    start: float,
    end: float | None,
    on_frame: Callable[[], object],
) -> None:
    height, width = (max(2, side - side % 2) for side in footage.size)
    sound = footage.path if footage.sound else None
    if head["followed"] != "keypoints":
        (folder / "masks").mkdir()
    with (
        FilmWriter(folder / "overlay.mp4", size=(height, width), fps=footage.fps, sound=sound, begin=start, end=end) as film,
        (folder / "track.json").open("w", encoding="utf-8") as lines,
    ):
        lines.write(json.dumps(head, indent=2)[:-2] + ',\n  "frames": [')
        for number, draw in enumerate(found):
            moment, picture = frames.popleft()
            seen = draw(picture)
            entry = {"frame": number, "time": round(moment, 6)}
            if seen.mask is not None:
                write_mask(folder / "masks" / f"{number:05d}.png", seen.mask)
                entry["mask"] = f"masks/{number:05d}.png"
            lines.write(("," if number else "") + "\n    " + json.dumps(entry | seen.entry, allow_nan=False))
            film.write(moment - start, np.ascontiguousarray(seen.drawn[:height, :width]))
            _note(tracked, moment, seen.there)
            on_frame()
        lines.write("\n  ]\n}\n")


def _note(tracked: Tracked, moment: float, there: Mapping[str, bool]) -> None:
    if not tracked.frames:
        tracked.first = moment
    tracked.frames, tracked.last = tracked.frames + 1, moment
    for name, found in there.items():
        if found:
            tracked.lost.pop(name, None)
        else:
            tracked.lost.setdefault(name, moment)


def _short(value: float, digits: int = 2) -> float:
    return round(float(value), digits)
