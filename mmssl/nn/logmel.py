"""Log-mel spectrograms on the device, in float32 whatever autocast says."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

FLOOR = 1e-5  # added to mel power before the logarithm: about the power of white noise at -80 dBFS, so silence is flat, not -inf
MEAN, SCALE = -4.0, 4.0  # of the log-mel of ordinary sound (window 25 ms at 16 kHz); silence becomes -1.9, a loud tone about 3


class LogMel(nn.Module):
    """Waveform (N, S) -> (N, T, F): `(ln(mel power + FLOOR) - MEAN) / SCALE`.

    Power spectrum of Hann windows of `window` seconds every `hop` seconds; HTK mel bands of unit height from 0 Hz to half the
    rate (`torchaudio.transforms.MelSpectrogram`). The transform has at least the window's length, rounded up to a power of two,
    so that the lowest bands are not empty. Windows lie inside the sound (no padding): T = 1 + (S - window) // hop, and window t is
    centred on `window / 2 + hop * t` seconds. The scale is fixed, not taken from the clip: loudness is information.
    """

    def __init__(self, *, rate: int, mels: int, window: float = 0.025, hop: float = 0.010) -> None:
        super().__init__()
        self.rate, self.mels = rate, mels
        self.window, self.hop = round(window * rate), round(hop * rate)
        if not 0 < self.hop <= self.window:
            raise ValueError(f"hop of {hop} s and window of {window} s at {rate} Hz: need 0 < hop <= window, at least a sample")
        self.fft = 1 << (self.window - 1).bit_length()
        self.transform = torchaudio.transforms.MelSpectrogram(
            sample_rate=rate, n_fft=self.fft, win_length=self.window, hop_length=self.hop, n_mels=mels, center=False
        )

    def frames(self, samples: int) -> int:
        """How many windows `samples` samples give (0 where they are too few)."""
        return max(0, 1 + (samples - self.fft) // self.hop)

    def samples(self, frames: int) -> int:
        """The smallest number of samples that gives `frames` windows."""
        return self.fft + (frames - 1) * self.hop

    def forward(self, x: Tensor) -> Tensor:
        """(N, S) -> (N, T, F) float32."""
        with torch.autocast(x.device.type, enabled=False):
            power = self.transform(x.float())
            return ((power + FLOOR).log() - MEAN).div(SCALE).transpose(1, 2).contiguous()
