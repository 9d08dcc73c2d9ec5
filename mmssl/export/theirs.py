"""Encoders whose architecture is transformers' own, as that library saves them: its key names, its config.json, its tokenizer.

`AutoModel.from_pretrained(FOLDER)` then loads them without mmssl. What mmssl does around the model (scaling pictures, the mean over real
tokens, spectrograms) stays outside, and `Theirs.note` says what a user has to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    BartForConditionalGeneration,
    PegasusForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    VideoMAEImageProcessor,
)
from transformers.utils import logging

from mmssl.encoders.audio_vit import EXTRA, AudioViT
from mmssl.encoders.base import Encoder
from mmssl.encoders.text_bert import TextBert
from mmssl.encoders.text_seq2seq import TextSeq2Seq
from mmssl.encoders.video_vit import VideoViT
from mmssl.export.compare import TOLERANCE
from mmssl.export.program import example_of
from mmssl.training.errors import RunError
from mmssl.vocabulary import Vocabulary

FOLDER = "transformers"
WRITERS = {"bart": BartForConditionalGeneration, "pegasus": PegasusForConditionalGeneration}


@dataclass(frozen=True, slots=True)
class Theirs:
    """One encoder in the other library's form."""

    model: PreTrainedModel
    hidden: Callable[
        [Any, Tensor], Tensor
    ]  # (the loaded model, mmssl's input) -> what should equal `Features.grid`, flat (N, L, D)
    note: str
    processor: Any = None  # tokenizer or image processor that goes along


def write_theirs(encoder: Encoder, folder: Path) -> dict[str, Any] | str:
    """Save `encoder` for transformers into `folder`, load it from there and compare. Returns what was done, or why nothing was.

    Raises:
        RunError: what was saved computes something else.
    """
    theirs = translate(encoder)
    if isinstance(theirs, str):
        return theirs
    with _quiet():
        theirs.model.save_pretrained(folder)
        if theirs.processor is not None:
            theirs.processor.save_pretrained(folder)
        again = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    x = example_of(encoder)
    with torch.no_grad():
        wanted, got = encoder(x).grid.flatten(1, -2), theirs.hidden(again, x)
    real = (
        x != encoder.vocabulary.pad
        if isinstance(encoder, TextBert | TextSeq2Seq)
        else torch.ones(wanted.shape[:2], dtype=torch.bool)
    )
    difference = (wanted - got)[real].abs().max().item()
    if not difference <= TOLERANCE * wanted.abs().max().item():
        raise RunError(
            f"{encoder.name} as transformers' {type(again).__name__} differs by {difference:.2g}; report it as a fault of mmssl"
        )
    return {"class": type(theirs.model).__name__, "max_abs": difference, "note": theirs.note}


def translate(encoder: Encoder) -> Theirs | str:
    """`encoder` as a model of transformers, or why there is none."""
    match encoder:
        case TextBert():
            return _bert(encoder)
        case TextSeq2Seq():
            return _seq2seq(encoder)
        case VideoViT():
            return _videomae(encoder)
        case AudioViT():
            return _ast(encoder)
    return f"transformers has no class of the architecture {encoder.name}"


def _bert(encoder: TextBert) -> Theirs:
    def hidden(model: Any, ids: Tensor) -> Tensor:
        return model(input_ids=ids, attention_mask=(ids != encoder.vocabulary.pad).long()).last_hidden_state

    pool = "the mean of last_hidden_state over real tokens" if encoder.pool == "mean" else "last_hidden_state[:, 0]"
    note = f"`pooled` of mmssl is {pool}; load with add_pooling_layer=False, the pooling layer was never trained"
    return Theirs(encoder.net, hidden, note, _tokenizer(encoder.vocabulary, encoder.spec.tokens, pairs=True))


def _seq2seq(encoder: TextSeq2Seq) -> Theirs | str:
    if encoder.writer is None or encoder.bias is None:
        return "it was built with decoder: false, and transformers has no class for the reading half alone"
    words = encoder.vocabulary
    state = {"model.shared.weight": encoder.embed.weight, "final_logits_bias": encoder.bias[None]}
    for side, part in (("encoder", encoder.reader), ("decoder", encoder.writer)):
        state |= {f"model.{side}.{key}": value for key, value in part.state_dict().items()}
    # The rest is the embedding again, which their model shares, and sines, which it makes.
    model = WRITERS[encoder.arguments["style"]](encoder.reader.config)
    wrong = model.load_state_dict({key: value.detach() for key, value in state.items()}, strict=False).unexpected_keys
    assert not wrong, wrong
    model.tie_weights()
    model.eval()
    ends = {"decoder_start_token_id": words.cls, "bos_token_id": words.cls, "eos_token_id": words.sep, "pad_token_id": words.pad}
    for settings in (model.config, model.generation_config):
        settings.forced_eos_token_id = None
        for key, value in ends.items():
            setattr(settings, key, value)
    model.generation_config.suppress_tokens = [number for number in words.special if number != words.sep]  # as `generate` here

    def hidden(model: Any, ids: Tensor) -> Tensor:
        return model.get_encoder()(input_ids=ids, attention_mask=(ids != words.pad).long()).last_hidden_state

    note = "`pooled` of mmssl is the mean of the encoder's last_hidden_state over real tokens; AutoModelForSeq2SeqLM writes"
    return Theirs(model, hidden, note, _tokenizer(words, encoder.spec.tokens, pairs=False))


def _videomae(encoder: VideoViT) -> Theirs:
    side, mean, std = encoder.spec.size, encoder.normalize.mean.tolist(), encoder.normalize.std.tolist()
    square = {"height": side, "width": side}
    processor = VideoMAEImageProcessor(do_center_crop=False, size=square, crop_size=square, image_mean=mean, image_std=std)

    def hidden(model: Any, pictures: Tensor) -> Tensor:
        return model(pixel_values=encoder.normalize(pictures)).last_hidden_state

    return Theirs(
        encoder.net,
        hidden,
        "`pooled` of mmssl is the mean of last_hidden_state; the image processor scales pictures as mmssl does",
        processor,
    )


def _ast(encoder: AudioViT) -> Theirs:
    def hidden(model: Any, wave: Tensor) -> Tensor:
        tokens = model(encoder.logmel(wave)).last_hidden_state[:, EXTRA:]  # band by band; the grid of mmssl is time first
        return tokens.unflatten(1, (encoder.cells[1], encoder.cells[0])).transpose(1, 2).flatten(1, 2)

    note = (
        "feed it mmssl's log-mel spectrogram (mmssl.nn.logmel.LogMel), not ASTFeatureExtractor's, whose bands, logarithm and scale differ; "
        "`pooled` of mmssl is the mean of last_hidden_state without its first two tokens"
    )
    return Theirs(encoder.net, hidden, note)


def _tokenizer(words: Vocabulary, longest: int, *, pairs: bool) -> PreTrainedTokenizerFast:
    words.core.no_truncation()
    names = {f"{role}_token": words.core.id_to_token(getattr(words, role)) for role in ("pad", "unk", "cls", "sep", "mask")}
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if pairs else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=words.core, model_max_length=longest, model_input_names=inputs, **names)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without their progress bars and their remarks on weights that AutoModel makes up (BERT's pooling layer)."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
