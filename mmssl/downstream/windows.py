"""Windows over time, evenly apart."""

from __future__ import annotations

from mmssl.types import Span


def windows(span: Span, *, seconds: float, stride: float) -> list[Span]:
    """Windows of `seconds`, `stride` apart, inside the span of one modality; a shorter span gives one window that fills it.

    Starts are whole multiples of `stride` after the span's start, so that windows of the same source line up between modalities
    where the streams begin together.
    """
    if span.seconds <= 0:
        return []
    if span.seconds < seconds:
        return [span]
    count = int((span.seconds - seconds) / stride + 1e-6) + 1
    return [Span(span.start + k * stride, span.start + k * stride + seconds) for k in range(count)]
