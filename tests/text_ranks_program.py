"""What `torchrun` starts in test_text_parallel.py: gradients of reading and writing on two ranks; no test itself."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor

from mmssl.encoders.base import build_encoder
from mmssl.objectives.base import objective_class
from mmssl.training.model import Pretraining
from mmssl.training.parallel import Ranks, join_ranks, leave_ranks, wrap
from mmssl.training.shards import whole
from mmssl.vocabulary import load_tokenizer

ROWS = 4


def model_of(words: str) -> Pretraining:
    torch.manual_seed(0)
    encoder = build_encoder("text_seq2seq", {"size": "tiny", "tokenizer": words, "tokens": 16, "dropout": 0.0})
    encoders = {"text": encoder}
    return Pretraining(encoders, {"gap_sentences": objective_class("gap_sentences")(encoders=encoders)})


def rows(words: str, rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """Targets of equal length, so that the mean over ranks is the mean over rows."""
    vocabulary = load_tokenizer(words)
    texts = ["the quick fox", "the lazy dog", "a red ball", "two green cubes"]
    document, target = (
        torch.tensor([vocabulary.ids(text, length) for text in texts[rank::world]])[:, None] for length in (12, 8)
    )
    return {"gap_sentences": {"document": document, "target": target, "source": torch.arange(ROWS)[rank::world]}}


def gradients(model: Pretraining, words: str, parallel: str, ranks: Ranks) -> dict[str, Tensor]:
    """After one forward and backward pass, whole."""
    module = wrap(model, parallel, ranks)  # type: ignore[arg-type]
    module(rows(words, ranks.rank, ranks.world))[0].backward()
    return {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def main(out: Path, words: str) -> None:
    warnings.simplefilter("error", UserWarning)
    ranks = join_ranks("ddp", "cpu")
    for parallel in ("ddp", "fsdp"):
        found = gradients(model_of(words), words, parallel, ranks)
        if ranks.first:
            torch.save(found, out / f"{parallel}.pt")
    leave_ranks()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
