"""Encoders as transformers' own classes load them, compared through that library's public ways in (tokenizer, processor, generate)."""

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

from mmssl.encoders.base import build_encoder
from mmssl.export import theirs
from mmssl.export.theirs import write_theirs
from mmssl.training.errors import RunError
from tests.test_encoders import build, inputs
from tests.tiny_text import tokenizer_file


def equal(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_bert_reads_pairs_with_its_tokenizer(tmp_path):
    encoder = build("text_bert", "tiny")
    assert write_theirs(encoder, tmp_path)["class"] == "BertModel"
    model, tokenizer = (
        AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval(),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    batch = tokenizer("The ball bounces.", "It rolls away.", return_tensors="pt")
    assert batch["input_ids"][0].tolist() == encoder.vocabulary.ids(
        ("The ball bounces.", "It rolls away."), batch["input_ids"].shape[1]
    )
    equal(model(**batch).last_hidden_state, encoder(batch["input_ids"]).grid)


@torch.no_grad()
@pytest.mark.parametrize("style", ["bart", "pegasus"])
def test_what_reads_and_writes_writes_the_same_there(style, tmp_path):
    torch.manual_seed(4)
    encoder = build_encoder("text_seq2seq", {"size": "tiny", "tokenizer": tokenizer_file(), "tokens": 16, "style": style}).eval()
    for parameter in encoder.parameters():  # an untrained writer says the same token for ever; this one babbles
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(encoder.bias, std=0.3)
    told = write_theirs(encoder, tmp_path)
    assert told["class"].endswith("ForConditionalGeneration") and told["max_abs"] < 1e-5
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(["A red ball falls.", "It rolls away, quickly."], padding=True, return_tensors="pt")
    written = torch.randint(6, encoder.vocabulary.size, (2, 7), generator=torch.Generator().manual_seed(0))
    features = encoder(batch["input_ids"])
    equal(model.get_encoder()(**batch).last_hidden_state, features.grid)
    equal(model(**batch, decoder_input_ids=written).logits, encoder.decode(features, written))
    ours = encoder.generate(batch["input_ids"], length=8)
    assert torch.equal(model.generate(**batch, max_length=8, num_beams=1, do_sample=False), ours)
    assert len(ours.unique()) > 2


@torch.no_grad()
def test_videomae_takes_pictures_through_its_processor(tmp_path):
    encoder, clips = build("video_vit", "tiny"), inputs(build("video_vit", "tiny"))
    write_theirs(encoder, tmp_path)
    model, processor = AutoModel.from_pretrained(tmp_path).eval(), AutoImageProcessor.from_pretrained(tmp_path)
    frames = [[np.asarray(frame) for frame in clip.permute(0, 2, 3, 1)] for clip in clips]
    equal(model(**processor(frames, return_tensors="pt")).last_hidden_state, encoder(clips).grid.flatten(1, 3))


@torch.no_grad()
def test_ast_takes_our_spectrogram(tmp_path):
    encoder = build("audio_vit", "tiny")
    waves = inputs(encoder)
    assert "not ASTFeatureExtractor's" in write_theirs(encoder, tmp_path)["note"]
    model = AutoModel.from_pretrained(tmp_path).eval()
    equal(model(encoder.logmel(waves)).last_hidden_state[:, 2:].mean(1), encoder(waves).pooled)


def test_what_is_not_theirs_is_said(tmp_path):
    assert write_theirs(build("frame_resnet", "tiny"), tmp_path) == "transformers has no class of the architecture frame_resnet"
    assert "decoder: false" in write_theirs(build("text_seq2seq", "tiny"), tmp_path)  # the tests' builder leaves the writer out
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_translation_is_seen(tmp_path, monkeypatch):
    encoder = build("video_vit", "tiny")
    right = theirs.translate(encoder)
    wrong = theirs.Theirs(right.model, lambda model, x: 1.001 * right.hidden(model, x), right.note)
    monkeypatch.setattr(theirs, "translate", lambda encoder: wrong)
    with pytest.raises(RunError, match="differs by"):
        write_theirs(encoder, tmp_path)
    assert logging.get_verbosity() == logging.WARNING  # as it was
