"""Who is measured on a tracking benchmark: a trained encoder, beside what costs nothing and beside itself before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mmssl.downstream.cells import Mask, Points
from mmssl.downstream.follow import Picture, Sight, track, track_points
from mmssl.downstream.propagate import Propagation
from mmssl.downstream.tracking_baselines import drift, drift_points, stay, stay_points

SQUEEZED = (320, 320)  # pixels to which the published evaluations on JHMDB bring every frame


@dataclass(frozen=True, slots=True)
class Tracker:
    """One row of a table: follows masks or points through frames, the first of which they are given for."""

    name: str
    masks: Callable[[Iterator[Picture], Mask], Iterator[Mask]]
    points: Callable[[Iterator[Picture], Points], Iterator[Points]]  # NaN where one is lost


BASELINES = (Tracker("identity", stay, stay_points), Tracker("optical flow (DIS)", drift, drift_points))


def by_features(name: str, sight: Sight, settings: Propagation, *, short_side: int | None = None) -> Tracker:
    """A tracker by label propagation. `short_side` is for masks; for points, frames are squeezed to `SQUEEZED` and read off as published."""

    def masks(frames: Iterator[Picture], mask: Mask) -> Iterator[Mask]:
        return track(frames, mask, sight.encoder, settings=settings, prepare=sight.prepare, short_side=short_side)

    def points(frames: Iterator[Picture], given: Points) -> Iterator[Points]:
        found = track_points(
            frames, given, sight.encoder, settings=settings, prepare=sight.prepare, seen=SQUEEZED, rule="strongest"
        )
        return (now for now, _ in found)

    return Tracker(name, masks, points)
