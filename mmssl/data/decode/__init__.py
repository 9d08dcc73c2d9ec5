"""One function between files and tensors: `answer`.

The clock is that of `mmssl.data.container`. Rules, the same for every backend as far as it can follow them:

- The frame at `t` is the last one stamped at or before `t` (plus at most half a millisecond, see `container.rounding`). Before the first
  frame it is the first frame. More than 0.1 s past the end of the last frame: `MediaError`.
- A window of sound begins with the source's sample nearest to `start`. Before the sound begins it is silent. More than 0.05 s
  past its end: `MediaError`. Mono is the mean of the channels.
- Rotation metadata and pixel aspect ratio are applied; colours are what ffmpeg gives.
- Flow is that between the pictures shown at `t` and `t + step`, under the rules for pictures (`mmssl.data.flow`).
- Where the source names stored flow of the request's method and step, flow is read there (`mmssl.data.stored_flow`).
- Damage where something was asked for is a `MediaError`, never a stand-in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from mmssl.data.shards import find_member
from mmssl.data.tokens import check_text, token_ids
from mmssl.types import Backend, Flow, Frames, InputError, Request, Source, StoredFlow, Text, Wave

MAX_RATE = 384_000
MAX_SIDE = 8192


def answer(source: Source, requests: Iterable[Request], *, backend: Backend = "pyav") -> dict[Request, Tensor]:
    """Open a file once and answer all requests to it. `Text` requests alone open none.

    Args:
        source: only its `path` and `flow` are used; what else the index believes of it is not trusted.
        requests: `Frames` -> uint8 (T, 3, height, width) in channels-last memory order; `Wave` -> float32 (round(rate * seconds),) in
            [-1, 1]; `Text` -> int64 (P, length); `Flow` -> float16 (T, 2, height, width). Equal requests are answered once.
        backend: "pyav" (default), "decord" or "torchcodec"; see their modules for what they get wrong.

    Raises:
        MediaError: the file cannot give what was asked of it.
        InputError: a request makes no sense, or the backend is unknown, not installed, or cannot read films in shards.
    """
    distinct = list(dict.fromkeys(requests))
    for request in distinct:
        check(request)
    answers: dict[Request, Tensor] = {request: token_ids(request) for request in distinct if isinstance(request, Text)}
    if len(answers) == len(distinct):
        return answers
    frames = [request for request in distinct if isinstance(request, Frames)]
    waves = [request for request in distinct if isinstance(request, Wave)]
    flows = [request for request in distinct if isinstance(request, Flow)]
    answers |= _stored(source.flow, flows)
    needed = _pictures([flow for flow in flows if flow not in answers])
    frames = list(dict.fromkeys([*frames, *needed.values()]))
    if frames or waves:
        answers |= _reader(backend, source.path)(source.path, frames, waves)
    answers |= _fields(needed, answers)
    return {request: answers[request] for request in distinct}


def check(request: Request) -> None:
    """Raise `InputError` for a request that no file could answer."""
    if isinstance(request, Text):
        check_text(request)
        return
    if isinstance(request, Wave):
        if not (math.isfinite(request.start) and math.isfinite(request.seconds) and request.seconds > 0):
            raise InputError(f"{request}: a window needs a finite start and a length above 0 s")
        if not 0 < request.rate <= MAX_RATE or round(request.rate * request.seconds) < 1:
            raise InputError(f"{request}: the rate must be 1 to {MAX_RATE} samples a second, and the window at least one sample")
        return
    size = (request.size, request.size) if isinstance(request.size, int) else request.size
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise InputError(f"{request}: the size must be 1 to {MAX_SIDE} pixels")
    if not request.times or not all(math.isfinite(time) for time in request.times):
        raise InputError(f"{request}: frames need at least one time, all of them finite")
    if isinstance(request, Flow):
        if not (math.isfinite(request.step) and request.step > 0):
            raise InputError(f"{request}: the step must be finite and above 0 s")
        from mmssl.data.flow import check_method

        check_method(request.method)
    box = request.box
    if box is not None and not (
        box.width > 0
        and box.height > 0
        and min(box.left, box.top) >= -1e-6
        and max(box.left + box.width, box.top + box.height) <= 1 + 1e-6
    ):
        raise InputError(f"{request}: the box must lie within the picture (0 to 1) and have an area")


def _stored(stored: StoredFlow | None, flows: list[Flow]) -> dict[Request, Tensor]:
    """Answers to those flow requests that stored flow serves."""
    if stored is None or not flows:
        return {}
    from mmssl.data.stored_flow import answer_stored, serves

    return {flow: answer_stored(stored, flow) for flow in flows if serves(stored, flow)}


def _pictures(flows: list[Flow]) -> dict[Flow, Frames]:
    """The pictures that each flow is estimated from, asked of the same opening of the file."""
    if not flows:
        return {}
    from mmssl.data.flow import pictures_for  # torchvision's networks take a second to import

    return {flow: pictures_for(flow).request for flow in flows}


def _fields(needed: dict[Flow, Frames], answers: dict[Request, Tensor]) -> dict[Request, Tensor]:
    if not needed:
        return {}
    from mmssl.data.flow import answer_flow

    return {flow: answer_flow(flow, answers[pictures]) for flow, pictures in needed.items()}


def _reader(name: str, path: Path) -> Callable[[Path, list[Frames], list[Wave]], dict[Request, Tensor]]:
    """What a backend reads a file with."""
    if name == "pyav":
        from mmssl.data.decode.pyav import read
    elif name == "decord":
        from mmssl.data.decode.decord_backend import read
    elif name == "torchcodec":
        from mmssl.data.decode.torchcodec_backend import read
    else:
        raise InputError(f"there is no decoding backend {name!r}; known: pyav, decord, torchcodec")
    if name != "pyav" and find_member(path) is not None:
        raise InputError(
            f"{path} lies in a shard, which only backend pyav reads, not {name}; take that one, or prepare into files"
        )
    return read
