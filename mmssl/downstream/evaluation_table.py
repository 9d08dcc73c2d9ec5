"""An evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

NAMES = {
    "accuracy": "correspondence accuracy",
    "accuracy_training_threshold": "the same, training threshold",
    "synchronisation": "synchronisation accuracy",
    "pointing": "pointing game",
    "pointing_near": "pointing game, 2 % off",
    "iou": "IoU",
    "wrong_sound": "wrong sound",
}
ROLES = {"video": "picture", "audio": "sound", "text": "caption"}


def figure_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(what, entry with value, low, high, n; what to read it against as text), in the order of reading."""
    for key in ("accuracy", "accuracy_training_threshold", "synchronisation"):
        if key in figures:
            yield NAMES[key], figures[key], f"chance {figures[key]['chance']:.3f}"
    for key, entry in figures.get("judged", {}).items():
        yield key.replace("_", " "), entry, f"chance {entry['chance']:.3f}" if "chance" in entry else ""
    retrieval = figures.get("retrieval", {})
    for way in (key for key in retrieval if "_to_" in key):
        query, _, sought = way.partition("_to_")
        name = f"{ROLES.get(query, query)} to {ROLES.get(sought, sought)}"
        for measure, entry in retrieval[way].items():
            if measure.startswith("R@") and entry["chance"] >= 1:
                continue  # the first ten of six items hold the right one whatever the model does
            chance = f"{entry['chance']:.1f}" if measure == "median_rank" else f"{entry['chance']:.3f}"
            yield f"{name}, {measure.replace('_', ' ')} of {retrieval['gallery']}", entry, f"chance {chance}"
    for measure, by_map in figures.get("localization", {}).items():
        others = [f"{NAMES.get(name, name)} {entry['value']:.3f}" for name, entry in by_map.items() if name != "model"]
        yield NAMES[measure], by_map["model"], ", ".join(others)


def evaluation_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """One table for each objective of `evaluation["objectives"]`."""
    tables = []
    for name, figures in evaluation["objectives"].items():
        failed = f", {len(figures['failed'])} could not be decoded" if figures["failed"] else ""
        table = Table(title=f"{name}: {figures['sources']} held-out sources{failed}", title_justify="left")
        table.add_column("what")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        table.add_column("n", justify="right")
        table.add_column("to read it against")
        for what, entry, against in figure_rows(figures):
            digits = 1 if "rank" in what else 3
            interval = f"{entry['low']:.{digits}f} to {entry['high']:.{digits}f}"
            table.add_row(what, f"{entry['value']:.{digits}f}", interval, str(entry["n"]), against)
        tables.append(table)
    return tables
