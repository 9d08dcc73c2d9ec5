"""Draw what each objective is given, for its page: `python tools/draw_views.py FOLDER`.

Makes a small toy world and a tokenizer in FOLDER, cuts a row or two by each objective's config in configs/tiny/, and writes
docs/pictures/views/NAME.jpg: the sheet of `mmssl view`, no wider than a page.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from PIL import Image
from rich.console import Console

from mmssl.components import component_names
from mmssl.config import load_config
from mmssl.data.texts import corpus_texts
from mmssl.data.tokens import train_tokenizer
from mmssl.data.toyworld import make_toyworld
from mmssl.files import make_aside
from mmssl.run import view_batch

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures" / "views"
CLIPS, ROWS, WIDTH, HEIGHT, QUALITY = 40, 2, 1100, 700, 72
WORDS = 300  # tokens, as the configs' first lines say
SMALL = ["streams.0.data=world", "streams.0.batch=8", "streams.0.holdout=4", "train.workers=0"]


def drawn(name: str, rows: int) -> Image.Image:
    """The sheet of one objective; the current folder holds world/ and words.json."""
    config = ROOT / "configs" / "tiny" / f"{name}.yaml"
    text = ["encoders.text.tokenizer=words.json"] if "words.json" in config.read_text(encoding="utf-8") else []
    sheet = view_batch(load_config(config, [*SMALL, *text]), Path(f"{name}.png"), step=0, rows=rows)
    with Image.open(sheet) as opened:
        return opened.convert("RGB")


def draw(name: str) -> Path:
    """Write the picture of one objective, with fewer rows where it would be too high."""
    picture = drawn(name, ROWS)
    if picture.height > HEIGHT:
        picture = drawn(name, 1)
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    out = PICTURES / f"{name}.jpg"
    make_aside(out, lambda part: picture.save(part, "JPEG", quality=QUALITY, optimize=True))
    return out


def main() -> None:
    """Draw all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the toy world; made again only where it is not there")
    parser.add_argument("names", nargs="*", help="objectives; default: all")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    os.chdir(given.folder)  # pictures name files by their paths
    make_toyworld(Path("world"), clips=CLIPS, seed=0)
    if not Path("words.json").is_file():
        train_tokenizer(corpus_texts([Path("world")]), Path("words.json"), size=WORDS)
    console = Console(stderr=True)
    for name in given.names or component_names("mmssl.objectives"):
        console.print(f"{draw(name).relative_to(ROOT)}", highlight=False)


if __name__ == "__main__":
    main()
