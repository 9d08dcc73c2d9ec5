"""Charts of the report as inline SVG that follows the page's light or dark colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-ins, replaced by the page's CSS variables: matplotlib itself knows no variables.
INK, FAINT, TRAIN, HELD, CHANCE = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
VARIABLES = {INK: "var(--ink)", FAINT: "var(--line)", TRAIN: "var(--train)", HELD: "var(--held)", CHANCE: "var(--chance)"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, sharp, in the page's font
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One curve. `kind`: "train" (a line), "held" (a line with dots: held-out), "second" (a further line), "chance" (dashes)."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    kind: str = "train"


def curves(title: str, lines: Sequence[Line], *, log: bool = False) -> str:
    """A chart of values over steps, as an `<svg>` element. Lines without points are left out; none at all gives ""."""
    drawn = [line for line in lines if len(line.steps)]
    if not drawn:
        return ""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.8, 2.7), layout="constrained")
        axes = figure.subplots()
        for line in drawn:
            _draw_line(axes, line)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("step")
        axes.margins(x=0.02)
        if log and min(min(line.values) for line in drawn) > 0:
            axes.set_yscale("log")
        if len(drawn) > 1:
            axes.legend(loc="best", fontsize=9, labelcolor=INK)
        return _svg(figure)


def intervals(rows: Sequence[tuple[str, dict[str, Any], float | None]]) -> str:
    """Shares with their 95 % intervals on one scale from 0 to 1: (label, entry with value, low, high; chance or baseline)."""
    if not rows:
        return ""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "intervals"}):
        figure = Figure(figsize=(6.2, 0.3 * len(rows) + 0.6), layout="constrained")
        axes = figure.subplots()
        for place, (_, entry, against) in enumerate(rows):
            y = len(rows) - 1 - place
            axes.plot([entry["low"], entry["high"]], [y, y], color=HELD, linewidth=4.5, alpha=0.35, solid_capstyle="round")
            axes.plot([entry["value"]], [y], "o", color=HELD, markersize=6)
            if against is not None:
                axes.plot([against], [y], "|", color=CHANCE, markersize=12, markeredgewidth=2.2)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in reversed(rows)])
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        return _svg(figure)


def _draw_line(axes: Axes, line: Line) -> None:
    if line.kind == "chance":
        axes.plot(line.steps, line.values, color=CHANCE, linestyle=(0, (4, 3)), linewidth=1.4, label=line.label)
    elif line.kind == "second":
        axes.plot(line.steps, line.values, color=CHANCE, linewidth=1.3, label=line.label)
    elif line.kind == "held":
        axes.plot(line.steps, line.values, color=HELD, linewidth=1.8, marker="o", markersize=4.5, label=line.label)
    else:
        marker = "." if len(line.steps) == 1 else None
        axes.plot(line.steps, line.values, color=TRAIN, linewidth=1.3, marker=marker, label=line.label)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    return text
