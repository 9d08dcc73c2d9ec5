"""Optical flow: where each pixel of a picture has gone a moment later.

"dis": Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016, arXiv:1603.03590, as OpenCV has it: no weights,
a few milliseconds a picture. "raft" and "raft_small": Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020,
arXiv:2003.12039, as torchvision has it, with weights that must be at hand: nothing here goes online by itself.

A `Flow` request becomes one `Frames` request (`pictures_for`), which is answered in the same opening of the file as everything else, and the
pictures become fields (`answer_flow`). Rotation, pixel aspect and boxes are therefore those of pictures. So are the ends: the flow at
`t` is that between the pictures shown at `t` and at `t + step`; where the same picture is shown at both (a step shorter than a frame lasts) it
is zero; where `t + step` lies more than 0.1 s past the last picture it is a `MediaError`, not a guess from the past. Views leave room for the step.

H rows and W columns of a picture, K its enlargement, T moments.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - only for the class of error that a broken file raises; loading is weights_only
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models import WeightsEnum
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights, raft_large, raft_small

from mmssl.data.one_thread import one_thread
from mmssl.types import Flow, Frames, InputError

Method = Literal["dis", "raft", "raft_small"]
METHODS: tuple[Method, ...] = ("dis", "raft", "raft_small")
# Pixels of the short side: smaller outputs are estimated on pictures at least so large, and below `FINE_SIDE` at least twice their size, and
# averaged. DIS ends its search at half the size and loses small things there (docs/results/flow.md: what each size costs and gives).
WORKING_SIDE, FINE_SIDE = 128, 256
SAME = 1e-6  # seconds within which two moments are one
RAFT_SIDE, RAFT_MULTIPLE = 128, 8  # what the network takes: at least, and a multiple of
DIS_SIDE = 16  # pixels below which DIS has no scale to begin at


class Pictures(NamedTuple):
    """The pictures that a `Flow` request needs, and which of them are its first and second ones."""

    request: Frames
    first: tuple[int, ...]  # (T,) places in `request.times`
    second: tuple[int, ...]


def check_method(method: str) -> None:
    """Raise `InputError` where a method is not known, or its weights are not at hand."""
    if method not in METHODS:
        raise InputError(f"there is no optical flow {method!r}; known: {', '.join(METHODS)}")
    if method == "dis":
        return
    place = weights_file(method)
    if not place.is_file():
        raise InputError(
            f"the weights of {method} are not at hand: there is no file {place}; put it there, or go online once with "
            f"`python -c \"from mmssl.data.flow import fetch_raft; fetch_raft('{method}')\"`, or take method dis, which needs none"
        )


def weights_file(method: str) -> Path:
    """Where torch's hub cache (`$TORCH_HOME`) keeps a RAFT's weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _published(method).url.rpartition("/")[2]


def fetch_raft(method: str = "raft") -> Path:
    """Download a RAFT's weights into torch's hub cache and return the file. The only function here that goes online.

    Raises `InputError` where they cannot be had.
    """
    if method not in ("raft", "raft_small"):
        raise InputError(f"{method!r} has no weights to fetch; raft and raft_small have")
    try:
        _published(method).get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the weights of {method} cannot be fetched ({error}); fetch them elsewhere into {weights_file(method)}"
        ) from error
    return weights_file(method)


def pictures_for(flow: Flow) -> Pictures:
    """One request for all pictures of a flow request, each moment once, enlarged where the output is small."""
    height, width = (flow.size, flow.size) if isinstance(flow.size, int) else flow.size
    k = enlargement(height, width)
    moments = np.array([*flow.times, *(time + flow.step for time in flow.times)])
    order = np.argsort(moments, kind="stable")
    fresh = np.diff(moments[order], prepend=-np.inf) > SAME
    place = np.empty(len(moments), dtype=np.int64)
    place[order] = np.cumsum(fresh) - 1
    times = tuple(moments[order][fresh].tolist())
    first, second = place[: len(flow.times)].tolist(), place[len(flow.times) :].tolist()
    return Pictures(Frames(times, (k * height, k * width), flow.box), tuple(first), tuple(second))


def enlargement(height: int, width: int) -> int:
    """K, a power of two: on pictures so many times the output's size is its flow estimated."""
    k = 1
    side = min(height, width)
    while k < 8 and (k * side < WORKING_SIDE or (k == 1 and side < FINE_SIDE)):
        k *= 2
    return k


def answer_flow(flow: Flow, pictures: Tensor) -> Tensor:
    """float16 (T, 2, H, W) from the answer to `pictures_for(flow).request`, uint8 (M, 3, K H, K W)."""
    needed = pictures_for(flow)
    height, width = (flow.size, flow.size) if isinstance(flow.size, int) else flow.size
    frames = pictures.permute(0, 2, 3, 1).numpy()
    pairs = [(frames[one], frames[other]) for one, other in zip(needed.first, needed.second, strict=True)]
    fields = estimate(pairs, flow.method)
    out = np.empty((len(fields), height, width, 2), np.float32)
    for place, field in enumerate(fields):
        out[place] = shrink(field, height, width)
    return torch.from_numpy(out).permute(0, 3, 1, 2).to(torch.float16, memory_format=torch.contiguous_format)


def shrink(field: np.ndarray, height: int, width: int) -> np.ndarray:
    """A field (K H, K W, 2) in its own pixels -> (H, W, 2) in pixels of the smaller size: the mean over each K x K block."""
    tall, wide = field.shape[:2]
    if (tall, wide) == (height, width):
        return field
    small = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
    return small * np.array([width / wide, height / tall], np.float32)


def estimate(pairs: Sequence[tuple[np.ndarray, np.ndarray]], method: str = "dis") -> list[np.ndarray]:
    """Flow from the first to the second picture of each pair.

    Args:
        pairs: uint8 (H, W, 3) RGB, both of one size.
        method: one of `METHODS`.

    Returns:
        float32 (H, W, 2) each: pixels to the right, pixels down.

    Raises:
        InputError: an unknown method, or one whose weights are not at hand.
    """
    check_method(method)
    still = [np.array_equal(one, other) for one, other in pairs]
    moving = [pair for pair, same in zip(pairs, still, strict=True) if not same]
    found = iter(_dis(moving) if method == "dis" else _raft(moving, method))
    # Of one picture with itself both methods give a little noise on flat ground; nothing has moved.
    return [
        np.zeros((*one.shape[:2], 2), np.float32) if same else next(found) for (one, _), same in zip(pairs, still, strict=True)
    ]


def _dis(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    with one_thread():  # DIS cuts the picture into as many stripes as there are threads, and its result depends on them
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return [_dis_one(search, one, other) for one, other in pairs]


def _dis_one(search: cv2.DISOpticalFlow, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    height, width = one.shape[:2]
    before, after = (cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (one, other))
    down, along = max(0, DIS_SIDE - height), max(0, DIS_SIDE - width)
    if down or along:  # a tiny picture is given edges: DIS refuses it otherwise
        before, after = (cv2.copyMakeBorder(grey, 0, down, 0, along, cv2.BORDER_REPLICATE) for grey in (before, after))
    field = search.calc(before, after, np.zeros((*before.shape, 2), np.float32))
    return np.asarray(field[:height, :width], np.float32)


def _raft(pairs: Sequence[tuple[np.ndarray, np.ndarray]], method: str) -> list[np.ndarray]:
    network = _network(method, weights_file(method).stat().st_mtime_ns)
    return [_raft_one(network, one, other) for one, other in pairs]


@torch.inference_mode()
def _raft_one(network: torch.nn.Module, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    height, width = one.shape[:2]
    tall, wide = (max(RAFT_SIDE, -(-side // RAFT_MULTIPLE) * RAFT_MULTIPLE) for side in (height, width))
    planes = torch.stack([torch.from_numpy(np.ascontiguousarray(picture)) for picture in (one, other)]).permute(0, 3, 1, 2)
    planes = functional.interpolate(planes.float() / 127.5 - 1.0, (tall, wide), mode="bilinear", align_corners=False)
    field = network(planes[:1], planes[1:])[-1][0].permute(1, 2, 0).numpy()  # the last of its refinements
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR) * np.array(
        [width / wide, height / tall], np.float32
    )


@lru_cache(maxsize=2)
def _network(method: str, stamp: int) -> torch.nn.Module:
    """The network with its weights; `stamp` tells a file that was replaced."""
    del stamp
    make = raft_large if method == "raft" else raft_small
    network = make(weights=None)
    try:
        network.load_state_dict(_published(method).get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{weights_file(method)} does not hold the weights of {method} ({error}); remove it and fetch it again"
        ) from error
    return network.eval()


def _published(method: str) -> WeightsEnum:
    return Raft_Large_Weights.DEFAULT if method == "raft" else Raft_Small_Weights.DEFAULT
