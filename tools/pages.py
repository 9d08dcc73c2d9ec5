"""What the measuring tools have in common: their first arguments, and how their pages begin and show a figure."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl.bench.result import machine

SHOWN = ("processor", "cores", "python", "torch", "torchvision", "av", "decord", "torchcodec", "opencv-python-headless")


def arguments(doc: str, folder: str) -> argparse.ArgumentParser:
    """A parser with `folder` (what it is for) and --page; the module's docstring is its help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help=folder)
    parser.add_argument("--page", type=Path, help="Markdown file to write; default: a file in the folder")
    return parser


def head(title: str, command: str, *, here: Mapping[str, Any] | None = None, more: str = "") -> list[str]:
    """The first lines of a page: title, date, machine (`here`: as a result recorded it), command."""
    found = machine() if here is None else here
    told = ", ".join(f"{key} {found[key]}" for key in SHOWN if key in found)
    return [
        f"# {title}",
        "",
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}; {told}{f'; {more}' if more else ''}. Command:",
        "",
        "```bash",
        command,
        "```",
        "",
    ]


def figure(entry: Mapping[str, Any]) -> str:
    """A value and its interval."""
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
