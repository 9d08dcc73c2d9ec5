"""Moments of films side by side as one JPEG, for pages: one row for each film.

Example: python tools/picture_of_film.py heat.mp4 --at 0.8 1.6 2.8 --out docs/pictures/localization.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mmssl.data.playback import play_frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--at", type=float, nargs="+", required=True, help="seconds")
    parser.add_argument("--width", type=int, default=1200, help="pixels of the whole")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = [
        np.concatenate([next(play_frames(film, fps=1.0, start=moment))[1] for moment in given.at], axis=1) for film in given.films
    ]
    width = min(row.shape[1] for row in rows)
    whole = Image.fromarray(np.concatenate([row[:, :width] for row in rows]))
    whole.resize((given.width, round(whole.height * given.width / whole.width)), Image.Resampling.LANCZOS).save(
        given.out, quality=80
    )


if __name__ == "__main__":
    main()
