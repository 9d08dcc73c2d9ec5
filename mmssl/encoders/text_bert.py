"""A bidirectional transformer on token ids, built from its configuration, or with weights by their name on the hub.

Devlin et al. 2019, "BERT" (NAACL 2019, arXiv:1810.04805), by way of transformers' `BertModel` without its pooling layer.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from mmssl.encoders.base import Encoder
from mmssl.nn.text import TokenizerSeal, attended, check_tokens, mean_of_valid, segments
from mmssl.types import Features, InputError, InputSpec, Modality
from mmssl.vocabulary import TOKENIZER_FILE, load_tokenizer

Size = Literal["tiny", "small", "base"]
SHAPES = {"tiny": (128, 4, 4), "small": (384, 12, 6), "base": (768, 12, 12)}  # width, layers, heads
# What of a published configuration decides the shape of the weights, and what they compute.
SHAPE_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps")


class TextBert(Encoder):
    """Token ids (N, L) -> pooled (N, D), grid (N, L, D), valid (N, L).

    Padding is told by its id where `valid` is not given. The two texts of a pair are told apart by the separator between them.
    Every parameter takes part in `forward`, so DDP and FSDP2 need nothing special.

    Args:
        size: width and depth: "tiny" for two cores, "small" or "base".
        tokenizer: a path, or a name on the hub, see `load_tokenizer`; it sets the size of the vocabulary, and a saved encoder carries it.
        tokens: of the longest text; shorter ones may come, padded or not.
        dropout: share of units that are left out in training.
        pool: "mean" over the real tokens, or "cls", the first token (BERT's).
        weights: a BERT on the hub, for who is online ("bert-base-uncased"); it brings its own shape and tokenizer, and `size` says
            nothing then.
        config: further values of transformers' `BertConfig`.

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
        tokens: int = 128,
        dropout: float = 0.1,
        pool: Literal["mean", "cls"] = "mean",
        weights: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        if size not in SHAPES:
            raise ValueError(f"size must be one of {', '.join(SHAPES)}, got {size!r}")
        chosen = tokenizer or weights
        if chosen is None:
            raise InputError(
                "text_bert needs a tokenizer: `mmssl tokenizer FOLDER tokenizer.json` makes one; then tokenizer: tokenizer.json"
            )
        vocabulary = load_tokenizer(chosen)
        published = None if weights is None else _published(weights)
        if published is not None:
            tokens = min(tokens, published.config.max_position_embeddings)
            config = {key: getattr(published.config, key) for key in SHAPE_KEYS} | {
                "max_position_embeddings": published.config.max_position_embeddings,
                "vocab_size": published.config.vocab_size,
            }
        config = dict(config or {})
        width, layers, heads = SHAPES[size]
        shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * width}
        whole = {"vocab_size": vocabulary.size, "max_position_embeddings": tokens, **shape, **config}
        arguments = {"size": size, "tokens": tokens, "dropout": dropout, "pool": pool, "config": config, "tokenizer": chosen}
        super().__init__(
            dim=whole["hidden_size"],
            spec=InputSpec(tokens=tokens, tokenizer=chosen),
            arguments=arguments,
            attached={"tokenizer": (TOKENIZER_FILE, vocabulary.json)},
        )
        if whole["vocab_size"] < vocabulary.size:
            raise InputError(
                f"the tokenizer {chosen} has {vocabulary.size} tokens, the weights know {whole['vocab_size']}; give their own tokenizer"
            )
        self.vocabulary, self.pool = vocabulary, pool
        self.seal = TokenizerSeal(vocabulary)
        self.net = BertModel(
            BertConfig(**whole, pad_token_id=vocabulary.pad, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout),
            add_pooling_layer=False,
        )
        if published is not None:
            self.net.load_state_dict(published.state_dict())

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        """See the class. Raises `ValueError` for a wrong shape, type or length."""
        check_tokens(x, tokens=self.spec.tokens)
        valid = x != self.vocabulary.pad if valid is None else valid
        # Positions are given: the model's own lie in a buffer that no checkpoint holds.
        hidden = self.net(
            input_ids=x,
            attention_mask=attended(valid),
            token_type_ids=segments(x, self.vocabulary.sep),
            position_ids=torch.arange(x.shape[1], device=x.device)[None],
        ).last_hidden_state
        grid = hidden.contiguous()
        pooled = mean_of_valid(grid, valid) if self.pool == "mean" else grid[:, 0].clone()
        return Features(pooled, grid, valid)


def _published(name: str) -> BertModel:
    try:
        return BertModel.from_pretrained(name, add_pooling_layer=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"the weights {name!r} cannot be had ({reason}); go online, give a BERT of the hub, or leave out weights to start from random ones"
        ) from error
