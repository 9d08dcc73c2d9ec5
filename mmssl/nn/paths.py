"""Paths that lay a sequence of texts along the steps of a film, in order: the soft score of all of them, and the best one.

The recursion is dynamic time warping's, with the soft minimum of Cuturi and Blondel, "Soft-DTW: a Differentiable Loss Function for
Time-Series", ICML 2017, arXiv:1703.01541, section 2.2. A text takes one step or more, a step one text or none; that steps may be left out
is from Dvornik et al., "Drop-DTW: Aligning Common Signal Between Sequences While Dropping Outliers", NeurIPS 2021, arXiv:2108.11996.

With l[k, s] how well step s fits text k (a step left out counts 0), A the set of monotone paths, and gamma the softness:

    score = gamma log( sum over a in A of e^(sum over steps s that a gives to a text of l[a(s), s] / gamma) )

N rows, K texts, S steps. States: before the first text, in it, after it and before the second, ...: J = 2 K + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmssl.nn.heads import at_least_float32

NEVER = -1e9  # finite: the gradient of a logarithm of a sum of nothing is no number


def path_score(fits_NKS: Tensor, count: Tensor, *, softness: float = 1.0) -> Tensor:
    """The score above (N,) of laying the first `count` (N,) of K texts along the S steps.

    Raises `ValueError` where there are fewer steps than texts.
    """
    with torch.autocast(fits_NKS.device.type, enabled=False):
        emitted = _states(fits_NKS) / softness
        reached = _begin(emitted[..., 0])
        for step in range(1, emitted.shape[-1]):
            reached = torch.stack(_ways(reached)).logsumexp(dim=0) + emitted[..., step]
        return softness * _ends(reached, count).logsumexp(dim=1)


def path_shares(fits_NKS: Tensor, count: Tensor, *, softness: float = 1.0) -> Tensor:
    """How probable it is that a path gives step s to text k, (N, K, S), where a path's probability is its part of `path_score`'s sum.

    That is the gradient of the score. Texts from `count` on have 0. Raises `ValueError` as `path_score` does.
    """
    with torch.inference_mode(False), torch.enable_grad():
        fits = at_least_float32(fits_NKS.detach().clone()).requires_grad_()
        (shares,) = torch.autograd.grad(path_score(fits, count.clone(), softness=softness).sum(), fits)
    return shares


def best_path(fits_NKS: Tensor, count: Tensor) -> Tensor:
    """The path of the highest sum: which text each step is given to, int64 (N, S), -1 for none. Each of the first `count` texts has a step.

    Raises `ValueError` as `path_score` does.
    """
    emitted = _states(fits_NKS.detach())
    reached = _begin(emitted[..., 0])
    came: list[Tensor] = []
    for step in range(1, emitted.shape[-1]):
        best = torch.stack(_ways(reached)).max(dim=0)
        came.append(best.indices)  # how many states back
        reached = best.values + emitted[..., step]
    ends = _ends(reached, count)
    state = (2 * count - ends.argmax(dim=1))[:, None]
    states = [state]
    for back in reversed(came):
        state = state - back.gather(1, state)
        states.append(state)
    path = torch.cat(states[::-1], dim=1)
    return torch.where(path % 2 == 1, path // 2, -1)


def _states(fits_NKS: Tensor) -> Tensor:
    """What each state earns in each step, (N, J, S)."""
    n, k, s = fits_NKS.shape
    if s < k:
        raise ValueError(f"{k} texts cannot be laid along {s} steps; each needs a step of its own")
    fits_NKS = at_least_float32(fits_NKS)
    both = torch.stack([torch.zeros_like(fits_NKS), fits_NKS], dim=2).flatten(1, 2)
    return torch.cat([both, fits_NKS.new_zeros(n, 1, s)], dim=1)


def _begin(first_NJ: Tensor) -> Tensor:
    place = torch.arange(first_NJ.shape[1], device=first_NJ.device)
    return torch.where(place < 2, first_NJ, NEVER)


def _ways(reached_NJ: Tensor) -> list[Tensor]:
    """How each state can be come by: from itself, from the one before, and, into a text, from the text before."""
    never = torch.full_like(reached_NJ[:, :2], NEVER)
    one = torch.cat([never[:, :1], reached_NJ[:, :-1]], dim=1)
    two = torch.cat([never, reached_NJ[:, :-2]], dim=1)
    is_text = torch.arange(reached_NJ.shape[1], device=reached_NJ.device) % 2 == 1
    return [reached_NJ, one, torch.where(is_text, two, NEVER)]


def _ends(reached_NJ: Tensor, count: Tensor) -> Tensor:
    """After the last text, and in it, (N, 2)."""
    last = 2 * count[:, None]
    return torch.cat([reached_NJ.gather(1, last), reached_NJ.gather(1, last - 1)], dim=1)
