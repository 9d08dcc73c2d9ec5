"""Sequences whose masks are known in every frame: folders laid out as DAVIS, and toy worlds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmssl.data.playback import play_frames
from mmssl.data.toyworld import load_truth
from mmssl.types import InputError, MediaError

PICTURES, MASKS = "JPEGImages", "Annotations"


@dataclass(frozen=True, slots=True)
class MaskedVideo:
    """One sequence: pictures (H, W, 3) RGB as often as they are asked for, masks (T, H, W) with 0 for the background, 255 for void."""

    name: str
    play: Callable[[], Iterator[NDArray[np.uint8]]]
    masks: NDArray[np.uint8]
    fps: float


def davis_sequences(root: Path, *, resolution: str = "480p") -> list[MaskedVideo]:
    """All sequences of a folder laid out as DAVIS: `JPEGImages/480p/NAME/00000.jpg`, `Annotations/480p/NAME/00000.png`.

    A mask file holds palette indices (DAVIS 2017: object numbers) or grey levels (DAVIS 2016: 255 is the one object;
    levels below 128 are taken for object numbers).

    Raises:
        InputError: there are no such folders, or none with sequences.
        MediaError: a sequence lacks pictures or masks, or they differ in number or size.
    """
    folder = Path(root) / MASKS / resolution
    names = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if not names:
        raise InputError(
            f"{root} has no sequences: {folder} should hold a folder of masks for each, and {PICTURES}/{resolution} its frames"
        )
    return [davis_sequence(Path(root), name, resolution=resolution) for name in names]


def davis_sequence(root: Path, name: str, *, resolution: str = "480p") -> MaskedVideo:
    """One sequence of such a folder.

    Raises:
        MediaError: it lacks pictures or masks, or they differ in number or size.
    """
    masks = sorted((root / MASKS / resolution / name).glob("*.png"))
    pictures = sorted((root / PICTURES / resolution / name).glob("*.jpg"))
    if not masks or [path.stem for path in masks] != [path.stem for path in pictures]:
        raise MediaError(f"sequence {name} has {len(pictures)} pictures and {len(masks)} masks; each frame needs both")
    labels = np.stack([_read_mask(path) for path in masks])

    def play() -> Iterator[NDArray[np.uint8]]:
        for path in pictures:
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is None:
                raise MediaError(f"{path} is no picture that OpenCV can read")
            yield np.asarray(picture[..., ::-1], dtype=np.uint8)

    size = next(play()).shape[:2]
    if labels.shape[1:] != size:
        raise MediaError(f"sequence {name} has masks of {labels.shape[1:]} and pictures of {size}")
    return MaskedVideo(name, play, labels, 24.0)


def _read_mask(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as file:
        palette = file.mode == "P"
        mask = np.asarray(file if palette else file.convert("L"), dtype=np.uint8)
    # DAVIS 2016 paints its one object white; in a palette of DAVIS 2017, 255 is void.
    return mask if palette or mask.max() <= 127 else (mask > 127).astype(np.uint8)


def toy_sequences(root: Path, *, clips: int, every: int = 3) -> list[MaskedVideo]:
    """The last `clips` clips of a toy world (training with `holdout` draws its own, so test on a world of another seed), every `every`-th frame.

    Objects are those that the first frame shows; what appears later counts as background.

    Raises:
        InputError: the folder holds no toy world.
    """
    found: list[MaskedVideo] = []
    for path in sorted(Path(root).glob("clip_*.mp4"))[-clips:]:
        truth = load_truth(path)
        if truth is None:
            continue
        masks = truth.labels[::every].copy()
        masks[~np.isin(masks, np.unique(masks[0]))] = 0
        if not masks[0].any():
            continue
        fps = truth.fps / every
        found.append(MaskedVideo(path.stem, _player(path, fps, len(masks)), masks, fps))
    if not found:
        raise InputError(f"{root} holds no clips with their truth; make some: mmssl toyworld {root} --clips {clips}")
    return found


def _player(path: Path, fps: float, frames: int) -> Callable[[], Iterator[NDArray[np.uint8]]]:
    def play() -> Iterator[NDArray[np.uint8]]:
        # Half a frame in: no rounding of stamps can give the frame before.
        for _, (_, picture) in zip(range(frames), play_frames(path, fps=fps, start=1e-3), strict=False):
            yield np.asarray(picture, dtype=np.uint8)

    return play
