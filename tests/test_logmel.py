"""Log-mel: windows where they are said to be, no empty band, float32 under autocast, silence finite."""

import math

import pytest
import torch
import torchaudio

from mmssl.nn.logmel import FLOOR, MEAN, SCALE, LogMel

RATE = 16000


def test_it_is_the_library_s_spectrogram():
    x = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    library = torchaudio.transforms.MelSpectrogram(RATE, n_fft=512, win_length=512, hop_length=160, n_mels=32, center=False)
    want = ((library(x) + FLOOR).log() - MEAN) / SCALE
    torch.testing.assert_close(LogMel(rate=RATE, mels=32, window=0.032)(x), want.transpose(1, 2))


@pytest.mark.parametrize("samples", [400, 559, 560, 16000, 15999])
def test_windows_lie_inside_the_sound(samples):
    mel = LogMel(rate=RATE, mels=40)
    assert mel(torch.zeros(1, samples)).shape == (1, mel.windows(samples), 40)
    assert mel.windows(mel.samples(7)) == 7 and mel.windows(mel.samples(7) - 1) == 6
    assert mel.windows(399) == 0


def test_window_t_is_centred_where_the_docstring_says():
    mel = LogMel(rate=RATE, mels=40)
    for window in (0, 5, 50):
        x = torch.zeros(1, RATE)
        x[0, round((0.025 / 2 + 0.010 * window) * RATE)] = 1.0
        energy = mel(x)[0].sum(1)
        assert int(energy.argmax()) == window
        inner = energy[max(0, window - 1) : window + 2]
        assert window == 0 or inner[0] == pytest.approx(inner[2].item(), rel=0.02)


@pytest.mark.parametrize(("rate", "mels"), [(16000, 64), (16000, 128), (8000, 64), (44100, 80), (48000, 256)])
def test_no_band_is_empty(rate, mels):
    bank = LogMel(rate=rate, mels=mels).transform.mel_scale.fb
    assert (bank.amax(0) > 0).all()


def test_a_tone_sounds_in_its_band():
    x = torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)[None]
    bands = LogMel(rate=RATE, mels=64)(x)[0].mean(0)
    centres = 700 * (10 ** (torch.arange(1, 65) / 65 * 2595 * math.log10(1 + 8000 / 700) / 2595) - 1)
    assert abs(centres[bands.argmax()].item() - 1000) < 60
    assert 3.0 < bands.max() < 3.6  # what the module says of a full-scale tone


def test_silence_is_flat_and_loudness_shows():
    mel = LogMel(rate=RATE, mels=64)
    silence = (math.log(FLOOR) - MEAN) / SCALE
    torch.testing.assert_close(mel(torch.zeros(1, 4000)), torch.full((1, mel.windows(4000), 64), silence))
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    louder = mel(10 * noise) - mel(noise)
    assert louder.mean().item() == pytest.approx(math.log(100) / SCALE, rel=0.01)


def test_float32_whatever_autocast_says():
    mel, x = LogMel(rate=RATE, mels=64), torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mel(x)
    assert inside.dtype == torch.float32 and torch.equal(inside, mel(x))


@pytest.mark.parametrize("wrong", [{"hop": 0.03}, {"hop": 0.0}, {"mels": 0}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LogMel(**{"rate": RATE, "mels": 64, **wrong})
