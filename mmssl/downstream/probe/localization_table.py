"""Figures of the localization probes as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

MAPS = {
    "model": "model",
    "wrong_sound": "model, wrong sound",
    "object_prior": "object prior",
    "centre": "centre",
    "motion": "motion",
}
PUBLISHED = {"ciou": "cIoU", "auc": "AUC", "average_precision": "AP", "max_f1": "max-F1", "loc_acc": "LocAcc"}
OWN = {
    "mean_ciou": "mean consensus IoU",
    "pointing": "pointing game",
    "average_precision_misplaced_missed": "AP, misplaced is missed",
}
TOY = {"pointing": "pointing game", "pointing_near": "pointing game, 2 % off", "iou": "IoU"}
CLAIMS = {"in_view_when_it_is": "said to be in view, when it is", "not_in_view_when_it_is_not": "said not to be, when it is not"}


def localization_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Tables of what `probe_localization` or `probe_toyworld` gave; intervals are 95 % over clips."""
    title = f"{found['data']}: {found['with_source']} clips with a source in view, {found['clips']} in all"
    if "maps" in found:
        first = next(iter(found["maps"].values()))
        yield _table(title + "; published measures", {k: v for k, v in PUBLISHED.items() if k in first}, found["maps"])
        yield _table("beside them", {k: v for k, v in OWN.items() if k in first}, found["maps"])
        by_threshold = {which: entry["iou"] for which, entry in found["maps"].items()}
        yield _table(
            "IoU of the min-max map at fixed thresholds", {t: t for t in next(iter(by_threshold.values()))}, by_threshold
        )
    if "localization" in found:
        by_map: dict[str, dict[str, Any]] = {}
        for measure, entries in found["localization"].items():
            for which, entry in entries.items():
                by_map.setdefault(which, {})[measure] = entry
        yield _table(title, TOY, by_map)
    for key, name in (
        ("detection", "is a source in view? foreign sounds among the own"),
        ("by_score", "with the model's own score"),
    ):
        if key in found:
            measures = {k: v for k, v in (PUBLISHED | OWN).items() if k in found[key]}
            yield _table(name, measures, {"model": found[key]})
    if "claims" in found:
        yield _table("claims at the run's threshold", CLAIMS, {"model": found["claims"]})


def _table(title: str, measures: Mapping[str, str], by_map: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("map")
    for name in measures.values():
        table.add_column(name, justify="right")
    for which in (name for name in MAPS if name in by_map):
        table.add_row(MAPS[which], *(_cell(by_map[which].get(measure)) for measure in measures))
    return table


def _cell(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
