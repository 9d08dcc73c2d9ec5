"""What objectives that share an encoder ask of it: how strongly each pulls, and whether they pull against one another.

The norm of each objective's gradient on each encoder, and the cosine of each two of them; below zero they conflict (Yu et al., "Gradient
Surgery for Multi-Task Learning", NeurIPS 2020, arXiv:2001.06782, section 2). They are read off the graph of the step's own first micro-batch
by backward passes that write nowhere: no `.grad`, no buffer, no random number changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mmssl.training.model import Pretraining
from mmssl.training.parallel import Ranks, mean_over_ranks
from mmssl.types import Loss


def gradient_figures(model: Pretraining, losses: Mapping[str, Loss], ranks: Ranks) -> dict[str, Tensor]:
    """Norms and cosines of the objectives' gradients, over all ranks' rows; the graph of `losses` is kept.

    Args:
        model: what the losses were computed with; wrapped by DDP or not, but not sharded.
        losses: by objective.
        ranks: all of them must call, with the same objectives.

    Returns:
        Scalars on the device. `<objective>/gradient/<role>`: 2-norm of the gradient of the weighted loss on that encoder's parameters, for each
        encoder that the objective uses. `gradient_cosine/<role>/<objective>~<objective>`: for each two that share an encoder; 0 where a
        gradient is zero.
    """
    figures: dict[str, Tensor] = {}
    for role, encoder in model.encoders.items():
        parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        found = {name: _gradient(loss.value, parameters) for name, loss in losses.items()}
        flat = {name: mean_over_ranks(gradient, ranks) for name, gradient in found.items() if gradient is not None}
        norms = {name: torch.linalg.vector_norm(gradient) for name, gradient in flat.items()}
        for name, norm in norms.items():
            figures[f"{name}/gradient/{role}"] = norm * model.factor(name).abs()
        for one, other in combinations(flat, 2):
            product = (norms[one] * norms[other]).clamp(min=torch.finfo(torch.float32).tiny)
            figures[f"gradient_cosine/{role}/{one}~{other}"] = (flat[one] @ flat[other]) / product
    return figures


def _gradient(value: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor | None:
    """The gradient of `value` as one vector; None where no parameter is used."""
    if not parameters or not value.requires_grad:
        return None
    parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    if all(part is None for part in parts):
        return None
    pairs = zip(parts, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if part is None else part).detach().float().flatten() for part, p in pairs])
