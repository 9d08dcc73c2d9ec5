"""The mask that a visitor painted: from the page's own canvas, in the film's own pixels, to a file as `mmssl track` takes it."""

from __future__ import annotations

import base64
import binascii
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmssl.app.thumbnails import data_address
from mmssl.downstream.masks import colours
from mmssl.downstream.palette import write_mask
from mmssl.types import InputError

HEAD = "data:image/png;base64,"
MOST = 40_000_000  # characters, and pixels
OBJECTS = 8  # that can be painted; a mask that is uploaded may have more
NAMES = ("blue", "orange", "green", "red", "purple", "brown", "pink", "grey")


def save_drawn(text: str, out: Path) -> Path:
    """Write the mask that the page sent, a PNG in a `data:` address whose levels are the objects' numbers, as a palette PNG.

    Raises:
        InputError: nothing was painted, or the text is no picture.
    """
    if not text:
        raise InputError("nothing is painted yet: paint over the thing to follow in the picture above, or choose a mask file")
    lost = InputError("the painted mask did not arrive whole; reload the page and paint it again")
    if not text.startswith(HEAD) or len(text) > MOST:
        raise lost
    try:
        with Image.open(io.BytesIO(base64.b64decode(text[len(HEAD) :], validate=True)), formats=["PNG"]) as image:
            if image.width * image.height > MOST:
                raise lost
            values = np.asarray(image.convert("RGB"))[..., 0]
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise lost from error
    write_mask(
        out, np.ascontiguousarray(values)
    )  # with a palette: there, unlike in a grey picture, an object that is alone keeps its number
    return out


def painter(frame: np.ndarray, *, moment: float) -> str:
    """HTML to paint on a frame (H, W, 3): a canvas that has a pixel for each of the film's, and its tools."""
    height, width = frame.shape[:2]
    table = ["#" + "".join(f"{int(value):02x}" for value in row) for row in colours()[:OBJECTS]]
    options = "".join(f'<option value="{k}">{k} ({name})</option>' for k, name in enumerate(NAMES, start=1))
    radius = max(2, round(min(height, width) / 16))
    label = f"Frame at {moment:.2f} s, {width} x {height} pixels. Paint with the mouse; or move with the arrow keys and paint with the space bar."
    return (
        f'<div class="mm-painter" data-colours="{",".join(table)}">'
        f'<div class="mm-canvas"><img src="{data_address(Image.fromarray(frame), quality=92)}" alt="" draggable="false">'
        f'<canvas width="{width}" height="{height}" tabindex="0" role="application" aria-label="{html.escape(label)}"></canvas></div>'
        f'<div class="mm-tools" role="toolbar" aria-label="Painting tools">'
        f'<label>Object <select class="mm-object">{options}</select></label>'
        f'<label>Brush <input class="mm-size" type="range" min="1" max="{max(8, min(height, width) // 3)}" value="{radius}"></label>'
        f'<label><input class="mm-eraser" type="checkbox"> Eraser</label>'
        f'<button type="button" class="mm-undo">Undo</button><button type="button" class="mm-clear">Clear</button></div>'
        f'<p class="mm-note">{html.escape(label)}</p></div>'
    )
