"""Following masks and keypoints through a video, one frame after the other, by an encoder of single frames.

What is given in the first frame becomes labels of the encoder's cells, the labels are carried on (`mmssl.downstream.propagate`), and in each frame they become
a mask or points again. Memory holds the frames of the context only, however long the video is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.downstream.cells import Cells, Mask, Points, Rule, cell_shares, full_size, hottest, point_heat
from mmssl.downstream.propagate import Propagation, propagate
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Objective, Tracks
from mmssl.types import InputError

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Prepare = Callable[[Tensor], Tensor]  # pictures (N, T, 3, H, W) uint8 -> what the encoder was trained on
Start = Callable[[Cells], NDArray[np.float32]]  # where cells lie -> labels of the first frame (L, h, w)

COMFORTABLE = 60  # cells on the shorter side: DAVIS at 480 pixels by encoders of stride 8


@dataclass(frozen=True, slots=True)
class Sight:
    """An encoder as tracking uses it."""

    encoder: Encoder
    prepare: Prepare | None  # the objective's `picture`; None: frames as they are
    objective: str | None  # that `prepare` belongs to


def sight_of(
    encoders: Mapping[str, Encoder], objectives: Mapping[str, Objective], name: str | None = None, *, device: str = "cpu"
) -> Sight:
    """What a run tracks with: the encoder of single frames that its objective trains, and how that objective shows it pictures.

    Args:
        encoders: of the run, by role.
        objectives: of the run, by name.
        name: of the objective; None: the first that says how it tracks, or else the run's first encoder of single frames, given the frames as they are.
        device: for both.

    Raises:
        InputError: there is no such objective, or no encoder of single frames.
    """
    if name is not None and name not in objectives:
        raise InputError(f"the run has no objective {name!r}; it has {', '.join(objectives)}")
    named = {key: one for key, one in objectives.items() if name in (None, key)}
    able = [key for key, one in named.items() if isinstance(one, Tracks)]
    roles = [role for key in able or named for role in named[key].roles] if able or name else list(encoders)
    framed = [role for role in roles if encoders[role].modality == "frame"]
    if not framed:
        there = ", ".join(f"{role}: {encoder.modality}" for role, encoder in encoders.items())
        raise InputError(
            f"tracking needs an encoder of single frames, this run has {there}; train colorize or contrastive_random_walk"
        )
    objective = objectives[able[0]] if able else None
    encoder = encoders[framed[0]].to(device).eval()
    if objective is None or not isinstance(objective, Tracks):
        return Sight(encoder, None, None)
    objective.to(device).eval()
    return Sight(encoder, objective.picture, able[0])


def follow(
    frames: Iterable[Picture],
    start: Start,
    encoder: Encoder,
    *,
    seen: tuple[int, int] | None = None,
    settings: Propagation = Propagation(),
    prepare: Prepare | None = None,
) -> Iterator[tuple[Cells, Tensor]]:
    """Carry labels of cells through a video.

    Args:
        frames: pictures (H, W, 3), all of one size.
        start: makes the labels of the first frame, once it is known where cells lie.
        encoder: in eval mode; one of single frames.
        seen: (height, width) to which frames are resized for the encoder; None: as they are.
        settings: see `Propagation`.
        prepare: turns uint8 pictures into what the encoder was trained on; None: as they are.

    Yields:
        for each frame where its cells lie (always the same), and their labels (L, h, w); of the first frame as given.

    Raises:
        InputError: the encoder is not one of single frames, or cannot take pictures of this size.
        ValueError: a frame differs in size from the first.
    """
    if encoder.modality != "frame":
        raise InputError(f"tracking needs an encoder of single frames, {encoder.name} is one of {encoder.modality}s")
    device = next(encoder.parameters()).device
    # The grid of the first frame is needed before there are labels to carry.
    pictures = iter(frames)
    opening = next(pictures, None)
    if opening is None:
        return
    shown = (opening.shape[0], opening.shape[1])
    size = seen or shown
    try:
        grid = encode(opening, encoder, size, prepare, device)
    except (ValueError, RuntimeError) as error:  # how encoders and torch refuse a shape
        raise InputError(
            f"{encoder.name} cannot take a picture of {size[1]} x {size[0]} ({error}); give another short side"
        ) from error
    cells = Cells((grid.shape[0], grid.shape[1]), encoder.grid_offset, encoder.grid_stride, size, shown)
    first = torch.from_numpy(start(cells)).to(device)
    others = (encode(_of_size(picture, shown), encoder, size, prepare, device) for picture in pictures)
    for labels in propagate(chain([grid], others), first, settings):
        yield cells, labels


def track(
    frames: Iterable[Picture],
    mask: Mask,
    encoder: Encoder,
    *,
    settings: Propagation = Propagation(),
    prepare: Prepare | None = None,
    short_side: int | None = None,
) -> Iterator[Mask]:
    """Follow the objects of the first frame's mask through a video.

    Args:
        frames: pictures (H, W, 3), all of one size.
        mask: of the first frame, (H, W): 0 background, k object k.
        encoder: in eval mode; a frame encoder.
        settings: see `Propagation`.
        prepare: turns uint8 pictures into what the encoder was trained on (the objective's `picture`); None: as they are.
        short_side: pixels to which frames are resized for the encoder; None: as they are.

    Yields:
        (H, W) uint8 for each frame, the first one as given.

    Raises:
        InputError: the encoder is not one of single frames.
        ValueError: mask and frames differ in size.
    """
    objects = objects_of(mask)

    def start(cells: Cells) -> NDArray[np.float32]:
        if cells.shown != mask.shape:
            raise ValueError(f"the mask is {mask.shape}, the frames are {cells.shown}")
        return cell_shares(mask, objects, cells)

    seen = resized(mask.shape, short_side)
    placement = None
    for cells, labels in follow(frames, start, encoder, seen=seen, settings=settings, prepare=prepare):
        if placement is None:
            placement = cells.placement()
            yield mask.astype(np.uint8)
        else:
            yield full_size(labels, objects, placement)


def track_points(
    frames: Iterable[Picture],
    points: Points,
    encoder: Encoder,
    *,
    settings: Propagation = Propagation(),
    prepare: Prepare | None = None,
    seen: tuple[int, int] | None = None,
    rule: Rule = "peak",
) -> Iterator[tuple[Points, NDArray[np.float64]]]:
    """Follow points of the first frame through a video: the heat around each is a label of its own.

    Args:
        frames: pictures (H, W, 3), all of one size.
        points: (K, 2) pixels, x before y.
        encoder: in eval mode; a frame encoder.
        settings: see `Propagation`.
        prepare: as in `track`.
        seen: (height, width) to which frames are resized for the encoder, also squeezed; None: as they are.
        rule: how a point is read off its heat, see `hottest`.

    Yields:
        for each frame the points (K, 2), NaN where one is lost, in the first frame as given; and the confidence in each, (K,): how much of what its hottest cell was
        told is this point, 1 in the first frame, 0 where it is lost.

    Raises:
        InputError: the encoder is not one of single frames.
    """
    given: NDArray[np.float64] | None = None
    for cells, heat in follow(
        frames, lambda cells: point_heat(points, cells), encoder, seen=seen, settings=settings, prepare=prepare
    ):
        places, most = hottest(heat, rule)
        if given is None:
            given = most
            yield np.where(most[:, None] > 0, points, np.nan), (most > 0).astype(np.float64)
            continue
        yield cells.to_points(places), np.clip(most / np.where(given > 0, given, np.inf), 0.0, 1.0)


def objects_of(mask: Mask) -> NDArray[np.uint8]:
    """The numbers in a mask, ascending, the background 0 always the first."""
    return np.unique(np.append(mask, 0)).astype(np.uint8)


def resized(size: tuple[int, ...], short_side: int | None) -> tuple[int, int]:
    """(height, width) with `short_side`, the proportions kept; as it is for None. Raises `InputError` for a side of no pixels."""
    if short_side is None:
        return size[0], size[1]
    if short_side < 1:
        raise InputError(f"--short-side is {short_side}; give a number of pixels above 0")
    factor = short_side / min(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def comfortable_side(encoder: Encoder, size: tuple[int, int]) -> int:
    """Pixels of the short side that give the encoder `COMFORTABLE` cells there, at most the picture's own."""
    return min(*size, round(COMFORTABLE * encoder.grid_stride))


@torch.inference_mode()
def encode(picture: Picture, encoder: Encoder, seen: tuple[int, int], prepare: Prepare | None, device: torch.device) -> Tensor:
    """The encoder's grid (h, w, D) of one picture, resized to `seen`."""
    if picture.shape[:2] != seen:
        picture = np.asarray(cv2.resize(picture, seen[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    x = torch.from_numpy(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1)[None, None]
    return encoder(x if prepare is None else prepare(x)).grid[0, 0]


def _of_size(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[:2] != size:
        raise ValueError(f"a frame is {picture.shape[:2]}, the first one is {size}")
    return picture
