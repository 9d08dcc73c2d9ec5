"""Benchmarks of tracking as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from mmssl.downstream.probe.davis import DavisFigures
from mmssl.downstream.probe.jhmdb import JhmdbFigures


def davis_table(figures: DavisFigures) -> Table:
    """J&F, then J and F with their recall and decay, one row for each tracker."""
    summaries = figures.summaries()
    table = Table(title=f"{figures.davis.name}, {next(iter(summaries.values())).objects} objects", title_justify="left")
    table.add_column("tracker", overflow="fold")
    for column in ("J&F", "J\nmean", "J\nrecall", "J\ndecay", "F\nmean", "F\nrecall", "F\ndecay"):  # narrow: names are long
        table.add_column(column, justify="right")
    for name, s in summaries.items():
        shown = (s.jf, s.j_mean, s.j_recall, s.j_decay, s.f_mean, s.f_recall, s.f_decay)
        table.add_row(name, *(f"{value:.3f}" for value in shown))
    return table


def jhmdb_table(figures: JhmdbFigures) -> Table:
    """PCK by threshold and the share of joints that were lost, one row for each tracker."""
    trackers = figures.as_json()["trackers"]
    table = Table(title=f"{figures.jhmdb.name}, PCK", title_justify="left")
    table.add_column("tracker", overflow="fold")
    for at in next(iter(trackers.values()))["PCK"]:
        table.add_column(f"@{at}", justify="right")
    table.add_column("lost", justify="right")
    for name, found in trackers.items():
        lost = f"{found['lost'] / found['counted']:.1%}"
        table.add_row(name, *(f"{value:.3f}" for value in found["PCK"].values()), lost)
    return table
