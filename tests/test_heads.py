from __future__ import annotations

import pytest
import torch

from mmssl.nn.heads import Calibration, Projection, Temperature


def test_projection_is_unit_length_in_float32_under_autocast():
    head = Projection(6, 4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = head(torch.randn(3, 2, 6))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(3, 2))


def test_calibration_has_the_right_sign_whatever_is_learnt():
    head = Calibration(scale=4.0, threshold=-1.2)
    torch.testing.assert_close(head(torch.tensor([-1.2, -0.2])), torch.tensor([0.0, 4.0]))
    with torch.no_grad():
        head.log_scale.fill_(-30.0)
    assert (head(torch.tensor([0.0])) > head(torch.tensor([-2.0]))).all()


def test_temperature_is_fixed_or_learnt_within_bounds_from_which_it_can_return():
    assert Temperature(0.07)() == 0.07
    assert list(Temperature(0.07).parameters()) == []
    learnt = Temperature(0.07, learn=True)
    assert float(torch.as_tensor(learnt()).detach()) == pytest.approx(0.07)
    assert learnt.raw is not None
    for raw in (-8.0, 8.0):
        with torch.no_grad():
            learnt.raw.fill_(raw)
        value = torch.as_tensor(learnt())
        assert 0.01 <= value <= 1.0
        (gradient,) = torch.autograd.grad(value, learnt.raw)
        assert gradient.abs() > 0
