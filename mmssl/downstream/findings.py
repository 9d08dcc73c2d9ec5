"""What `localize` found, as JSON: a document with one line for each moment, written as it goes, so that hours of film fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from numpy.typing import NDArray

from mmssl.downstream.analysis import Analysis
from mmssl.downstream.drawing import Drawn
from mmssl.downstream.film import Film
from mmssl.downstream.regions import HOT, Maximum, Reader, Region
from mmssl.encoders.base import Encoder

FORMAT = 1  # raised when a field changes its meaning or goes


def write_findings(
    path: Path,
    film: Film,
    found: Analysis,
    what: Drawn,
    encoder: Encoder,
    about: dict[str, Any],
    on_window: Callable[[], None] = lambda: None,
) -> None:
    """Write the document: `about`, the film and its scale, and under "windows" one object for each moment.

    Pixels are those of the film as displayed. See docs/localization.md for the fields.
    """
    grid = (what.maps.shape[-2], what.maps.shape[-1])
    reader = Reader(encoder, grid, seen=what.seen, film=(film.height, film.width))
    scale = what.scale
    head = {
        "format": FORMAT,
        "film": str(film.path),
        "width": film.width,
        "height": film.height,
        "seconds": _short(film.seconds),
        **about,
        "calibration": scale.origin,
        "score_threshold": None if scale.origin == "none" else _short(scale.threshold),
        "box_threshold": _short(box_threshold(scale.low, scale.high)),
        "sources": _about_sources(what),
    }
    with path.open("w", encoding="utf-8") as file:
        body = json.dumps(head, ensure_ascii=False, indent=1, allow_nan=False)
        file.write(body[: body.rindex("}")].rstrip() + ',\n "windows": [')
        for index in range(len(found.times)):
            file.write(",\n  " if index else "\n  ")
            _write_window(file, index, found, what, reader, float(about["window_seconds"]))
            on_window()
        file.write("\n ]\n}\n")


def box_threshold(low: float, high: float, peak: float = float("inf")) -> float:
    """The cosine from which a region is boxed: heat of one half, where the film draws its line, or halfway up a map whose peak is lower.

    A moment at which something is claimed to sound then has a box, unless smoothing has brought its map below all heat.
    """
    return low + min(HOT * (high - low), max(0.0, peak - low) / 2)


def _write_window(file: TextIO, index: int, found: Analysis, what: Drawn, reader: Reader, seconds: float) -> None:
    state, cosines = what.states[index], what.maps.rows(index, index + 1)[0]
    seen = state == "seen"
    row: dict[str, Any] = {
        "time": _short(found.times[index]),
        "start": _short(found.starts[index]),
        "end": _short(found.starts[index] + seconds),
        "state": state,
        "sounding": seen,
        "score": _short(what.scores[index]),
        "confidence": _short(float(what.confidence[index])),
        "level_dbfs": round(found.levels[index], 1),
        **_places(reader, cosines, what.scale.low, what.scale.high, boxed=seen),
    }
    if what.sources is not None and what.source_maps is not None and what.heard is not None:
        maps = what.source_maps.rows(index, index + 1)[0]
        row["sources"] = [
            {
                "name": name,
                "heard": seen and int(what.heard[index]) == k,
                **_places(reader, maps[k], float(low), float(high), boxed=seen),
            }
            for k, (name, low, high) in enumerate(zip(what.sources.names, what.sources.low, what.sources.high, strict=True))
        ]
    file.write(json.dumps(row, allow_nan=False))


def _about_sources(what: Drawn) -> list[dict[str, Any]]:
    if what.sources is None:
        return []
    return [
        {"name": name, "kind": what.sources.kind, "clearest": None if at is None else _short(at)}
        for name, at in zip(what.sources.names, what.sources.clearest, strict=True)
    ]


def _places(reader: Reader, cosines: NDArray[Any], low: float, high: float, *, boxed: bool) -> dict[str, Any]:
    peak = reader.maximum(cosines)
    hot = reader.regions(cosines, box_threshold(low, high, peak.cosine)) if boxed and peak.cosine > low else []
    return {"maximum": _point(peak), "boxes": [_box(region) for region in hot]}


def _point(found: Maximum) -> dict[str, float]:
    return {"x": round(found.x, 1), "y": round(found.y, 1), "cosine": _short(found.cosine)}


def _box(region: Region) -> dict[str, float]:
    left, top, width, height = (round(side, 1) for side in region[:4])
    return {"left": left, "top": top, "width": width, "height": height, "cosine": _short(region.cosine)}


def _short(value: float) -> float:
    return round(float(value), 4)
