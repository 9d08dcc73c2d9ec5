"""`mmssl bench audio`: a 2 s window of 16 kHz mono sound from a random place of a video file, and its log-mel spectrogram.

Contenders differ by a sample or so in where a window begins and by filter in how they resample, so equality is told as the correlation with
our window and the lag, in samples, at which it is highest.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmssl.bench.clips import Clip, made_clips, real_clips
from mmssl.bench.race import Field, Task
from mmssl.bench.result import Result, Settings, race_rows
from mmssl.bench.runner import Contender, Work
from mmssl.rng import Purpose, rng_for
from mmssl.types import Source, Wave

SECONDS, RATE = 2.0, 16_000
WINDOWS = 4  # in each repetition
BATCH, MELS, WINDOW, HOP = 16, 64, 0.025, 0.010
LAGS = 40  # samples looked at either way
OURS, DECORD, TORCHCODEC, WHOLE = "mmssl", "decord", "torchcodec", "whole track by PyAV"
OUR_MEL, TORCHAUDIO_MEL = "mmssl LogMel", "torchaudio MelSpectrogram"


class Window(NamedTuple):
    """One window to decode."""

    path: Path
    start: float


def run(settings: Settings) -> Result:
    """Race the readers of sound, then the spectrograms."""
    clips = made_clips(quick=settings.quick)[::2]  # the length of a GOP makes no difference to sound
    if settings.media is not None:
        clips += real_clips(settings.media, at_most=2 if settings.quick else 4)
    readers = [Contender(OURS, prepare_mmssl), Contender(DECORD, prepare_decord), Contender(TORCHCODEC, prepare_torchcodec)]
    readers.append(Contender(WHOLE, prepare_whole))
    tasks = [Task(clip.name.partition(" GOP")[0], _laps(clip, settings), WINDOWS) for clip in clips]
    with Field(readers, say=settings.say) as field:
        alike = {task.name: _compare(field.outputs(task.inputs[0])) for task in tasks}
        race = field.race(tasks, seed=settings.seed)
    rows = race_rows(race, [t.name for t in tasks], [c.name for c in readers], reference=OURS, task="file", unit="window")
    for row in rows:
        row["alike"] = alike[row["file"]].get(row["contender"], "")
    rows += _spectrograms(settings)
    about = (
        f"windows of {SECONDS:g} s at {RATE // 1000} kHz mono, {settings.reps} repetitions of {WINDOWS}, one thread; log-mel of batches of "
        f"{BATCH}. Ratios: time of the contender over mmssl's. alike: correlation with mmssl's window, and the best lag in samples."
    )
    return Result("audio", about, rows, notes=[f"{name}: {why}" for name, why in race.failed.items()])


def _laps(clip: Clip, settings: Settings) -> list[list[Window]]:
    rng = rng_for(settings.seed, Purpose.EVALUATE, "bench audio", clip.name)
    latest = max(0.2, clip.seconds - SECONDS - 0.2)
    return [[Window(clip.path, float(rng.uniform(0.1, latest))) for _ in range(WINDOWS)] for _ in range(settings.reps)]


def _compare(outputs: dict[str, list[np.ndarray]]) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, windows in outputs.items():
        found = [best_lag(ours, theirs) for ours, theirs in zip(outputs.get(OURS, []), windows, strict=False)]
        if found:
            told[name] = f"{min(value for _, value in found):.4f}, lag {'/'.join(str(lag) for lag, _ in found)}"
    return told


def best_lag(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    """The lag of `theirs` behind `ours` in samples at which they correlate best, and that correlation."""
    length = min(len(ours), len(theirs)) - 2 * LAGS
    middle = ours[LAGS : LAGS + length]
    found = {lag: float(np.corrcoef(middle, theirs[LAGS + lag : LAGS + lag + length])[0, 1]) for lag in range(-LAGS, LAGS + 1)}
    lag = max(found, key=lambda key: found[key])
    return lag, found[lag]


def _spectrograms(settings: Settings) -> list[dict[str, Any]]:
    rng = rng_for(settings.seed, Purpose.EVALUATE, "bench mel")
    inputs = [rng.uniform(-0.5, 0.5, (BATCH, round(SECONDS * RATE))).astype(np.float32) for _ in range(settings.reps)]
    contenders = [Contender(OUR_MEL, prepare_our_mel), Contender(TORCHAUDIO_MEL, prepare_torchaudio_mel)]
    name = f"log-mel, {MELS} bands"
    with Field(contenders, say=settings.say) as field:
        race = field.race([Task(name, inputs, BATCH)], seed=settings.seed)
    rows = race_rows(race, [name], [c.name for c in contenders], reference=OUR_MEL, task="file", unit="window")
    return [row | {"alike": ""} for row in rows]


def prepare_mmssl() -> Work:
    """`mmssl.data.decode.answer`."""
    from mmssl.data.decode import answer

    def work(windows: list[Window]) -> list[np.ndarray]:
        waves = [Wave(window.start, SECONDS, RATE) for window in windows]
        return [answer(Source("bench", window.path), [wave])[wave].numpy() for window, wave in zip(windows, waves, strict=True)]

    return work


def prepare_decord() -> Work:
    """decord's AudioReader, which reads the whole file."""
    import decord

    def work(windows: list[Window]) -> list[np.ndarray]:
        sounds = []
        for window in windows:
            track = decord.AudioReader(str(window.path), ctx=decord.cpu(0), sample_rate=RATE, mono=True)
            first = round(window.start * RATE)
            sounds.append(track[first : first + round(SECONDS * RATE)].asnumpy()[0])
        return sounds

    return work


def prepare_torchcodec() -> Work:
    """torchcodec's AudioDecoder."""
    decoders = importlib.import_module("torchcodec.decoders")  # an extra

    def work(windows: list[Window]) -> list[np.ndarray]:
        sounds = []
        for window in windows:
            track = decoders.AudioDecoder(str(window.path), sample_rate=RATE, num_channels=1)
            sounds.append(track.get_samples_played_in_range(window.start, window.start + SECONDS).data[0].numpy())
        return sounds

    return work


def prepare_whole() -> Work:
    """What is often written by hand: decode and resample the whole track, then cut."""
    import av

    def work(windows: list[Window]) -> list[np.ndarray]:
        sounds = []
        for window in windows:
            convert = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
            with av.open(str(window.path), "r") as container:
                pieces = [p.to_ndarray()[0] for frame in container.decode(audio=0) for p in convert.resample(frame)]
            first = round(window.start * RATE)
            sounds.append(np.concatenate(pieces)[first : first + round(SECONDS * RATE)])
        return sounds

    return work


def prepare_our_mel() -> Work:
    """`mmssl.nn.logmel.LogMel`, as the audio encoders use it."""
    import torch

    from mmssl.nn.logmel import LogMel

    transform = LogMel(rate=RATE, mels=MELS, window=WINDOW, hop=HOP)

    def work(batch: np.ndarray) -> None:
        with torch.inference_mode():
            transform(torch.from_numpy(batch))

    return work


def prepare_torchaudio_mel() -> Work:
    """torchaudio's transform with the same numbers."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    width, hop = round(WINDOW * RATE), round(HOP * RATE)
    transform = MelSpectrogram(RATE, n_fft=512, win_length=width, hop_length=hop, n_mels=MELS)

    def work(batch: np.ndarray) -> None:
        with torch.inference_mode():
            (transform(torch.from_numpy(batch)) + 1e-6).log()

    return work
