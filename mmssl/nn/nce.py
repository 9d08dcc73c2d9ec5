"""InfoNCE with rows that must not be negatives, and scores of a sound against the best cells of a picture.

van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, arXiv:1807.03748. The maximum over
cells for all pairs is that of Mo and Morgado, "Localizing Visual Sounds the Easy Way" (EZ-VSL), ECCV 2022, arXiv:2203.09324. The soft
maximum is the "auto-pool" of McFee, Salamon, Bello, "Adaptive Pooling Operators for Weakly Labeled Sound Event Detection", IEEE/ACM
TASLP 2018, arXiv:1804.10070, equation 4, with a fixed sharpness.

N pictures, M sounds, G groups of C cells in a picture, E encoder features, D joint features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.types import InputError

SEARCH_SIZE = 2**25  # scores held at once while searching the best cells
CACHED_SIZE = 2**20  # features handled at once where they should stay in a CPU's cache


def info_nce(logits: Tensor, positive: Tensor, keep: Tensor) -> Tensor:
    """Cross-entropy (N,) of each row's positive among its positive and kept columns.

    Args:
        logits: (N, M), cosines over temperature.
        positive: (N,) int64, the column of each row's positive.
        keep: (N, M) bool, which columns are negatives; the positive's own entry does not matter.

    A row without negatives has loss 0 and no gradient.
    """
    keep = keep.scatter(1, positive[:, None], True)
    return F.cross_entropy(logits.masked_fill(~keep, -torch.inf), positive, reduction="none")


def cell_scores(
    grid_NGCE: Tensor, sounds_MD: Tensor, project: Callable[[Tensor], Tensor], *, sharpness: float | None = None
) -> Tensor:
    """Cosine of each sound with each picture: maximum over cells, then mean over groups -> (N, M) float32.

    Args:
        grid_NGCE: encoder features of the cells.
        sounds_MD: unit-length embeddings.
        project: to unit-length joint embeddings, cell by cell; it must be deterministic.
        sharpness: a soft maximum instead: the mean of the cells' cosines, weighted by softmax(sharpness * cosine) over the cells (0: the plain
            mean; None: the hard maximum). All cells then have a gradient, so learning begins sooner; it takes N G C M scores of memory.

    With the hard maximum, only winning cells have a gradient. They are looked for without one, then projected again with it, which spares the backward
    pass all other cells: on two cores, 64 pictures of 512 cells, it takes less than half of the plain way's time.
    """
    n, g, c, e = grid_NGCE.shape
    m = len(sounds_MD)
    if sharpness is not None:
        return _soft_scores(grid_NGCE, sounds_MD, project, sharpness)
    if not torch.is_grad_enabled():
        return _search(grid_NGCE, sounds_MD, project)[0].mean(dim=1)
    if m >= c:  # winners would be as many as cells
        cells = project(grid_NGCE)
        with torch.autocast(cells.device.type, enabled=False):
            return (cells @ sounds_MD.T).amax(dim=2).mean(dim=1)
    # Autocast must not keep the weights' copies of the search: they carry no gradient.
    kind = grid_NGCE.device.type
    with torch.no_grad(), torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False):
        best = _search(grid_NGCE, sounds_MD, project)[1]
    rows = best + torch.arange(n * g, device=best.device).view(n, g, 1) * c
    # F.embedding, not indexing: the same rows, but its backward pass adds up in a fixed order on every device.
    winners = project(F.embedding(rows, grid_NGCE.reshape(n * g * c, e)))
    with torch.autocast(kind, enabled=False):
        return (winners * sounds_MD).sum(dim=-1).mean(dim=1)


def check_sharpness(objective: str, sharpness: float | None) -> None:
    """Raise `InputError` where `cell_scores` could not take it."""
    if sharpness is not None and not 0.0 <= sharpness <= 1000.0:
        raise InputError(f"{objective}: sharpness is {sharpness}; give 0 to 1000, or leave it out for the best cell alone")


def _soft_scores(grid_NGCE: Tensor, sounds_MD: Tensor, project: Callable[[Tensor], Tensor], sharpness: float) -> Tensor:
    """The soft maximum over cells, mean over groups (N, M) float32."""
    n, g, c, e = grid_NGCE.shape
    some = n
    if grid_NGCE.device.type == "cpu":  # pieces that stay in its cache: a third quicker
        some = max(1, CACHED_SIZE // max(1, g * c * max(e, sounds_MD.shape[1])))
    elif not torch.is_grad_enabled():
        some = max(1, SEARCH_SIZE // max(1, g * c * len(sounds_MD)))
    found = []
    for part in grid_NGCE.split(some):
        cells = project(part)
        with torch.autocast(cells.device.type, enabled=False):
            cosines = cells.float() @ sounds_MD.float().T  # (N, G, C, M)
            found.append(((sharpness * cosines).softmax(dim=2) * cosines).sum(dim=2).mean(dim=1))
    return torch.cat(found)


def _search(grid_NGCE: Tensor, sounds_MD: Tensor, project: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Best cosines (N, G, M) float32 and the cells (N, G, M) that have them."""
    _, g, c, _ = grid_NGCE.shape
    some = max(1, SEARCH_SIZE // max(1, g * c * len(sounds_MD)))
    found = []
    for part in grid_NGCE.split(some):
        cells = project(part)
        with torch.autocast(cells.device.type, enabled=False):
            found.append(torch.max(cells @ sounds_MD.T, dim=2))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])
