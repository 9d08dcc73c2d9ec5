"""Masked language modelling: which word was here?

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019,
arXiv:1810.04805, section 3.1 (task 1) and appendix A.1; whole words as in the authors' later code. The mask is drawn anew in every step,
as in Liu et al., "RoBERTa", 2019, arXiv:1907.11692, section 4.1.

15 % of the tokens are chosen. Of these 80 % are replaced by the mask, 10 % by a random token, 10 % are left, because at use there are no
masks: the encoder must not rely on seeing one. With h_i the encoder's output at place i and w_i the token that stood there:

    loss = mean over chosen i of -log softmax(W norm(gelu(A h_i + a)) + b)[w_i]

N texts, L tokens, K places, D features, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from mmssl.cuts.passages import PassageViews
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder, reader
from mmssl.nn.token_masks import Hidden, TokenMask
from mmssl.nn.writing import Written, compared, metrics_of, score
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, Loss, Modality


class MaskedLm(Objective):
    """Tell hidden words from the words around them.

    Args:
        encoders: `text`.
        views: the passages; None in them is filled in from the encoder.
        share: of the tokens that are chosen.
        whole_words: choose whole words: the rest of a word tells too much about a part of it.
        masked, random: shares of the chosen tokens that are replaced by the mask, and by a random token; the rest stays.

    `accuracy` is over chosen tokens; its chance is how often guessing the commonest of them would be right. `loss/uninformed` is that of
    a uniform guess, log V. The output layer is not tied to the encoder's embeddings: those may be sharded away from it.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"text": ("text",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: PassageViews = PassageViews(),
        share: float = 0.15,
        whole_words: bool = False,
        masked: float = 0.8,
        random: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0.0 < share < 1.0 or min(masked, random) < 0.0 or masked + random > 1.0:
            raise InputError(
                f"masked_lm: share {share}, masked {masked}, random {random}; share lies between 0 and 1, the other two are shares of the "
                "chosen tokens and add up to at most 1"
            )
        encoder = encoders["text"]
        vocabulary = reader(encoder, "masked_lm").vocabulary
        self.views = views.resolve(encoder.spec)
        self.hide = TokenMask(vocabulary, share=share, whole_words=whole_words, masked=masked, random=random)
        self.size = vocabulary.size
        self.transform = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.GELU(), nn.LayerNorm(encoder.dim))
        self.output = nn.Linear(encoder.dim, vocabulary.size)

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `text` (N, 1, L)."""
        hidden = self.hide(batch["text"].flatten(0, 1))
        told = self._tell(hidden, bank)
        share = told.used.sum() / (~self.hide.special[batch["text"]]).sum().clamp(min=1)
        return Loss(told.mean(told.nll), metrics_of(told, self.size) | {"hidden": share})

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` and `nll` (nats a token) of chosen tokens, means over each text."""
        told = self._tell(self.hide(batch["text"].flatten(0, 1)), bank)
        return {name: Judged(*found) for name, found in compared(told, self.size).items()}

    def _tell(self, hidden: Hidden, bank: EncoderBank) -> Written:
        grid = bank.encode("text", hidden.ids).grid
        at_places = grid.gather(1, hidden.places[..., None].expand(-1, -1, grid.shape[-1]))
        return score(self.logits(at_places), hidden.targets, hidden.used)

    def logits(self, grid: Tensor) -> Tensor:
        """Features (..., D) -> logits (..., V) of the token that stands there."""
        return self.output(self.transform(grid))
