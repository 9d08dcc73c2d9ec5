"""Log-mel spectrograms on the device, in float32 whatever autocast says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

FLOOR = 1e-5  # added to mel power before the logarithm: about the power of white noise at -80 dBFS, so silence is flat, not -inf
MEAN, SCALE = (
    -4.0,
    4.0,
)  # silence becomes -1.88, a full-scale tone about 3.3; measured: toy world -0.17 +- 0.67, speech (GRID) 0.07 +- 1.08


class LogMel(nn.Module):
    """Waveform (N, S) in -1..1 -> (N, T, F): `(ln(mel power + FLOOR) - MEAN) / SCALE`.

    Power spectra of Hann windows of `window` seconds every `hop` seconds, in HTK mel bands of unit height from 0 Hz to half the
    rate (`torchaudio.transforms.MelSpectrogram`). Windows lie inside the sound: T = 1 + (S - window) // hop, and window t is centred
    on `window / 2 + hop * t` seconds. Windows are padded with zeros to a transform fine enough that no band is empty. The scale
    is fixed, not taken from the clip, because loudness is information.

    Raises `ValueError` for a hop longer than the window, or for fewer than one band.
    """

    def __init__(self, *, rate: int, mels: int, window: float = 0.025, hop: float = 0.010) -> None:
        super().__init__()
        self.rate, self.mels = rate, mels
        self.window, self.hop = round(window * rate), round(hop * rate)
        if not 0 < self.hop <= self.window:
            raise ValueError(f"hop of {hop} s must be at least one sample and at most the window of {window} s at {rate} Hz")
        if mels < 1:
            raise ValueError(f"mels must be at least 1, got {mels}")
        self.fft = _transform_length(rate, mels, self.window)
        self.transform = torchaudio.transforms.MelSpectrogram(
            sample_rate=rate, n_fft=self.fft, win_length=self.window, hop_length=self.hop, n_mels=mels, center=False
        )

    def windows(self, samples: int) -> int:
        """How many windows `samples` samples give (0 where they are too few)."""
        return max(0, 1 + (samples - self.window) // self.hop)

    def samples(self, windows: int) -> int:
        """The smallest number of samples that gives `windows` windows."""
        return self.window + (windows - 1) * self.hop

    def forward(self, x: Tensor) -> Tensor:
        """(N, S) -> (N, T, F) float32."""
        spare = self.fft - self.window
        with torch.autocast(x.device.type, enabled=False):
            power = self.transform(F.pad(x.float(), (spare // 2, spare - spare // 2)))
            return ((power + FLOOR).log() - MEAN).div(SCALE).transpose(1, 2).contiguous()


def _transform_length(rate: int, mels: int, window: int) -> int:
    """The smallest power of two that holds a window and whose bins are closer than the lowest (narrowest) band is wide."""
    step = _mel(rate / 2) / (mels + 1)
    lowest = 700.0 * (10 ** (2 * step / 2595.0) - 1.0)  # the first triangle spans 0 .. 2 steps
    length = 1 << (window - 1).bit_length()
    while rate / length >= lowest:
        length *= 2
    return length


def _mel(hertz: float) -> float:
    return float(2595.0 * torch.log10(torch.tensor(1.0 + hertz / 700.0, dtype=torch.float64)))
