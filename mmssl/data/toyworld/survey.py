"""What a toy corpus holds, counted from its own truth."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmssl.data.toyworld.corpus import STAMP, clip_path
from mmssl.data.toyworld.materials import MATERIALS
from mmssl.data.toyworld.truth import truth_path
from mmssl.types import InputError

_MOST = 400  # clips that are opened; the counts hold for these


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts over the first `counted` of `clips` clips; shares are 0 to 1, sizes are bytes of all clips of the corpus."""

    clips: int
    counted: int
    seconds: float  # of each clip
    video_bytes: int
    other_bytes: int
    objects: float  # in view, a clip
    strikes: float  # heard, a clip that is not muted
    captions: float  # a clip
    muted: float
    offscreen: float  # clips in which something sounds that is not in view
    twins: float  # clips in which a silent object has the hue of a sounding one
    materials: Counter[str]  # what is heard -> in how many clips


def survey(out: Path) -> Survey:
    """Count what is in the corpus at `out`. Raises `InputError` where there is none."""
    stamp_path = Path(out) / STAMP
    if not stamp_path.is_file():
        raise InputError(f"{out} holds no toy world ({STAMP} is missing)")
    stamp = json.loads(stamp_path.read_text())
    counted, sums, heard = min(stamp["clips"], _MOST), Counter[str](), Counter[str]()
    sounding = {material.name for material in MATERIALS if material.sounds}
    for index in range(counted):
        with np.load(
            truth_path(clip_path(out, index)), allow_pickle=False
        ) as truth:  # members are read one by one: no masks here
            bodies, materials, hues = truth["sound_object"], truth["materials"].tolist(), truth["hues"].tolist()
            sums["objects"] += len(materials)
            sums["captions"] += len(truth["caption_start"])
            sums["strikes"] += len(bodies)
            sums["muted"] += json.loads(str(truth["toyworld"]))["muted"]
            sums["offscreen"] += bool((bodies < 0).any())
            loud = {hue for hue, material in zip(hues, materials, strict=True) if material in sounding}
            sums["twins"] += any(hue in loud for hue, name in zip(hues, materials, strict=True) if name not in sounding)
            heard.update(set(truth["sound_material"].tolist()))
    sizes = Counter[str]()
    for path in Path(out).glob("clip_*"):
        sizes["video" if path.suffix == ".mp4" else "other"] += path.stat().st_size
    return Survey(
        clips=stamp["clips"],
        counted=counted,
        seconds=stamp["difficulty"]["seconds"],
        video_bytes=sizes["video"],
        other_bytes=sizes["other"],
        objects=sums["objects"] / counted,
        strikes=sums["strikes"] / max(1, counted - sums["muted"]),
        captions=sums["captions"] / counted,
        muted=sums["muted"] / counted,
        offscreen=sums["offscreen"] / counted,
        twins=sums["twins"] / counted,
        materials=heard,
    )
