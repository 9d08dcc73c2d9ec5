"""What tracking costs nothing to reach: masks and points stay where they are, or go where optical flow takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.cells import Mask, Points
from mmssl.downstream.follow import Picture


def stay(frames: Iterable[Picture], mask: Mask) -> Iterator[Mask]:
    """The first frame's mask (H, W) for every frame."""
    for _ in frames:
        yield mask.copy()


def drift(frames: Iterable[Picture], mask: Mask) -> Iterator[Mask]:
    """The mask carried from frame to frame by dense optical flow: Kroeger et al. (DIS), ECCV 2016, arXiv:1603.03590, as OpenCV has it.

    Each pixel asks where it was in the frame before (backward flow), so that no holes open. Each object is carried as a share, mixed bilinearly, and the
    largest share wins; errors add up, nothing ever looks back at the first frame.

    Yields:
        (H, W) uint8 for each frame, the first one as given.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    objects = np.unique(np.append(mask, 0))
    shares = [(mask == number).astype(np.float32) for number in objects]
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    before: NDArray[np.uint8] | None = None
    for picture in frames:
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if before is None:
            before = grey
            yield mask.copy()
            continue
        flow = search.calc(grey, before, None)  # type: ignore[call-overload]  # None asks for a new array; the stubs want one
        shares = [
            np.asarray(
                cv2.remap(share, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
                dtype=np.float32,
            )
            for share in shares
        ]
        before = grey
        yield objects[np.stack(shares).argmax(axis=0)].astype(np.uint8)


def stay_points(frames: Iterable[Picture], points: Points) -> Iterator[Points]:
    """The first frame's points (K, 2) for every frame."""
    for _ in frames:
        yield points.copy()


def drift_points(frames: Iterable[Picture], points: Points) -> Iterator[Points]:
    """Points (K, 2) carried from frame to frame by the same flow, forwards: each goes by the flow where it is, mixed bilinearly.

    Outside of the picture the flow of its border counts; what is nowhere (NaN) stays there.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before: NDArray[np.uint8] | None = None
    now = points.copy()
    for picture in frames:
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if before is not None:
            flow = search.calc(before, grey, None)  # type: ignore[call-overload]  # None asks for a new array; the stubs want one
            x, y = (np.nan_to_num(column).astype(np.float32)[:, None] for column in now.T)
            now = now + cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        before = grey
        yield now.copy()
