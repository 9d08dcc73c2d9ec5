"""The outcome of a probe as a chart: each figure a dot on its interval, the trained encoder's in colour."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmssl.downstream.probe.outcome import NAMES, called, title
from mmssl.files import make_aside

TRAINED, OTHER, FAINT = "#c2410c", "#57606a", "#dcdcd6"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def write_chart(found: Mapping[str, Any], out: Path) -> Path:
    """Draw `found` (see `mmssl.downstream.probe.outcome`) as a PNG, a panel for each figure, on a scale from 0 to 1."""
    measures = list(found["contenders"][0]["figures"])
    rows = len(found["contenders"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.5, len(measures) * (0.27 * rows + 0.55) + 0.5), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(measures), squeeze=False)[:, 0]
        for panel, measure in zip(panels, measures, strict=True):
            _panel(panel, found, measure)
        figure.suptitle(title(found), x=0.01, ha="left", fontsize=11, fontweight="bold")
        make_aside(out, lambda part: figure.savefig(part, dpi=130))
    return out


def _panel(panel: Axes, found: Mapping[str, Any], measure: str) -> None:
    contenders = list(reversed(found["contenders"]))
    for row, contender in enumerate(contenders):
        entry = contender["figures"][measure]
        colour = TRAINED if contender["name"] == "trained" else OTHER
        panel.plot([entry["low"], entry["high"]], [row, row], color=colour, linewidth=5, alpha=0.35, solid_capstyle="round")
        panel.plot([entry["value"]], [row], "o", color=colour, markersize=6)
        # On the side where there is room.
        right = entry["high"] < 0.85
        edge = entry["high"] + 0.015 if right else entry["low"] - 0.015
        panel.text(edge, row, f"{entry['value']:.3f}", va="center", ha="left" if right else "right", fontsize=9, color=colour)
    panel.set_yticks(range(len(contenders)), [called(contender) for contender in contenders])
    panel.set_xlim(-0.01, 1.01)
    panel.set_ylim(-0.6, len(contenders) - 0.4)
    panel.set_title(f"{NAMES[measure]}, with its 95 % interval", loc="left", fontsize=10)
