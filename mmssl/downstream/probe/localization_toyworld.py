"""Sound localization on a toy world, against exact masks: places, and whether anything in view sounds at all.

One moment of each clip that the objective's views accept, cut as in `mmssl.downstream.evaluate`. Places: pointing game and IoU with the mask of
what is struck in the window of sound. Detection: each of these pictures once more, with the sound of another clip in whose window nothing
rings that this picture shows; a place is right where the map's maximum lies on the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.data.toyworld import Truth, load_truth
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.cuts import Cuts, accepted, cut_sources
from mmssl.downstream.galleries import entry_of
from mmssl.downstream.metrics.baselines import object_prior_map
from mmssl.downstream.metrics.intervals import proportion
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.probe.localization import detection
from mmssl.downstream.sounding import known_truths, score_maps
from mmssl.types import Features, InputError, Source, Wave

CHUNK = 128  # clips in memory at a time


def probe_toyworld(
    pairing: Pairing,
    sources: Sequence[Source],
    *,
    seed: int,
    allow_missing: bool = False,
    calibration: Calibration | None = None,
    on_source: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures on the clips of a toy world, plain values ready for JSON.

    Args:
        pairing: an objective that localizes.
        sources: all clips of the world.
        seed: of the cuts.
        allow_missing: go without clips that cannot be read or whose truth is lost.
        calibration: of the run; with it the model's claims are judged, too.
        on_source: called after each clip.

    Raises:
        InputError: there is no truth, or clips are missing and that is not allowed.
    """
    lost = {source.id: "no ground truth beside it" for source in sources if load_truth(source.path) is None}
    if len(lost) == len(sources):
        raise InputError(
            f"none of the {len(sources)} films has a ground truth beside it; give a folder that `mmssl toyworld` made"
        )
    known = [source for source in sources if source.id not in lost]
    usable = accepted(known, [pairing.views], len(known), seed=seed, name="toy world")
    places: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    pairs: list[tuple[float, float, float]] = []  # hit, confidence, whether there is a source
    for first in range(0, len(usable), CHUNK):
        cuts = cut_sources(usable[first : first + CHUNK], [pairing.views], seed=seed, motion=True, on_source=on_source)[0]
        lost |= cuts.failed
        if len(cuts) > 1:
            pairs += _chunk(pairing, cuts, places)
    if lost and not allow_missing:
        name, why = next(iter(lost.items()))
        raise InputError(
            f"{len(lost)} of {len(sources)} clips are missing, such as {name}: {why}; --allow-missing evaluates the others, and says so"
        )
    if not pairs:
        raise InputError(
            f"in none of the {len(usable)} clips with sound is anything struck that is seen: there is no place to find"
        )
    rows = np.array(pairs)
    there = rows[:, 2] > 0
    figures: dict[str, Any] = {
        "data": f"toy world{'' if not lost else f', {len(sources) - len(lost)} of {len(sources)} clips'}",
        "complete": not lost,
        "clips": len(sources),
        "with_sound": len(usable),
        "with_source": int(there.sum()),
        "missing": lost,
        "localization": {
            name: {which: entry_of(proportion(np.concatenate(values))) for which, values in by_map.items()}
            for name, by_map in places.items()
        },
    }
    if (~there).any():
        figures["detection"] = detection(rows[:, 0], rows[:, 1], there)
        if calibration is not None:
            claimed = rows[:, 1] >= calibration.threshold
            figures["claims"] = {
                "in_view_when_it_is": entry_of(proportion(claimed[there].astype(float))),
                "not_in_view_when_it_is_not": entry_of(proportion((~claimed[~there]).astype(float))),
            }
    return figures


def _chunk(
    pairing: Pairing, cuts: Cuts, places: dict[str, dict[str, list[NDArray[np.float64]]]]
) -> list[tuple[float, float, float]]:
    """Add the places of some clips; (hit, confidence, whether there is a source) of their own and of foreign sounds."""
    shape, encoder = pairing.shape, pairing.encoders[pairing.shape.video]
    truths = known_truths(cuts, shape)
    if not truths:
        return []
    pictures = cuts.tensors[shape.video]
    video = scored = pairing.encode(shape.video, pictures)
    if pairing.modality == "frame":  # one picture, as `localize` looks and as the run's threshold is measured
        middle = shape.frames // 2
        scored = pairing.encode(shape.video, pictures[:, middle : middle + 1])
    audio = pairing.encode(shape.audio, cuts.tensors[shape.audio])
    own, wrong = pairing.maps(video, audio), pairing.maps(video, _rolled(audio))
    prior = object_prior_map(video.grid.numpy())
    found = score_maps(cuts, truths, own, wrong, shape, offset=encoder.grid_offset, stride=encoder.grid_stride, prior=prior)
    for name, by_map in found.items():
        for which, values in by_map.items():
            places.setdefault(name, {}).setdefault(which, []).append(values)
    scores, rows = pairing.scores(scored, audio), sorted(truths)
    pairs = [(float(hit), float(scores[row, row]), 1.0) for row, hit in zip(rows, found["pointing"]["model"], strict=True)]
    known = [load_truth(source.path) for source in cuts.sources]
    for row in rows:
        other = foreign_sound([truth for truth in known if truth is not None], cuts, row, shape.audio)
        if other is not None:
            pairs.append((0.0, float(scores[row, other]), 0.0))
    return pairs


def foreign_sound(truths: Sequence[Truth], cuts: Cuts, row: int, role: str) -> int | None:
    """The next row in whose window of sound something rings, but nothing that the clip of `row` shows; None where there is none."""
    shown = truths[row].materials
    for step in range(1, len(cuts)):
        other = (row + step) % len(cuts)
        wave = cuts.plans[other].requests[role]
        assert isinstance(wave, Wave)
        ringing = {s.material for s in truths[other].sounds if wave.start <= s.time < wave.start + wave.seconds}
        if ringing and not ringing & set(shown):
            return other
    return None


def _rolled(features: Features) -> Features:
    return features.each(lambda part: part.roll(1, 0))
