"""Gap-sentence generation: write the sentences that were taken out of a text.

Zhang, Zhao, Saleh, Liu, "PEGASUS: Pre-training with Extracted Gap-sentences for Abstractive Summarization", ICML 2020,
arXiv:1912.08777, section 3.1; noise on the scores and the range of ratios as in the authors' code.

The sentences that tell most of the rest are taken out, each replaced by a mask for a whole sentence; the target is all of them in order. A
sentence's score is ROUGE-1 F against the rest of the document, without stop words:

    Ind: s_i = F(x_i, D \\ x_i), the highest are taken;   Seq: one at a time, each time the one that makes F(S + x_i, D \\ (S + x_i)) highest
    Orig: words count as often as they occur;   Uniq: each word counts once a side
    s_i <- s_i (1 + noise g_i), g_i a standard normal number, so that a document has other gaps each time

    loss = mean over target tokens of -log p(y_t | y_<t, document with gaps)

N texts, L tokens read, T tokens written, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from mmssl.cuts.passages import check_pause, draw_passage, resolve_text, sentences_of, too_few
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder, writer
from mmssl.nn.writing import Written, against_strangers, inputs_and_labels, metrics_of, score
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.rouge import STOP_WORDS, rouge_n, words_of
from mmssl.types import Features, InputError, InputSpec, Loss, Modality, Plan, Source, Text, Views

Select = Literal["ind", "seq", "random", "lead"]


def choose_gaps(
    sentences: Sequence[str],
    count: int,
    rng: np.random.Generator,
    *,
    select: Select = "ind",
    unique: bool = False,
    noise: float = 0.0,
) -> list[int]:
    """Numbers, in order, of the `count` sentences to take out; see the module. "random" and "lead" (the first) are baselines."""
    if select == "lead":
        return list(range(count))
    if select == "random":
        return sorted(int(k) for k in rng.choice(len(sentences), count, replace=False))
    words = [words_of(sentence, stop=STOP_WORDS) for sentence in sentences]
    factors = 1.0 + noise * rng.standard_normal(len(sentences))

    def told(chosen: set[int]) -> float:
        inside = [word for k, some in enumerate(words) if k in chosen for word in some]
        rest = [word for k, some in enumerate(words) if k not in chosen for word in some]
        return rouge_n(inside, rest, unique=unique)

    if select == "ind":
        scores = np.array([told({k}) for k in range(len(words))]) * factors
        return sorted(int(k) for k in np.argsort(-scores, kind="stable")[:count])
    chosen: set[int] = set()
    while len(chosen) < count:
        scores = [told(chosen | {k}) * factors[k] if k not in chosen else -math.inf for k in range(len(words))]
        chosen.add(int(np.argmax(scores)))
    return sorted(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapViews(Views):
    """A passage with gaps, and the sentences that filled them. Requests `document` (1, length) and `target` (1, target_length) ids.

    At least one sentence is taken out and at least one stays. None in `length`, `target_length` and `tokenizer`: as the encoder was built.
    """

    length: int | None = None  # tokens of the document
    target_length: int | None = None  # tokens of the target; half the document's
    ratio: tuple[float, float] = (0.15, 0.45)  # share of the sentences that are taken out, drawn between
    select: Select = "ind"  # how they are chosen, see `choose_gaps`
    unique: bool = False  # Uniq instead of Orig
    noise: float = 0.2  # on the scores
    keep: float = 0.1  # share of the chosen sentences that stay in the document all the same
    pause: float = 0.3  # seconds without a caption that end a sentence of a film, see `mmssl.cuts.passages.sentences_of`
    tokenizer: str | None = None  # the text encoder's, by path or name

    def __post_init__(self) -> None:
        check_pause(self.pause)
        low, high = self.ratio
        if not 0.0 < low <= high < 1.0:
            raise InputError(f"views.ratio is {self.ratio}; give (low, high) with 0 < low <= high < 1")
        if not 0.0 <= self.keep <= 1.0 or self.noise < 0.0:
            raise InputError(f"views.keep is {self.keep}, views.noise {self.noise}; keep is a share, 0 to 1, noise at least 0")

    def resolve(self, text: InputSpec) -> GapViews:
        """These views with every None filled in. Raises `InputError` where length or tokenizer are missing or do not fit."""
        length, tokenizer = resolve_text(self.length, self.tokenizer, text)
        target, _ = resolve_text(self.target_length or max(length // 2, 4), tokenizer, text)
        return replace(self, length=length, target_length=target, tokenizer=tokenizer)

    def reject(self, source: Source) -> str | None:
        """ "no text", "fewer than 2 sentences"."""
        return too_few(sentences_of(source, self.pause), 2)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the passage and its gaps."""
        if self.length is None or self.target_length is None or self.tokenizer is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        passage = draw_passage(sentences_of(source, self.pause), self.length, rng, least=2)
        count = min(max(1, round(float(rng.uniform(*self.ratio)) * len(passage))), len(passage) - 1)
        gaps = choose_gaps(passage, count, rng, select=self.select, unique=self.unique, noise=self.noise)
        kept = {k for k in gaps if rng.random() < self.keep}
        document = ["[SENT]" if k in gaps and k not in kept else sentence for k, sentence in enumerate(passage)]
        target = " ".join(passage[k] for k in gaps)
        return Plan(
            {
                "document": Text((" ".join(document),), self.length, self.tokenizer),
                "target": Text((target,), self.target_length, self.tokenizer),
            }
        )


class GapSentences(Objective):
    """Write the sentences that are missing from a text.

    Args:
        encoders: `text`, one that also writes.
        views: the passages and their gaps; None in them is filled in from the encoder.

    `accuracy` is over the tokens of the target, each under the right ones before it; its chance is how often the commonest token would be
    right. `loss/uninformed` is that of a uniform guess, log V. A language model alone scores well above both, so `judge` compares
    with another document.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"text": ("text",)}

    def __init__(self, *, encoders: Mapping[str, Encoder], views: GapViews = GapViews()) -> None:
        super().__init__()
        encoder = encoders["text"]
        vocabulary = writer(encoder, "gap_sentences").vocabulary
        self.views = views.resolve(encoder.spec)
        self.pad, self.size = vocabulary.pad, vocabulary.size

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `document` (N, 1, L) and `target` (N, 1, T + 1)."""
        written = self._write(batch, bank, bank.encode("text", batch["document"].flatten(0, 1)))
        return Loss(written.mean(written.nll), metrics_of(written, self.size))

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy` and `nll` (nats a token), means over each target, and `gain`, the accuracy that reading the right document adds.

        Their chance is what the same model scores when it is shown another source's document: what it knows of the language alone.
        """
        features = bank.encode("text", batch["document"].flatten(0, 1))
        found = against_strangers(partial(self._write, batch, bank), features, batch["source"], self.size)
        return {name: Judged(*values) for name, values in found.items()}

    def _write(self, batch: Batch, bank: EncoderBank, features: Features) -> Written:
        given, labels, used = inputs_and_labels(batch["target"].flatten(0, 1), self.pad)
        return score(writer(bank["text"], "gap_sentences").decode(features, given), labels, used)
