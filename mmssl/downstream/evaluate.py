"""Held-out figures of a run, each with a 95 % interval over sources and with what chance or a deaf baseline scores.

Correspondence: does the sound belong to the picture? Own sound against every other source's sound, balanced; each source is judged by a
threshold fitted on others (`crossfit`), and once more by one fitted on training sources. Retrieval: find the own sound among 100, and the
own picture. Localization, where the truth is known (the toy world): pointing game and IoU, beside the centre, motion energy, and the
model's own map under a wrong sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.calibration import Calibration, fit_calibration, fit_threshold
from mmssl.downstream.crossfit import FEWEST as FEWEST_TO_CROSS
from mmssl.downstream.crossfit import cross_thresholds
from mmssl.downstream.cuts import Cuts, accepted, cut_sources
from mmssl.downstream.galleries import both_ways, entry_of, over_takes
from mmssl.downstream.metrics.intervals import proportion
from mmssl.downstream.pairing import Pairing
from mmssl.downstream.sounding import known_truths, score_maps
from mmssl.types import Features, InputError, Source

FIT = 200  # training sources on which a threshold is fitted
FEWEST = 100  # cuts; corpora with fewer sources give several of each

Scores = NDArray[np.float32]


def evaluate(
    pairings: Sequence[Pairing],
    held_out: Sequence[Source],
    training: Sequence[Source],
    *,
    seed: int,
    clips: int = 300,
    on_source: Callable[[], None] = lambda: None,
    on_plan: Callable[[int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluate objectives on held-out sources -> name -> figures, plain values ready for JSON.

    Args:
        pairings: objectives of one run, distinct names.
        held_out: sources never trained on.
        training: sources on which a threshold is fitted too, and the scale of heat where few are held out.
        seed: of the run; the same seed gives the same cuts, draws and intervals.
        clips: held-out sources used, at most.
        on_source: called after each decoded file; `on_plan` is told before how many there will be.

    Raises:
        InputError: fewer than two usable sources on either side: there would be no wrong sound.
    """
    views = list(dict.fromkeys(pairing.views for pairing in pairings))
    test = accepted(held_out, views, clips, seed=seed, name="held out")
    fit = accepted(training, views, FIT, seed=seed, name="training")
    for sources, what in ((test, "held-out"), (fit, "training")):
        if len(sources) < 2:
            raise InputError(
                f"{len(sources)} {what} sources are usable, evaluation needs at least 2 (a wrong sound comes from another source)"
            )
    takes = min(8, max(1, -(-FEWEST // len(test))))
    if on_plan is not None:
        on_plan(len(fit) + takes * len(test))
    fitted = cut_sources(fit, views, seed=seed, on_source=on_source)
    tested = [cut_sources(test, views, seed=seed, take=take, motion=take == 0, on_source=on_source) for take in range(takes)]
    found: dict[str, dict[str, Any]] = {}
    for pairing in pairings:
        number = views.index(pairing.views)
        found[pairing.name] = _figures(pairing, fitted[number], [cuts[number] for cuts in tested], seed)
    return found


def _figures(pairing: Pairing, fit: Cuts, takes: Sequence[Cuts], seed: int) -> dict[str, Any]:
    _, _, fit_scores = _scores(pairing, fit)
    trained = _best_threshold(fit_scores)
    synced: list[NDArray[np.float64]] = []
    maps: dict[str, Any] = {}
    pairs: list[Scores] = []
    for number, cuts in enumerate(takes):
        video, audio, scores = _scores(pairing, cuts)
        pairs.append(scores)
        if f"{pairing.shape.audio}_shifted" in cuts.tensors:
            synced.append(_sync(pairing, cuts, video, scores))
        if number == 0 and pairing.localizes:
            maps = _localization(pairing, cuts, video, audio)
    cuts = takes[0]
    by_training = [pair_accuracy(scores, trained) for scores in pairs]
    enough = len(cuts) >= FEWEST_TO_CROSS
    names = [[source.id for source in take.sources] for take in takes]
    judged = [pair_accuracy(*each) for each in zip(pairs, cross_thresholds(pairs, names), strict=True)] if enough else by_training
    scale = _calibrate(pairing, cuts, pairs[0]) if enough else _calibrate(pairing, fit, fit_scores)
    figures: dict[str, Any] = {
        "sources": len(cuts),
        "cuts_of_each": len(takes),
        "failed": dict(cuts.failed),
        "accuracy": entry_of(over_takes(judged), chance=0.5),
        "accuracy_training_threshold": entry_of(over_takes(by_training), chance=0.5),
        "retrieval": both_ways(pairs, "video", "audio", seed=seed),
        "calibration": scale.to_json() if scale else None,
    }
    if synced:
        figures["synchronisation"] = entry_of(over_takes(synced), chance=0.5)
    return figures | maps


def pair_accuracy(scores: Scores, threshold: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Balanced accuracy of "own or wrong sound", one value for each source, (N,).

    Half own pair (score >= threshold), half the mean over all wrong pairs in which the source's picture or sound takes part. All
    N (N - 1) wrong pairs serve, which narrows the interval; it is taken over sources, because pairs of a source are not independent.
    `threshold` is one for all, or (N,), that of each source.
    """
    limit = np.broadcast_to(np.asarray(threshold), len(scores))
    own = np.diagonal(scores) >= limit
    wrong_sounds, wrong_pictures = scores < limit[:, None], scores < limit[None, :]
    np.fill_diagonal(wrong_sounds, False)
    np.fill_diagonal(wrong_pictures, False)
    others = (wrong_sounds.sum(axis=1) + wrong_pictures.sum(axis=0)) / (2 * (len(scores) - 1))
    return (own + others) / 2


def _scores(pairing: Pairing, cuts: Cuts) -> tuple[Features, Features, Scores]:
    video = pairing.encode(pairing.shape.video, cuts.tensors[pairing.shape.video])
    audio = pairing.encode(pairing.shape.audio, cuts.tensors[pairing.shape.audio])
    scores = pairing.scores(video, audio)
    if not np.isfinite(scores).all():
        raise InputError(
            f"objective {pairing.name} gives scores that are not finite; the run has diverged, take an earlier --step"
        )
    return video, audio, scores


def _best_threshold(scores: Scores) -> float:
    return fit_threshold(np.diagonal(scores), scores[~np.eye(len(scores), dtype=bool)])


def _calibrate(pairing: Pairing, fit: Cuts, scores: Scores) -> Calibration | None:
    """As `localize` looks: a frame encoder sees one picture at a time there, and a score over fewer cells is lower."""
    if not pairing.localizes:
        return None
    pictures = fit.tensors[pairing.shape.video]
    if pairing.modality == "frame" and pictures.shape[1] > 1:
        middle = pictures.shape[1] // 2
        pictures = pictures[:, middle : middle + 1]
    video = pairing.encode(pairing.shape.video, pictures)
    audio = pairing.encode(pairing.shape.audio, fit.tensors[pairing.shape.audio])
    scores = pairing.scores(video, audio)
    own, *others = (
        pairing.maps(video, _rolled(audio, step)).mean(axis=1).reshape(len(scores), -1) for step in (0, 1, len(scores) // 2)
    )
    wrong = scores[~np.eye(len(scores), dtype=bool)]
    return fit_calibration(np.diagonal(scores), wrong, own.max(axis=1), np.concatenate(others))


def _sync(pairing: Pairing, cuts: Cuts, video: Features, scores: Scores) -> NDArray[np.float64]:
    """Is the true sound nearer than the shifted one of the same file? 1, 0, or 0.5 where they tie, (N,)."""
    shifted = pairing.encode(pairing.shape.audio, cuts.tensors[f"{pairing.shape.audio}_shifted"])
    own, other = np.diagonal(scores), np.diagonal(pairing.scores(video, shifted))
    return (own > other) + 0.5 * (own == other)


def _localization(pairing: Pairing, cuts: Cuts, video: Features, audio: Features) -> dict[str, Any]:
    truths = known_truths(cuts, pairing.shape)
    if not truths:
        return {}
    own, wrong = (pairing.maps(video, sound) for sound in (audio, _rolled(audio, 1)))
    encoder = pairing.encoders[pairing.shape.video]
    values = score_maps(cuts, truths, own, wrong, pairing.shape, offset=encoder.grid_offset, stride=encoder.grid_stride)
    entries: dict[str, Any] = {}
    for name, by_map in values.items():
        entries[name] = {which: entry_of(proportion(found)) for which, found in by_map.items() if len(found)}
    return {"localization": entries}


def _rolled(features: Features, step: int) -> Features:
    return features.each(lambda part: part.roll(step, 0))
