"""Labels for a toy world: a CSV for `mmssl probe`, with the class of each clip read from its ground truth.

python tools/label_toyworld.py world/ labels.csv --by material --clips 600

`material`, `shape` and `hue` are those of the object in view that is heard first; clips in which nothing in view is heard are left out.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from pathlib import Path

from mmssl.data.toyworld import load_truth
from mmssl.data.toyworld.truth import Truth
from mmssl.files import write_aside
from mmssl.types import InputError


def label_of(truth: Truth, by: str) -> str | None:
    """The class of a clip; None where nothing in view is heard."""
    heard = [sound for sound in truth.sounds if sound.body >= 0]
    if not heard:
        return None
    body = min(heard, key=lambda sound: sound.time).body
    return {"material": truth.materials, "shape": truth.shapes, "hue": truth.hues}[by][body]


def write_labels(world: Path, out: Path, by: str, clips: int) -> Counter[str]:
    """Write the CSV; how many clips each class has.

    Raises:
        InputError: the folder holds no toy world.
    """
    rows: list[tuple[str, str]] = []
    for path in sorted(world.glob("clip_*.mp4")):
        if len(rows) == clips:
            break
        truth = load_truth(path)
        label = None if truth is None else label_of(truth, by)
        if label is not None:
            rows.append((str(path.absolute()), label))
    if not rows:
        raise InputError(f"{world} holds no toy world in which anything in view is heard; make one with mmssl toyworld")
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label"), *rows])
    write_aside(out, text.getvalue().encode())
    return Counter(label for _, label in rows)


def main() -> None:
    """Parse, write, and tell the classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--by", choices=("material", "shape", "hue"), default="material")
    parser.add_argument("--clips", type=int, default=1000, help="at most so many, in order of their numbers")
    given = parser.parse_args()
    found = write_labels(given.world, given.out, given.by, given.clips)
    print(
        f"{sum(found.values())} clips of {len(found)} classes:",
        ", ".join(f"{name} {count}" for name, count in found.most_common()),
    )


if __name__ == "__main__":
    main()
