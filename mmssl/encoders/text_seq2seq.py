"""A transformer that reads a text and writes another, built from its configuration, or with weights by their name on the hub.

"bart": Lewis et al. 2020, "BART" (ACL 2020, arXiv:1910.13461); learnt positions, layer norms after each block. "pegasus": Zhang et al.
2020, "PEGASUS" (ICML 2020, arXiv:1912.08777); sine positions, layer norms before. By way of transformers' models.

N texts, L tokens read, T tokens written, D features, V vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BartConfig, BartModel, PegasusConfig, PegasusModel, PreTrainedModel

from mmssl.encoders.base import Encoder
from mmssl.nn.text import TokenizerSeal, attended, check_tokens, mean_of_valid
from mmssl.types import Features, InputError, InputSpec, Modality
from mmssl.vocabulary import TOKENIZER_FILE, load_tokenizer

Size = Literal["tiny", "small", "base"]
Style = Literal["bart", "pegasus"]
SHAPES = {"tiny": (128, 2, 4), "small": (384, 6, 6), "base": (768, 6, 12)}  # width, layers on each side, heads
MODELS: dict[str, tuple[type[Any], type[Any]]] = {"bart": (BartConfig, BartModel), "pegasus": (PegasusConfig, PegasusModel)}
SHAPE_KEYS = (
    "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim",
    "decoder_ffn_dim", "activation_function", "scale_embedding", "max_position_embeddings", "vocab_size",
)  # fmt: skip


class TextSeq2Seq(Encoder):
    """Token ids (N, L) -> pooled (N, D), the mean over the real tokens of the grid (N, L, D), valid (N, L); and `decode`, `generate`.

    Embeddings are shared by reading, writing and the output.

    Args:
        size: width and depth: "tiny" for two cores, "small" or "base".
        tokenizer: as in `text_bert`.
        style: where normalisation stands and how positions are told: BART's or PEGASUS's.
        tokens: of the longest text; shorter ones may come, padded or not.
        dropout: share of units that are left out in training.
        decoder: without it the model only reads. Objectives that do not write (masked_lm, next_sentence) must be given one without: a
            decoder that takes no part in a step has no gradients, on which DDP stops.
        weights: as in `text_bert` ("facebook/bart-base", "google/pegasus-large").
        config: further values of transformers' `BartConfig` or `PegasusConfig`.

    Raises:
        InputError: where the tokenizer or the weights cannot be had.
        ValueError: for arguments that do not fit one another.
    """

    modality: ClassVar[Modality] = "text"

    def __init__(
        self,
        *,
        size: Size = "base",
        tokenizer: str | None = None,
        style: Style = "bart",
        tokens: int = 256,
        dropout: float = 0.1,
        decoder: bool = True,
        weights: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        if size not in SHAPES or style not in MODELS:
            raise ValueError(
                f"size must be one of {', '.join(SHAPES)} and style one of {', '.join(MODELS)}, got {size!r}, {style!r}"
            )
        chosen = tokenizer or weights
        if chosen is None:
            raise InputError(
                "text_seq2seq needs a tokenizer: `mmssl tokenizer FOLDER tokenizer.json` makes one; then tokenizer: tokenizer.json"
            )
        vocabulary = load_tokenizer(chosen)
        published = None if weights is None else _published(weights, style)
        if published is not None:
            config = {key: getattr(published.config, key) for key in SHAPE_KEYS}
            tokens = min(tokens, published.config.max_position_embeddings)
        config = dict(config or {})
        whole = _shape(size, vocabulary.size, tokens) | config
        arguments = {"size": size, "style": style, "tokens": tokens, "dropout": dropout, "decoder": decoder, "config": config}
        super().__init__(
            dim=whole["d_model"],
            spec=InputSpec(tokens=tokens, tokenizer=chosen),
            arguments=arguments | {"tokenizer": chosen},
            attached={"tokenizer": (TOKENIZER_FILE, vocabulary.json)},
        )
        if whole["vocab_size"] < vocabulary.size:
            raise InputError(
                f"the tokenizer {chosen} has {vocabulary.size} tokens, the weights know {whole['vocab_size']}; give their own tokenizer"
            )
        self.vocabulary = vocabulary
        self.seal = TokenizerSeal(vocabulary)
        config_class, model_class = MODELS[style]
        model = model_class(
            config_class(**whole, dropout=dropout, attention_dropout=0.0, pad_token_id=vocabulary.pad, use_cache=False)
        )
        if published is not None:
            model.load_state_dict(published.state_dict())
        # The parts, not the model: its embedding would stand in the state four times under as many names.
        self.embed = nn.Embedding(whole["vocab_size"], self.dim, padding_idx=vocabulary.pad)
        self.embed.weight = model.shared.weight
        self.scale = self.dim**0.5 if model.config.scale_embedding else 1.0
        self.reader, self.writer = model.encoder, model.decoder if decoder else None
        for part in (self.reader, self.writer):
            if part is not None:
                part.embed_tokens = nn.Identity()
                part.embed_scale = 1.0  # what is embedded comes scaled; Pegasus's decoder would do it again
        self.bias = nn.Parameter(torch.zeros(whole["vocab_size"])) if decoder else None

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """Read. Raises `ValueError` for a wrong shape, type or length."""
        check_tokens(x, tokens=self.spec.tokens)
        valid = x != self.vocabulary.pad if valid is None else valid
        read = self.reader(inputs_embeds=self._embedded(x), attention_mask=attended(valid))
        grid = read.last_hidden_state.contiguous()
        return Features(mean_of_valid(grid, valid), grid, valid)

    def decode(self, features: Features, written: Tensor) -> Tensor:
        """Logits (N, T, V) of the token after each of `written` (N, T), given all of the text that was read and what stands before.

        Raises `ValueError` where the model was built without a decoder, or for a wrong shape, type or length.
        """
        if self.writer is None or self.bias is None:
            raise ValueError("this model was built with decoder: false, so it cannot write; build it with decoder: true")
        check_tokens(written, tokens=self.spec.tokens)
        assert features.valid is not None
        hidden = self.writer(
            inputs_embeds=self._embedded(written),
            encoder_hidden_states=features.grid,
            encoder_attention_mask=attended(features.valid),
        ).last_hidden_state
        return F.linear(hidden, self.embed.weight, self.bias)

    @torch.no_grad()
    def generate(self, x: Tensor, *, length: int) -> Tensor:
        """What the model writes on (N, L): ids (N, length) that begin with cls, the likeliest token each time, padded after sep."""
        features = self(x)
        words = self.vocabulary
        written = torch.full((len(x), 1), words.cls, dtype=torch.int64, device=x.device)
        ended = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        banned = torch.tensor([number for number in words.special if number != words.sep], device=x.device)
        for _ in range(length - 1):
            logits = self.decode(features, written)[:, -1].index_fill(1, banned, float("-inf"))
            following = logits.argmax(dim=1).masked_fill(ended, words.pad)
            ended = ended | (following == words.sep)
            written = torch.cat([written, following[:, None]], dim=1)
        return written

    def _embedded(self, x: Tensor) -> Tensor:
        return self.embed(x) * self.scale


def _shape(size: str, vocabulary: int, tokens: int) -> dict[str, Any]:
    width, layers, heads = SHAPES[size]
    both = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", 4 * width))
    }
    return {"d_model": width, "vocab_size": vocabulary, "max_position_embeddings": tokens, "init_std": 0.02, **both}


def _published(name: str, style: str) -> PreTrainedModel:
    try:
        return MODELS[style][1].from_pretrained(name)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"the weights {name!r} cannot be had ({reason}); go online, give a {style} of the hub, or leave out weights to start from random ones"
        ) from error
