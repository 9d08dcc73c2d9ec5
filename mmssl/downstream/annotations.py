"""Readers for the public sound-localization annotations: Flickr-SoundNet (XML, several annotators) and VGG-SS (one JSON file).

Boxes become truths in [0, 1] at 224 x 224 pixels as the published evaluations make them (Senocak et al., CVPR 2018; Chen et al.,
CVPR 2021): Flickr adds its annotators' boxes, halves, and clips at 1, so that two must agree; VGG-SS takes the union.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.metrics.localization import SIDE
from mmssl.types import Box, InputError

FLICKR_SIDE = 256  # pixels: the size of the pictures that Flickr-SoundNet's annotators saw
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Annotation:
    """The boxes of one clip, in fractions of the picture. Empty: a silent negative."""

    id: str
    boxes: tuple[Box, ...]
    label: str = ""

    def truth(self, *, consensus: int = 1, side: int = SIDE) -> NDArray[np.float32]:
        """(side, side) in [0, 1]: how many boxes cover a pixel, over `consensus`, at most 1.

        Corners are cut to whole pixels, as the published evaluations do. Flickr-SoundNet: `consensus=2`; VGG-SS: 1.
        """
        votes = np.zeros((side, side), dtype=np.float32)
        for box in self.boxes:
            # 1e-6: a fraction such as 0.1 * 10 / 10 must not fall to the pixel below by rounding.
            left, right = (int(max(0.0, x) * side + 1e-6) for x in (box.left, box.left + box.width))
            top, bottom = (int(max(0.0, y) * side + 1e-6) for y in (box.top, box.top + box.height))
            votes[top:bottom, left:right] += 1
        return np.minimum(votes / consensus, 1.0)


def read_flickr_soundnet(folder: Path) -> dict[str, Annotation]:
    """Every `<id>.xml` of a folder of Flickr-SoundNet annotations -> id -> boxes of all annotators.

    Raises:
        InputError: no such folder, no XML in it, or a file that is not of this format.
    """
    paths = sorted(Path(folder).glob("*.xml"))
    if not paths:
        raise InputError(f"{folder} holds no .xml annotations; give the Annotations folder of Flickr-SoundNet")
    return {path.stem: Annotation(path.stem, tuple(_flickr_boxes(path))) for path in paths}


def read_vggss(path: Path) -> dict[str, Annotation]:
    """`vggss.json` -> clip id (`<YouTube id>_<start, six digits>`) -> boxes and class. Boxes without area are dropped.

    Raises:
        InputError: the file is missing or not of this format.
    """
    try:
        rows = json.loads(Path(path).read_text())
        return {row["file"]: Annotation(row["file"], tuple(_vggss_boxes(row["bbox"])), row.get("class", "")) for row in rows}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the vggss.json of VGG-SS") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not VGG-SS's list of {{file, class, bbox}}: {error!r}") from error


def truths(annotations: Mapping[str, Annotation], ids: Iterable[str], *, consensus: int) -> NDArray[np.float32]:
    """The truths of exactly these clips in this order, (N, 224, 224).

    Raises:
        InputError: a clip has no annotation; the test set must not shrink silently.
    """
    wanted = list(ids)
    missing = [name for name in wanted if name not in annotations]
    if missing:
        raise InputError(f"{len(missing)} of {len(wanted)} clips have no annotation, the first is {missing[0]}")
    return np.stack([annotations[name].truth(consensus=consensus) for name in wanted])


def _flickr_boxes(path: Path) -> list[Box]:
    try:
        root = ET.parse(path).getroot()
        boxes = []
        for element in root.iter("bbox"):
            named = {child.tag.lower(): child.text for child in element}
            if all(corner in named for corner in CORNERS):
                texts = [named[corner] for corner in CORNERS]
            else:  # the released reader goes by position: one field of the annotator first, then the four corners
                texts = [child.text for child in element][1:5]
            left, top, right, bottom = (int(text or "") / FLICKR_SIDE for text in texts)
            boxes.append(Box(left, top, right - left, bottom - top))
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{path} is not an annotation of Flickr-SoundNet: {error}") from error
    return boxes


def _vggss_boxes(corners: Iterable[Iterable[Any]]) -> list[Box]:
    boxes = []
    for four in corners:
        left, top, right, bottom = (min(max(float(x), 0.0), 1.0) for x in four)
        if right > left and bottom > top:
            boxes.append(Box(left, top, right - left, bottom - top))
    return boxes
