"""Recurrent cells over grids of features: a convolutional GRU and a convolutional LSTM.

Ballas, Yao, Pal, Courville, "Delving Deeper into Convolutional Networks for Learning Video Representations", ICLR 2016,
arXiv:1511.06432, equations 9 to 12. Shi et al., "Convolutional LSTM Network", NeurIPS 2015, arXiv:1506.04214, equation 3, without its
peephole connections.

Borders are repeated outwards, not filled with zeros: zeros tell a cell how far it is from the border, and so where it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmssl.types import InputError


class ConvGRUCell(nn.Module):
    """Input (N, inputs, H, W) and state (N, hidden, H, W) -> the next state. `kernel` is odd; 1: each cell by itself."""

    def __init__(self, inputs: int, hidden: int, kernel: int = 1) -> None:
        super().__init__()
        self.hidden, self.radius = hidden, _radius(kernel)
        self.gates = nn.Conv2d(inputs + hidden, 2 * hidden, kernel)
        self.candidate = nn.Conv2d(inputs + hidden, hidden, kernel)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """One step; None is a state of zeros."""
        if state is None:
            state = x.new_zeros(len(x), self.hidden, *x.shape[2:])
        update, reset = self.gates(repeat_border(torch.cat([x, state], 1), self.radius)).sigmoid().chunk(2, 1)
        candidate = self.candidate(repeat_border(torch.cat([x, reset * state], 1), self.radius)).tanh()
        return (1 - update) * state + update * candidate


class ConvLSTMCell(nn.Module):
    """Input (N, inputs, H, W) and (state, memory) (N, hidden, H, W) -> the next two. `kernel` is odd."""

    def __init__(self, inputs: int, hidden: int, kernel: int = 3) -> None:
        super().__init__()
        self.inputs, self.hidden, self.radius = inputs, hidden, _radius(kernel)
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, kernel)

    def forward(self, x: Tensor | None, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """One step. Without `x` the input is zeros (and a state must be there); None is a state of zeros."""
        if state is None:
            assert x is not None, "a step needs an input or a state"
            zeros = x.new_zeros(len(x), self.hidden, *x.shape[2:])
            state = (zeros, zeros)
        hidden, memory = state
        if x is None:
            x = hidden.new_zeros(len(hidden), self.inputs, *hidden.shape[2:])
        joined = repeat_border(torch.cat([x, hidden], 1), self.radius)
        enter, forget, leave, candidate = self.gates(joined).chunk(4, 1)
        # + 1: what is remembered is kept at first (Jozefowicz et al., ICML 2015).
        memory = (forget + 1.0).sigmoid() * memory + enter.sigmoid() * candidate.tanh()
        return leave.sigmoid() * memory.tanh(), memory


def repeat_border(x: Tensor, radius: int) -> Tensor:
    """(..., H, W) -> (..., H + 2 radius, W + 2 radius): the outermost rows and columns repeat. Deterministic backward on every device."""
    if radius == 0:
        return x
    x = torch.cat([*[x[..., :1]] * radius, x, *[x[..., -1:]] * radius], -1)
    return torch.cat([*[x[..., :1, :]] * radius, x, *[x[..., -1:, :]] * radius], -2)


def _radius(kernel: int) -> int:
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"kernel is {kernel}; a convolution over a grid that keeps its size needs an odd one, 1, 3, 5, ...")
    return kernel // 2
