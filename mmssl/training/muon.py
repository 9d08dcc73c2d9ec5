"""Muon for weight matrices and kernels, AdamW for everything else, as one optimizer.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon): the momentum of a matrix
is replaced by the nearest semi-orthogonal one, so that all its directions are learnt at one speed, rare ones too. Kernels of convolutions
count as matrices of one row for each output channel. The update is scaled to the root mean square that AdamW's has, so that one learning rate
serves both: Liu et al. 2025, "Muon is scalable for LLM training", arXiv:2502.16982, section 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: brings singular values of 0..1 to 0.7..1.2 in `ITERATIONS`
ITERATIONS = 5
ADAMW_RMS = 0.2  # Liu et al.: of AdamW's updates, as a share of the learning rate


class MuonAdamW(torch.optim.AdamW):
    """The fused AdamW, whose groups with `muon` True are updated by Muon instead.

    Such groups hold parameters of two or more axes. State of theirs: `momentum`, and `step` for the sake of the others' form. `found_inf` set
    on it (see `optim.step_where`) keeps all groups as they are, without the host's waiting.
    """

    def __init__(self, groups: list[dict[str, Any]], *, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=0.0, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step. The gradients of Muon's groups are gone afterwards."""
        assert closure is None, "the trainer computes gradients before the step"
        found_inf = getattr(self, "found_inf", None)
        for group in self.param_groups:
            for parameter in group["params"] if group["muon"] else ():
                if parameter.grad is not None:
                    gradient, parameter.grad = parameter.grad, None  # AdamW passes over it
                    ok = None if found_inf is None else found_inf == 0
                    self._turn(parameter, gradient, group["lr"], group["weight_decay"], ok)
        super().step()

    def _turn(self, parameter: Tensor, gradient: Tensor, lr: float, decay: float, ok: Tensor | None) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1)).view_as(parameter)  # Nesterov's look ahead
        longer = max(parameter.shape[0], parameter[0].numel())
        moved = (parameter * (1 - lr * decay)).add_(update, alpha=-lr * ADAMW_RMS * longer**0.5)
        if ok is None:
            state["step"] += 1
        else:
            state["step"] += ok.to(state["step"])
            momentum, moved = torch.where(ok, momentum, state["momentum"]), torch.where(ok, moved, parameter)
        state["momentum"].copy_(momentum)
        parameter.copy_(moved)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest semi-orthogonal matrix (R, C), by Newton and Schulz's iteration: the same singular vectors, values 0.7 to 1.2."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
