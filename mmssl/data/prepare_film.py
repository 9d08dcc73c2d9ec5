"""What `mmssl prepare` does with one film, in a worker (`mmssl.data.probe_pool`): re-encode it, then compute its flow; or only what of this is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmssl.data.reencode import FULL, reencode
from mmssl.files import full_disk
from mmssl.types import InputError, MediaError


def prepare_film(path: str, target: str, film: dict[str, Any] | None, flow: dict[str, Any] | None) -> dict[str, Any]:
    """Make `target`, and a file of stored flow beside it. What is wrong with a film is a `reason`, never an exception.

    Args:
        path: the source's film.
        target: the film to make.
        film: further arguments of `reencode`; None: the film is there already.
        flow: "target", "step" and "method"; None: no flow is wanted.

    Returns:
        Facts of `reencode` where it was called, "reason" in any case; "flow": {"bytes", "fields"} or None where none was made.
    """
    facts: dict[str, Any] = {"reason": None} if film is None else reencode(path, target, **film)
    facts["flow"] = None
    if flow is None or facts["reason"] is not None:
        return facts
    from mmssl.data.stored_flow import store_flow

    try:
        fields = store_flow(Path(target), Path(flow["target"]), step=flow["step"], method=flow["method"])
    except (MediaError, InputError, OSError) as error:
        if full_disk(error):
            return {**facts, "reason": FULL}
        return {**facts, "reason": f"its flow cannot be computed: {str(error).removeprefix(f'{target}: ')}"}
    if fields:
        facts["flow"] = {"bytes": Path(flow["target"]).stat().st_size, "fields": fields}
    return facts
