"""Denoising a text: write it as it was before its sentences were shuffled and its words hidden.

Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and Comprehension", ACL
2020, arXiv:1910.13461, section 2.2. Text infilling: spans of words, their lengths from a Poisson distribution (lambda = 3), are each
replaced by one mask; spans of length 0 put in a mask where nothing is missing; so how much is missing must be told too. Sentence
permutation: the sentences stand in random order. Document rotation: the text begins at a random word.

    loss = mean over tokens of -log p(y_t | y_<t, noised text)

Noise is drawn with the cut, in words (the paper: in tokens), so that no word is torn. N texts, L tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from mmssl.cuts.passages import check_pause, draw_passage, resolve_text, sentences_of, too_few
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder, writer
from mmssl.nn.writing import Written, against_strangers, inputs_and_labels, metrics_of, score
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Features, InputError, InputSpec, Loss, Modality, Plan, Source, Text, Views


def infill(words: Sequence[str], share: float, mean: float, rng: np.random.Generator) -> list[str]:
    """Replace spans of words by "[MASK]" each: `share` of the words on average, never all of them.

    Lengths are drawn from Poisson(`mean`) until they add up to the share; the last is cut to fit. The spans do not touch, and every
    arrangement of them is equally likely. So the outermost words are hidden less often than the others.
    """
    exact = share * len(words)
    budget = min(math.floor(exact) + int(rng.random() < exact % 1.0), len(words) - 1)
    lengths: list[int] = []
    while sum(lengths) < budget:
        lengths.append(min(int(rng.poisson(mean)), budget - sum(lengths)))
    room = len(words) - budget + 1  # places between the words that stay, ends included
    while len(lengths) > room:  # spans do not touch, so there are not more of them than places
        lengths[0] += lengths.pop()
    order = rng.permutation(len(lengths))
    spans = dict(zip(sorted(rng.choice(room, len(lengths), replace=False).tolist()), (lengths[k] for k in order), strict=True))
    out: list[str] = []
    place = 0
    for gap in range(room):
        if gap in spans:
            out.append("[MASK]")
            place += spans[gap]
        if gap < room - 1:
            out.append(words[place])
            place += 1
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseViews(Views):
    """A passage, noised and as it is. Requests `document` and `target`, each (1, length) token ids.

    None in `length` and `tokenizer` stands for what the encoder was built for (`resolve`).
    """

    length: int | None = None  # tokens
    share: float = 0.3  # of the words that are hidden
    span: float = 3.0  # words, mean length of a hidden span
    permute: bool = True  # put the sentences in random order
    rotate: float = 0.0  # share of the passages that begin at a random word
    pause: float = 0.3  # seconds without a caption that end a sentence of a film, see `mmssl.cuts.passages.sentences_of`
    tokenizer: str | None = None  # the text encoder's, by path or name

    def __post_init__(self) -> None:
        check_pause(self.pause)
        if not 0.0 <= self.share < 1.0 or not 0.0 <= self.rotate <= 1.0 or self.span <= 0.0:
            raise InputError(
                f"views.share is {self.share}, views.rotate {self.rotate}, views.span {self.span}; share and rotate lie between 0 and 1, a "
                "mean span is longer than 0 words"
            )
        if not (self.share or self.permute or self.rotate):
            raise InputError(
                "views.share and views.rotate are 0 and views.permute is false: there is no noise to take away; turn one on"
            )

    def resolve(self, text: InputSpec) -> NoiseViews:
        """These views with every None filled in. Raises `InputError` where length or tokenizer are missing or do not fit."""
        length, tokenizer = resolve_text(self.length, self.tokenizer, text)
        return replace(self, length=length, tokenizer=tokenizer)

    def reject(self, source: Source) -> str | None:
        """ "no text"; "fewer than 2 sentences" where permuting them is all the noise there is."""
        return too_few(sentences_of(source, self.pause), 1 if self.share or self.rotate else 2)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the passage and the noise."""
        if self.length is None or self.tokenizer is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        sentences = sentences_of(source, self.pause)
        passage = draw_passage(sentences, self.length, rng, least=min(2, len(sentences)) if self.permute else 1)
        order = rng.permutation(len(passage)) if self.permute else np.arange(len(passage))
        words = [word for k in order for word in passage[k].split()]
        if rng.random() < self.rotate:
            turn = int(rng.integers(len(words)))
            words = words[turn:] + words[:turn]
        if self.share and len(words) > 1:
            words = infill(words, self.share, self.span, rng)
        return Plan(
            {
                "document": Text((" ".join(words),), self.length, self.tokenizer),
                "target": Text((" ".join(passage),), self.length, self.tokenizer),
            }
        )


class DenoiseText(Objective):
    """Write a text from its noised form.

    Args:
        encoders: `text`, one that also writes.
        views: the passages and their noise; None in them is filled in from the encoder.

    Metrics and judging are as in gap_sentences: a token's hits under the right tokens before it, and beside them what the same model
    scores with another source's document. Most of a target stands in the document, so accuracy is high once copying is learnt.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"text": ("text",)}

    def __init__(self, *, encoders: Mapping[str, Encoder], views: NoiseViews = NoiseViews()) -> None:
        super().__init__()
        encoder = encoders["text"]
        vocabulary = writer(encoder, "denoise_text").vocabulary
        self.views = views.resolve(encoder.spec)
        self.pad, self.size = vocabulary.pad, vocabulary.size

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss. Needs `document` and `target`, each (N, 1, L)."""
        written = self._write(batch, bank, bank.encode("text", batch["document"].flatten(0, 1)))
        return Loss(written.mean(written.nll), metrics_of(written, self.size))

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """`accuracy`, `nll` (nats a token), means over each target; chance: the same model shown another source's document. `gain`."""
        features = bank.encode("text", batch["document"].flatten(0, 1))
        found = against_strangers(partial(self._write, batch, bank), features, batch["source"], self.size)
        return {name: Judged(*values) for name, values in found.items()}

    def _write(self, batch: Batch, bank: EncoderBank, features: Features) -> Written:
        given, labels, used = inputs_and_labels(batch["target"].flatten(0, 1), self.pad)
        return score(writer(bank["text"], "denoise_text").decode(features, given), labels, used)
