"""From sound events to a stereo track: modal synthesis, panning, noise at a stated level."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mmssl.data.toyworld.clip import Clip
from mmssl.data.toyworld.materials import MATERIALS, REFERENCE_RADIUS
from mmssl.rng import rng_for

_FLOOR = 1e-3  # a partial is cut where it has fallen by 60 dB
_NYQUIST_SHARE = 0.45  # partials above this share of the rate are left out, or they would alias
_PEAK = (0.35, 0.85)  # range of a clip's peak level, of full scale


def synthesise(clip: Clip) -> np.ndarray:
    """The sound of a clip -> float32 (2, samples) within [-1, 1]; all zeros where the clip is muted."""
    difficulty, scene = clip.difficulty, clip.heard
    track = np.zeros((2, difficulty.samples), np.float32)
    if scene.muted:
        return track
    for event in clip.sounds:
        _strike(
            track,
            event.time,
            event.pan,
            event.strength,
            strike_response(event.material, event.radius, difficulty.rate),
            difficulty.rate,
        )
    power = float(np.mean(track.astype(np.float64) ** 2))
    rng = rng_for(*scene.address, "noise")
    noise = _ambience(rng, difficulty.samples, difficulty.rate)
    # A scene may be without any impact in so short a clip: its noise then has the level that a typical one has.
    track += noise * np.float32(np.sqrt((power or 1e-3) * 10 ** (-difficulty.snr_db / 10)))
    track *= np.float32(rng.uniform(*_PEAK) / max(float(np.abs(track).max()), 1e-6))
    return track


@lru_cache(maxsize=64)
def strike_response(material: int, radius: float, rate: int) -> np.ndarray:
    """What one strike of a body sounds like -> float32 (samples,), peak 1; `radius` in pixels of a 128 px picture."""
    body = MATERIALS[material]
    base = body.base_hz * REFERENCE_RADIUS / radius
    modes = [mode for mode in body.modes if base * mode.ratio < _NYQUIST_SHARE * rate]
    length = int(rate * max(mode.decay for mode in modes) * -np.log(_FLOOR))
    seconds = np.arange(length, dtype=np.float32) / np.float32(rate)
    response = np.zeros(length, np.float32)
    for mode in modes:
        part = seconds[: int(rate * mode.decay * -np.log(_FLOOR))]
        response[: len(part)] += (
            np.float32(mode.gain)
            * np.sin(np.float32(2 * np.pi * base * mode.ratio) * part)
            * np.exp(part / np.float32(-mode.decay))
        )
    burst = np.exp(seconds / np.float32(-0.003)) * rng_for(material, "click").standard_normal(length, dtype=np.float32)
    response /= np.abs(response).max()
    response += np.float32(0.35 * body.click) * burst
    return response / np.abs(response).max()


def _strike(track: np.ndarray, time: float, pan: float, strength: float, response: np.ndarray, rate: int) -> None:
    start = round(time * rate)
    part = response[: max(0, track.shape[1] - start)]
    angle = (pan + 1) * np.pi / 4  # constant power from left (0) to right (pi / 2)
    for channel, gain in enumerate((np.cos(angle), np.sin(angle))):
        track[channel, start : start + len(part)] += np.float32(strength * gain) * part


def _ambience(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Coloured stereo noise of mean power 1, falling by a slope between white and 6 dB an octave -> float32 (2, samples)."""
    hertz = np.fft.rfftfreq(samples, 1 / rate)
    envelope = (1 + hertz / 60.0) ** -float(rng.uniform(0.0, 0.5) * 2)
    spectrum = rng.standard_normal((2, len(hertz), 2), dtype=np.float32).view(np.complex64)[..., 0] * envelope.astype(np.float32)
    spectrum[:, 0] = 0
    noise = np.fft.irfft(spectrum, samples).astype(np.float32)
    return noise / np.float32(np.sqrt(np.mean(noise.astype(np.float64) ** 2)))
