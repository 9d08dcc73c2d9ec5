"""Gradients of 3-D convolutions over few time steps, in bfloat16 on a CPU: what the guard keeps right."""

import copy

import pytest
import torch
from torch import nn

from mmssl.encoders.base import build_encoder
from mmssl.nn.short_conv3d import guard_short_conv3d


def gradients(conv: nn.Conv3d, x, g, *, low: bool):
    conv.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        y = conv(x)
    y.float().backward(g)
    return y.float().detach(), x.grad, conv.weight.grad.clone()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_all_gradients_are_those_of_float32(kernel, stride, steps):
    torch.manual_seed(0)
    conv = nn.Conv3d(8, 16, (kernel, 3, 3), stride=(stride, 1, 1), padding=(kernel // 2, 1, 1))
    guarded = copy.deepcopy(conv)
    guard_short_conv3d(guarded)
    x = torch.randn(2, 8, steps, 8, 8)
    g = torch.randn_like(conv(x))
    for found, exact in zip(gradients(guarded, x, g, low=True), gradients(conv, x, g, low=False), strict=True):
        assert found.shape == exact.shape
        assert (found - exact).norm() < 0.02 * exact.norm()


def test_float32_and_inference_are_untouched():
    conv = nn.Conv3d(3, 4, 3, padding=1)
    guarded = copy.deepcopy(conv)
    guard_short_conv3d(guarded)
    x = torch.randn(1, 3, 2, 6, 6)
    assert torch.equal(conv(x), guarded(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x), guarded(x))


@pytest.mark.parametrize("size", ["tiny", "r3d_18", "r2plus1d_18"])
def test_a_short_clip_through_a_whole_encoder(size):
    """The stages see T = 4, 2, 1 or so; without the guard the norms differ by factors, or are infinite."""
    torch.manual_seed(0)
    encoder = build_encoder("video_resnet", {"size": size})
    guard_short_conv3d(encoder)
    x = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    found = {}
    for low in (True, False):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            pooled = encoder(x).pooled
        pooled.float().square().sum().backward()
        found[low] = {name: p.grad.norm().item() for name, p in encoder.named_parameters() if p.grad is not None and p.ndim == 5}
    for name, exact in found[False].items():
        assert found[True][name] == pytest.approx(exact, rel=0.35), name
