"""Following a mask through a video by an encoder's features: each cell takes its label from the cells that look like it in frames before.

Label propagation as in Jabri, Owens and Efros, NeurIPS 2020 (arXiv:2006.14613, section 4.1), after Vondrick et al., ECCV 2018: a cell of the new frame looks
among the cells of the first frame, whose labels are given, and of the last `context` frames, whose labels were found, at most `radius` cells away, takes the
`top_k` of the highest cosine, and mixes their labels by a softmax at `temperature`. Features are the encoder's own, without any head. Memory
holds `context` + 1 frames, however long the video is.

h x w cells of the grid, D features, L labels (0 is the background), H x W pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mmssl.downstream.heatmap import Placement
from mmssl.encoders.base import Encoder
from mmssl.types import InputError

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.uint8]  # (H, W): 0 background, k object k
Prepare = Callable[[Tensor], Tensor]  # pictures (N, T, 3, H, W) uint8 -> what the encoder was trained on

TILE = 8  # rows and columns of cells that are looked up together: they share most of their neighbourhood


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """How labels are propagated. Defaults are those of the contrastive random walk's evaluation on DAVIS.

    Raises `InputError` for a value out of range.
    """

    top_k: int = 10
    radius: float | None = 12.0  # cells, Euclidean; None: the whole picture
    context: int = 20  # latest frames, beside the first one
    temperature: float = 0.05

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.context < 0 or self.temperature <= 0 or (self.radius is not None and self.radius < 0):
            raise InputError(
                f"{self}: give top_k >= 1, context >= 0, temperature > 0 and radius >= 0 (or None for the whole picture)"
            )


def propagate(features: Iterable[Tensor], first: Tensor, settings: Propagation = Propagation()) -> Iterator[Tensor]:
    """Labels of each frame's cells, the first frame's as given.

    Args:
        features: for each frame (h, w, D), on one device.
        first: labels of the first frame (L, h, w): shares, that sum to 1 over L.
        settings: see `Propagation`.

    Yields:
        (L, h, w) for each frame, on the features' device.

    Raises:
        ValueError: a grid changes its size, or differs from `first`'s.
    """
    kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.context)
    given: tuple[Tensor, Tensor] | None = None
    for number, grid in enumerate(features):
        if tuple(grid.shape[:2]) != tuple(first.shape[1:]):
            raise ValueError(
                f"frame {number} has a grid of {tuple(grid.shape[:2])}, the first labels are {tuple(first.shape[1:])}"
            )
        grid = F.normalize(grid.float(), dim=-1)
        if given is None:
            given = (grid, first.to(grid))
            yield given[1]
            continue
        found = look_up(grid, [given, *kept], settings)
        kept.append((grid, found))
        yield found


def look_up(grid: Tensor, known: list[tuple[Tensor, Tensor]], settings: Propagation) -> Tensor:
    """Labels (L, h, w) of one frame of unit-length features (h, w, D) from frames whose labels are known.

    Args:
        grid: the new frame's.
        known: features (h, w, D) and labels (L, h, w) of each known frame.
        settings: see `Propagation`.
    """
    height, width = grid.shape[:2]
    keys = torch.stack([key for key, _ in known])  # (C, h, w, D)
    labels = torch.stack([label for _, label in known])  # (C, L, h, w)
    found = torch.zeros_like(labels[0])
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            rows, columns = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
            found[:, rows, columns] = _look_up_tile(grid, keys, labels, rows, columns, settings)
    return found


def _look_up_tile(grid: Tensor, keys: Tensor, labels: Tensor, rows: slice, columns: slice, settings: Propagation) -> Tensor:
    near_rows, near_columns = _reach(rows, grid.shape[0], settings.radius), _reach(columns, grid.shape[1], settings.radius)
    around = keys[:, near_rows, near_columns]  # (C, r, c, D)
    cosines = grid[rows, columns].flatten(0, 1) @ around.flatten(0, 2).T  # (tile, C r c)
    if settings.radius is not None:
        far = _too_far(rows, columns, near_rows, near_columns, settings.radius, grid.device)
        cosines = cosines.unflatten(1, (len(keys), -1)).masked_fill(far[:, None], -torch.inf).flatten(1)
    best, where = cosines.topk(min(settings.top_k, cosines.shape[1]), dim=1)
    weights = (best / settings.temperature).softmax(dim=1)  # of what is too far: 0, each cell has at least itself in reach
    told = labels[:, :, near_rows, near_columns].transpose(0, 1).flatten(1)  # (L, C r c)
    mixed = (told[:, where] * weights).sum(dim=2)  # (L, tile)
    return mixed.unflatten(1, (rows.stop - rows.start, columns.stop - columns.start))


def _reach(part: slice, extent: int, radius: float | None) -> slice:
    if radius is None:
        return slice(0, extent)
    return slice(max(0, part.start - int(radius)), min(extent, part.stop + int(radius)))


def _too_far(rows: slice, columns: slice, near_rows: slice, near_columns: slice, radius: float, device: torch.device) -> Tensor:
    """(cells of the tile, cells in reach of any of them) bool."""

    def apart(part: slice, near: slice) -> Tensor:
        here, there = (torch.arange(s.start, s.stop, device=device) for s in (part, near))
        return (here[:, None] - there).square()

    square = apart(rows, near_rows)[:, None, :, None] + apart(columns, near_columns)[None, :, None, :]
    return (square > radius * radius).flatten(2).flatten(0, 1)


# Videos ------------------------------------------------------------------------------------------------------------------


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
    if encoder.modality != "frame":
        raise InputError(f"tracking needs an encoder of single frames, {encoder.name} is one of {encoder.modality}s")
    objects = np.unique(np.append(mask, 0))  # sorted: the background is the first label
    device = next(encoder.parameters()).device
    size = mask.shape
    seen = resized(size, short_side)
    # One pass tells the grid; the first frame's labels are needed before propagation can start.
    pictures = iter(frames)
    opening = next(pictures)
    if opening.shape[:2] != size:
        raise ValueError(f"the mask is {size}, the frames are {opening.shape[:2]}")
    grid = encode(opening, encoder, seen, prepare, device)
    first = torch.from_numpy(cell_labels(mask, objects, encoder, tuple(grid.shape[:2]), seen)).to(device)
    placement = Placement(
        (grid.shape[0], grid.shape[1]),
        offset=encoder.grid_offset,
        stride=encoder.grid_stride,
        seen=seen,
        shown=(size[0], size[1]),
    )

    def features() -> Iterator[Tensor]:
        yield grid
        for picture in pictures:
            yield encode(picture, encoder, seen, prepare, device)

    for number, labels in enumerate(propagate(features(), first, settings)):
        yield mask.astype(np.uint8) if number == 0 else full_size(labels, objects, placement)


@torch.inference_mode()
def encode(picture: Picture, encoder: Encoder, seen: tuple[int, int], prepare: Prepare | None, device: torch.device) -> Tensor:
    """The encoder's grid (h, w, D) of one picture, resized to `seen`."""
    if picture.shape[:2] != seen:
        picture = np.asarray(cv2.resize(picture, seen[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    x = torch.from_numpy(np.ascontiguousarray(picture)).to(device).permute(2, 0, 1)[None, None]
    return encoder(x if prepare is None else prepare(x)).grid[0, 0]


def resized(size: tuple[int, ...], short_side: int | None) -> tuple[int, int]:
    """(height, width) with `short_side`, the proportions kept."""
    if short_side is None:
        return size[0], size[1]
    factor = short_side / min(size)
    return round(size[0] * factor), round(size[1] * factor)


def cell_labels(
    mask: Mask, objects: NDArray[np.uint8], encoder: Encoder, grid: tuple[int, ...], seen: tuple[int, int]
) -> NDArray[np.float32]:
    """Share of each object in each cell of the encoder's grid, (L, h, w): the mean over the square of one stride around the cell's own centre."""
    rows, columns = (encoder.grid_offset + encoder.grid_stride * np.arange(extent, dtype=np.float32) for extent in grid)
    x, y = np.meshgrid(columns, rows)
    side = max(1, round(encoder.grid_stride))
    shares = []
    for number in objects:
        one = cv2.resize((mask == number).astype(np.float32), seen[::-1], interpolation=cv2.INTER_AREA)
        # An even box has no middle pixel: OpenCV's anchor lies half a pixel after it.
        mean = cv2.blur(one, (side, side), borderType=cv2.BORDER_REPLICATE)
        shift = np.float32(0.0 if side % 2 else 0.5)
        shares.append(cv2.remap(mean, x + shift, y + shift, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    labels = np.stack(shares)
    return (labels / labels.sum(axis=0, keepdims=True)).astype(np.float32)


def full_size(labels: Tensor, objects: NDArray[np.uint8], placement: Placement) -> Mask:
    """The most probable object of each pixel, (H, W), from shares in cells (L, h, w)."""
    values = labels.float().cpu().numpy()
    return objects[np.stack([placement(value) for value in values]).argmax(axis=0)].astype(np.uint8)
