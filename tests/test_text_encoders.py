"""What is special to encoders of text; the contract of all encoders is in test_encoders.py."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BartConfig, BartModel, BertConfig, BertModel, PegasusConfig, PegasusModel

from mmssl.data.tokens import load_tokenizer, train_tokenizer
from mmssl.encoders.base import Encoder, build_encoder
from mmssl.training.model import blocks_of
from mmssl.types import InputError
from tests.tiny_text import SENTENCES, tokenizer_file

NAMES = ("text_bert", "text_seq2seq")
each = pytest.mark.parametrize("name", NAMES)


def build(name: str, **more) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(name, {"size": "tiny", "tokenizer": tokenizer_file(), "tokens": 24, **more}).eval()


def ids(length: int = 16) -> torch.Tensor:
    words = load_tokenizer(tokenizer_file())
    return torch.tensor([words.ids("the lazy dog jumps", length), words.ids((SENTENCES[0][:20], "two cubes"), length)])


@each
def test_padding_is_not_seen(name):
    encoder = build(name)
    x = ids(20)
    with torch.no_grad():
        long, short = encoder(x), encoder(x[:, :16])
        told = encoder(x[:, :16], valid=x[:, :16] != 0)
    real = x[:, :16] != 0
    assert (x[:, 16:] == 0).all() and not real.all()
    torch.testing.assert_close(long.grid[:, :16][real], short.grid[real], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(long.pooled, short.pooled, rtol=1e-4, atol=1e-5)
    assert torch.equal(short.valid, real) and torch.equal(told.grid, short.grid)
    expected = torch.stack([row[keep].mean(0) for row, keep in zip(short.grid, real, strict=True)])
    torch.testing.assert_close(short.pooled, expected, rtol=1e-4, atol=1e-5)


@each
def test_a_row_of_padding_gives_numbers(name):
    features = build(name)(torch.zeros(2, 8, dtype=torch.int64))
    assert features.grid.isfinite().all()
    assert (features.pooled == 0).all()


def test_the_second_text_of_a_pair_is_told_by_the_separator():
    encoder = build("text_bert")
    x = ids()
    seen = []
    encoder.net.embeddings.register_forward_pre_hook(lambda m, a, k: seen.append(k["token_type_ids"]), with_kwargs=True)
    encoder(x)
    sep = encoder.vocabulary.sep
    for row, types in zip(x.tolist(), seen[0].tolist(), strict=True):
        first = row.index(sep)
        assert types == [int(place > first) for place in range(len(row))]


def test_cls_pooling_takes_the_first_token():
    features = build("text_bert", pool="cls")(ids())
    assert torch.equal(features.pooled, features.grid[:, 0])


@each
def test_a_saved_folder_is_all_that_is_needed(name, tmp_path):
    words = tmp_path / "w.json"
    words.write_text(Path(tokenizer_file()).read_text())
    encoder = build(name, tokenizer=str(words))
    encoder.save_pretrained(tmp_path / "saved")
    words.unlink()
    (tmp_path / "saved").rename(tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    assert config["arguments"]["tokenizer"] == "tokenizer.json"
    again = Encoder.from_pretrained(tmp_path / "moved").eval()
    assert again.spec.tokenizer == str(tmp_path / "moved" / "tokenizer.json")
    assert load_tokenizer(again.spec.tokenizer).digest == encoder.vocabulary.digest
    assert torch.equal(again(ids()).grid, encoder(ids()).grid)
    again.save_pretrained(tmp_path / "twice")
    assert torch.equal(Encoder.from_pretrained(tmp_path / "twice").eval()(ids()).grid, encoder(ids()).grid)


@each
def test_weights_refuse_another_tokenizer(name, tmp_path):
    """As many tokens, other words."""
    own = load_tokenizer(tokenizer_file())
    other = json.loads(own.json)
    vocabulary = other["model"]["vocab"]
    a, b = [token for token, number in vocabulary.items() if number > 100][:2]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    Tokenizer.from_str(json.dumps(other)).save(str(tmp_path / "other.json"))
    encoder = build(name)
    changed = build(name, tokenizer=str(tmp_path / "other.json"))
    with pytest.raises(RuntimeError, match="another tokenizer"):
        changed.load_state_dict(encoder.state_dict())
    encoder.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer.json").write_text((tmp_path / "other.json").read_text())
    with pytest.raises(InputError, match="another tokenizer"):
        Encoder.from_pretrained(tmp_path / "saved")


@each
def test_an_export_goes_over_a_copy_without_values(name):
    encoder = build(name)
    blank = copy.deepcopy(encoder).to("meta").to_empty(device="cpu")
    blank.load_state_dict(encoder.state_dict())
    assert torch.equal(blank.eval()(ids()).grid, encoder(ids()).grid)


@each
def test_layers_are_found_as_blocks(name):
    assert len(blocks_of(build(name))) == 4


def test_a_tokenizer_is_asked_for():
    for name in NAMES:
        with pytest.raises(InputError, match="needs a tokenizer"):
            build(name, tokenizer=None)
        with pytest.raises(InputError, match="cannot be had"):
            build(name, weights="nobody/nothing")


# Writing -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["bart", "pegasus"])
def test_every_trainable_parameter_takes_part_in_writing(style):
    encoder = build("text_seq2seq", style=style).train()
    x = ids()
    encoder.decode(encoder(x), x[:, :-1]).square().mean().backward()
    without = [key for key, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    keys = [key for key in encoder.state_dict() if "embed.weight" in key or "embed_tokens" in key or "shared" in key]
    assert keys == ["embed.weight"]  # one embedding for reading, writing and the output


@pytest.mark.parametrize("style", ["bart", "pegasus"])
def test_writing_sees_what_was_read_and_nothing_ahead(style):
    encoder = build("text_seq2seq", style=style)
    x = ids()
    with torch.no_grad():
        features = encoder(x)
        logits = encoder.decode(features, x)
        assert logits.shape == (2, 16, encoder.vocabulary.size)
        changed = x.clone()
        changed[:, 7:] = 9
        torch.testing.assert_close(encoder.decode(features, changed)[:, :7], logits[:, :7], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(encoder.decode(features, changed)[:, 8:], logits[:, 8:], atol=1e-3)
        assert not torch.allclose(encoder.decode(encoder(x.flip(0)), x), logits, atol=1e-3)
        padded = encoder(torch.cat([x, torch.zeros(2, 6, dtype=torch.int64)], dim=1))
        torch.testing.assert_close(encoder.decode(padded, x), logits, rtol=1e-3, atol=1e-4)


def test_what_is_generated_is_the_likeliest_and_ends():
    encoder = build("text_seq2seq")
    words = encoder.vocabulary
    with torch.no_grad():
        encoder.bias[words.mask] = 50.0  # never written, however likely
        written = encoder.generate(ids(), length=9)
        assert written.shape == (2, 9) and (written[:, 0] == words.cls).all()
        assert not (written[:, 1:] == words.mask).any()
        logits = encoder.decode(encoder(ids()), written[:, :-1])
        logits[..., [k for k in words.special if k != words.sep]] = float("-inf")
        assert torch.equal(logits.argmax(-1), written[:, 1:])
        encoder.bias[words.sep] = 60.0
        assert encoder.generate(ids(), length=5).tolist() == [[words.cls, words.sep, 0, 0, 0]] * 2


def test_without_a_decoder_it_only_reads():
    encoder = build("text_seq2seq", decoder=False)
    assert not any(key.startswith("writer") for key, _ in encoder.named_parameters())
    with pytest.raises(ValueError, match="cannot write"):
        encoder.decode(encoder(ids()), ids())


@each
def test_the_vocabulary_sets_the_embedding(name, tmp_path):
    made = train_tokenizer(SENTENCES * 3, tmp_path / "t.json", size=100)
    encoder = build(name, tokenizer=str(tmp_path / "t.json"))
    table = encoder.net.embeddings.word_embeddings if name == "text_bert" else encoder.embed
    assert table.num_embeddings == made.size == 100


# Published weights: a folder as the hub gives it, made here -----------------------------------------------------------------


def published(folder: Path, style: str):
    """A small transformers model with its tokenizer in `folder`."""
    words = load_tokenizer(tokenizer_file())
    torch.manual_seed(1)
    if style == "bert":
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
        model = BertModel(BertConfig(vocab_size=words.size + 3, max_position_embeddings=40, **shape), add_pooling_layer=False)
    else:
        both = {
            f"{side}_{key}": n
            for side in ("encoder", "decoder")
            for key, n in {"layers": 2, "attention_heads": 2, "ffn_dim": 48}.items()
        }
        config, made = {"bart": (BartConfig, BartModel), "pegasus": (PegasusConfig, PegasusModel)}[style]
        model = made(
            config(vocab_size=words.size, d_model=32, max_position_embeddings=40, scale_embedding=style == "pegasus", **both)
        )
    model.eval().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(words.json)
    return model


@pytest.mark.parametrize("style", ["bert", "bart", "pegasus"])
def test_published_weights_compute_what_they_did_and_are_saved_with_the_encoder(style, tmp_path):
    model = published(tmp_path / "hub", style)
    more = {} if style == "bert" else {"style": style}
    encoder = build_encoder(
        "text_bert" if style == "bert" else "text_seq2seq", {"weights": str(tmp_path / "hub"), "tokens": 24, **more}
    ).eval()
    assert (encoder.dim, encoder.spec.tokens) == (32, 24)
    x = ids()
    given = {"input_ids": x, "attention_mask": (x != 0).long()}
    with torch.no_grad():
        features = encoder(x)
        if style == "bert":
            expected = model(**given).last_hidden_state[:1]  # the first text is no pair
            torch.testing.assert_close(features.grid[:1][x[:1] != 0], expected[x[:1] != 0])
        else:
            expected = model(**given, decoder_input_ids=x)
            torch.testing.assert_close(features.grid[x != 0], expected.encoder_last_hidden_state[x != 0])
            torch.testing.assert_close(encoder.decode(features, x), expected.last_hidden_state @ model.shared.weight.T)
    encoder.save_pretrained(tmp_path / "saved")
    (tmp_path / "hub").rename(tmp_path / "gone")
    again = Encoder.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(again(x).grid, features.grid)
