"""What encoders of text share: checks of ids, segments, means over real tokens, and a seal that ties weights to their tokenizer.

N texts, L tokens, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmssl.vocabulary import Vocabulary


class TokenizerSeal(nn.Module):
    """The digest of the tokenizer that weights were trained with, among them: under another one every id would mean another word."""

    digest: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._expected = vocabulary.digest
        self.register_buffer("digest", torch.tensor(list(vocabulary.digest), dtype=torch.uint8))
        self.register_load_state_dict_pre_hook(_check_digest)


def _check_digest(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    del rest  # of the hook's arguments
    found = state.get(f"{prefix}digest")
    if isinstance(module, TokenizerSeal) and found is not None and bytes(found.cpu().tolist()) != module._expected:
        raise RuntimeError(
            "the weights were trained with another tokenizer than the one that is given now; give the one that they were trained with"
        )


def check_tokens(x: Tensor, *, tokens: int) -> None:
    """Raise `ValueError` unless `x` is an int64 (N, L) with 1 <= L <= `tokens`."""
    if x.ndim != 2 or x.dtype != torch.int64:
        raise ValueError(
            f"text must be int64 token ids (N, L), got {x.dtype} {tuple(x.shape)}; Vocabulary.ids makes them, and several texts of a row "
            "are flattened into N"
        )
    if not 1 <= x.shape[1] <= tokens:
        raise ValueError(
            f"input has {x.shape[1]} tokens; this encoder takes 1 to {tokens}: lower the length that the views ask for"
        )


def segments(x: Tensor, sep: int) -> Tensor:
    """Which text of a pair each token belongs to, 0 or 1, (N, L): the first separator still belongs to the first."""
    ended = x == sep
    return (ended.cumsum(dim=1) - ended.long()).clamp(max=1)


def attended(valid: Tensor) -> Tensor:
    """`valid` (N, L) with the first token always visible: a row of nothing but padding would give numbers that are none."""
    first = torch.arange(valid.shape[1], device=valid.device) == 0
    return (valid | first).long()


def mean_of_valid(grid: Tensor, valid: Tensor) -> Tensor:
    """Mean of (N, L, D) over the real tokens, (N, D); 0 where there are none."""
    weights = valid[..., None].to(grid.dtype)
    return (grid * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def packed_pair(first: Tensor, second: Tensor, pad: int) -> Tensor:
    """Two texts of ids (N, A), (N, B) as one pair (N, A + B - 1): the second without its first token, padding at the end."""
    joined = torch.cat([first, second[:, 1:]], dim=1)
    order = (joined == pad).long().argsort(dim=1, stable=True)
    return joined.gather(1, order)
