from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmssl.nn.areas import area_weights, resize_grid
from mmssl.nn.recurrent import ConvGRUCell, ConvLSTMCell, repeat_border
from mmssl.types import InputError


def test_weights_are_shares_of_equal_parts():
    assert torch.equal(area_weights(4, 2), torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]))
    torch.testing.assert_close(area_weights(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))
    for count, parts in ((5, 3), (3, 5), (7, 7), (1, 4)):
        torch.testing.assert_close(area_weights(count, parts).sum(1), torch.ones(parts))


@pytest.mark.parametrize(("height", "width"), [(2, 3), (4, 6), (8, 12), (6, 4)])
def test_a_grid_shrinks_as_adaptive_pooling_does_where_sizes_divide(height, width):
    grid = torch.randn(2, 3, 4, 6, 5, dtype=torch.float64)
    found = resize_grid(grid, height, width)
    assert found.shape == (2, 3, height, width, 5)
    if 4 % height == 0 and 6 % width == 0:
        pooled = F.adaptive_avg_pool2d(grid.movedim(-1, 2).flatten(0, 1), (height, width))
        torch.testing.assert_close(found, pooled.unflatten(0, (2, 3)).movedim(2, -1))
    if height % 4 == 0 and width % 6 == 0:
        torch.testing.assert_close(found, grid.repeat_interleave(height // 4, 2).repeat_interleave(width // 6, 3))
    torch.testing.assert_close(found.mean((2, 3)), grid.mean((2, 3)))


def test_borders_repeat():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert torch.equal(repeat_border(x, 2), F.pad(x, (2, 2, 2, 2), mode="replicate"))
    assert repeat_border(x, 0) is x


def test_a_gru_cell_matches_torchs_at_every_place():
    torch.manual_seed(0)
    cell, plain = ConvGRUCell(3, 4).double(), torch.nn.GRUCell(3, 4).double()
    with torch.no_grad():  # torch's gates are (reset, update, new), its update is the share of the old state
        gates, candidate = cell.gates.weight[:, :, 0, 0], cell.candidate.weight[:, :, 0, 0]
        update, reset = gates.chunk(2)
        plain.weight_ih.copy_(torch.cat([reset[:, :3], -update[:, :3], candidate[:, :3]]))
        plain.weight_hh.copy_(torch.cat([reset[:, 3:], -update[:, 3:], torch.zeros(4, 4)]))
        u, r = cell.gates.bias.chunk(2)
        plain.bias_ih.copy_(torch.cat([r, -u, cell.candidate.bias]))
        plain.bias_hh.zero_()
        candidate[:, 3:] = 0  # torch resets after the product, the paper before it: equal where the product is zero
    x, state = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 4, 2, 2).double()
    found = cell(x, state)
    for a in range(2):
        for b in range(2):
            torch.testing.assert_close(found[:, :, a, b], plain(x[:, :, a, b], state[:, :, a, b]))
    torch.testing.assert_close(cell(x), cell(x, torch.zeros_like(state)))


def test_the_candidate_of_a_gru_sees_the_state_through_its_reset_gate():
    cell = ConvGRUCell(1, 1)
    with torch.no_grad():
        cell.gates.weight.zero_()
        cell.gates.bias.copy_(torch.tensor([100.0, -100.0]))  # all new, state reset
    x = torch.zeros(1, 1, 1, 1)
    assert torch.equal(cell(x, torch.ones(1, 1, 1, 1)), cell(x, -torch.ones(1, 1, 1, 1)))


def test_an_lstm_cell_matches_torchs_at_every_place():
    torch.manual_seed(0)
    cell, plain = ConvLSTMCell(3, 4, kernel=1).double(), torch.nn.LSTMCell(3, 4).double()
    with torch.no_grad():  # torch's gates are (in, forget, new, out)
        weight, bias = cell.gates.weight[:, :, 0, 0], cell.gates.bias
        i, f, o, g = weight.chunk(4)
        plain.weight_ih.copy_(torch.cat([i, f, g, o])[:, :3])
        plain.weight_hh.copy_(torch.cat([i, f, g, o])[:, 3:])
        i, f, o, g = bias.chunk(4)
        plain.bias_ih.copy_(torch.cat([i, f + 1.0, g, o]))
        plain.bias_hh.zero_()
    x, state, memory = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 4, 2, 2).double(), torch.randn(2, 4, 2, 2).double()
    found = cell(x, (state, memory))
    for a in range(2):
        for b in range(2):
            expected = plain(x[:, :, a, b], (state[:, :, a, b], memory[:, :, a, b]))
            for got, want in zip(found, expected, strict=True):
                torch.testing.assert_close(got[:, :, a, b], want)
    for got, want in zip(cell(None, found), cell(torch.zeros_like(x), found), strict=True):
        assert torch.equal(got, want)


def test_a_constant_picture_stays_constant_up_to_the_border():
    """Padding with zeros would write the place into it."""
    for cell in (ConvGRUCell(2, 3, kernel=3), ConvLSTMCell(2, 3, kernel=3)):
        state = cell(torch.ones(1, 2, 5, 5))
        state = state if isinstance(state, torch.Tensor) else state[0]
        torch.testing.assert_close(state, state[..., :1, :1].expand_as(state))


def test_even_kernels_are_refused():
    with pytest.raises(InputError, match="kernel is 4"):
        ConvLSTMCell(2, 3, kernel=4)
