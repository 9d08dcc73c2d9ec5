"""Next-sentence and sentence-order prediction: does this text go on with that one, and which of them came first?

"nsp": Devlin, Chang, Lee, Toutanova, "BERT", NAACL 2019, arXiv:1810.04805, section 3.1 (task 2): a stretch of text A with the one that
follows it, or with one of another document. "sop": Lan et al., "ALBERT: A Lite BERT", ICLR 2020, arXiv:1909.11942, section 3.1: A then B,
or B then A; both come from one document, so that its topic says nothing.

Each row is seen both ways in a step, right and wrong, so the two answers are exactly equally frequent. The wrong second text is the one
nearest in length among those of other documents: a passage fills what there is room for, so that its true second text is long where
the first is short, and lengths alone would tell 0.71 of the pairs (words in random order, docs/results/tasks-trials.md). BERT's own data
have second texts of the length that is left, too. With s the logit of a pair:

    loss = mean over rows of (softplus(-s(right)) + softplus(s(wrong))) / 2

n rows, A and B tokens of the two texts, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.cuts.passages import draw_passage, resolve_text, too_few
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder, reader
from mmssl.nn.heads import at_least_float32
from mmssl.nn.health import masked_mean, sign_hits
from mmssl.nn.strangers import stranger_rows
from mmssl.nn.text import packed_pair
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import InputError, InputSpec, Loss, Modality, Plan, Source, Text, Views
from mmssl.vocabulary import SHORTEST


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTextsViews(Views):
    """A passage, parted in two between sentences or captions (BERT's "sentence" is any stretch of text). Requests `first` and `second`, each (1, length // 2) token ids.

    None in `length` and `tokenizer` stands for what the encoder was built for (`resolve`).
    """

    length: int | None = None  # tokens of both together
    tokenizer: str | None = None  # the text encoder's, by path or name

    def resolve(self, text: InputSpec) -> TwoTextsViews:
        """These views with every None filled in. Raises `InputError` where length or tokenizer are missing or do not fit."""
        length, tokenizer = resolve_text(self.length, self.tokenizer, text)
        if length < 2 * SHORTEST:
            raise InputError(f"views.length is {length} tokens; two texts need at least {2 * SHORTEST}")
        return replace(self, length=length, tokenizer=tokenizer)

    def reject(self, source: Source) -> str | None:
        """ "no text", "fewer than 2 sentences"."""
        return too_few(tuple(cue.text for cue in source.cues), 2)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the passage, and after which of its sentences it is parted."""
        if self.length is None or self.tokenizer is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        passage = draw_passage(tuple(cue.text for cue in source.cues), self.length, rng, least=2)
        cut = int(rng.integers(1, len(passage)))
        parts = {"first": passage[:cut], "second": passage[cut:]}
        half = self.length // 2
        return Plan({key: Text((" ".join(part),), half, self.tokenizer) for key, part in parts.items()})


class NextSentence(Objective):
    """Tell a text's true continuation from another one.

    Args:
        encoders: `text`.
        views: the texts; None in them is filled in from the encoder.
        form: "nsp" (wrong: the second text of another source, of about the same length) or "sop" (wrong: the two in reverse order).
        hidden: width of the hidden layer on the pooled features.

    `accuracy` counts right and wrong pairs alike; chance is 0.5. With "nsp", rows whose batch holds no other source do not count.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"text": ("text",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: TwoTextsViews = TwoTextsViews(),
        form: Literal["nsp", "sop"] = "nsp",
        hidden: int = 128,
    ) -> None:
        super().__init__()
        if hidden < 1:
            raise InputError(f"next_sentence: hidden is {hidden}; the layer needs at least 1 unit")
        encoder = encoders["text"]
        self.views = views.resolve(encoder.spec)
        self.pad = reader(encoder, "next_sentence").vocabulary.pad
        self.form = form
        self.head = nn.Sequential(nn.Linear(encoder.dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `first` (n, 1, A), `second` (n, 1, B), `source` (n,)."""
        ties = torch.rand(len(batch["source"]), len(batch["source"]), device=batch["source"].device)
        right, wrong, used = self._logits(batch, bank, *self._strangers(batch, ties))
        with torch.autocast(right.device.type, enabled=False):
            value = masked_mean((F.softplus(-right) + F.softplus(wrong)) / 2, used)
            hits = (sign_hits(right.detach()) + sign_hits(-wrong.detach())) / 2
        metrics = {
            "accuracy": masked_mean(hits, used, empty=0.5),
            "accuracy/chance": torch.full_like(hits[0], 0.5),
            "rows/without_negative": (~used).sum().to(hits.dtype),
        }
        return Loss(value, metrics)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy`: is each row's right pair called right, and its wrong pair wrong? The mean of the two."""
        place = torch.arange(len(batch["source"]), device=batch["source"].device)
        ahead = (place[None, :] - place[:, None]) % len(place)
        right, wrong, used = self._logits(batch, bank, *self._strangers(batch, 1.0 - ahead / len(place)))
        hits = (sign_hits(right) + sign_hits(-wrong)) / 2
        return {"accuracy": Judged(torch.where(used, hits, 0.5), 0.5)}

    def _strangers(self, batch: Batch, ties: Tensor) -> tuple[Tensor, Tensor]:
        """The row of another source whose second text is nearest in length; among several, of the largest `ties` (n, n) in 0..1."""
        tokens = (batch["second"][:, 0] != self.pad).sum(dim=1)
        return stranger_rows(batch["source"], 0.5 * ties - (tokens[:, None] - tokens[None, :]).abs())

    def _logits(self, batch: Batch, bank: EncoderBank, other: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = batch["first"][:, 0], batch["second"][:, 0]
        if self.form == "sop":
            wrong, used = packed_pair(second, first, self.pad), torch.ones_like(found)
        else:
            wrong, used = packed_pair(first, second[other], self.pad), found
        # One pass for both, so that nothing but the text differs.
        both = torch.cat([packed_pair(first, second, self.pad), wrong])
        logits = at_least_float32(self.head(bank.encode("text", both).pooled))[:, 0]
        right_n, wrong_n = logits.chunk(2)
        return right_n, wrong_n, used
