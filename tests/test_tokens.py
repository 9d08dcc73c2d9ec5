from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmssl.data.decode import answer, check
from mmssl.data.texts import corpus_texts
from mmssl.data.tokens import load_tokenizer, train_tokenizer
from mmssl.types import InputError, Source, Text
from mmssl.vocabulary import SPECIAL
from tests.tiny_text import SENTENCES, tokenizer_file


@pytest.fixture(scope="module")
def words():
    return load_tokenizer(tokenizer_file())


def test_training_gives_the_same_file_whatever_the_order_and_the_process(tmp_path):
    texts = list(SENTENCES) * 2 + [f"number {k} of {k * k}" for k in range(200)]
    one = train_tokenizer(texts, size=120)
    other = train_tokenizer(reversed(texts), tmp_path / "t.json", size=120)
    assert one.json == other.json
    assert load_tokenizer(tmp_path / "t.json").digest == one.digest
    code = (
        "import sys, json; from mmssl.data.tokens import train_tokenizer;"
        "print(train_tokenizer(json.load(sys.stdin), size=120).digest.hex())"
    )
    import json

    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == one.digest.hex()


def test_special_tokens_come_first_and_words_are_pieced(words):
    assert [words.core.token_to_id(name) for name in SPECIAL] == list(range(6))
    assert (words.pad, words.unk, words.cls, words.sep, words.mask, words.sent) == (0, 1, 2, 3, 4, 5)
    assert words.special == tuple(range(6))
    assert words.size <= 200
    assert len(words.continues) == words.size
    going_on = [words.core.id_to_token(k) for k, flag in enumerate(words.continues) if flag]
    assert going_on and all(token.startswith("##") for token in going_on)
    ids = words.ids("The quick FOX jumped", 20)
    assert ids[0] == words.cls and ids[ids.index(words.pad) - 1] == words.sep
    assert words.words(ids) == "the quick fox jumped"
    assert words.words(words.ids("snowman \u2603", 20)).startswith("snowman")
    assert words.unk in words.ids("\u2603", 20)


def test_length_is_met_by_cutting_and_padding_and_the_end_stays(words):
    for length in (4, 9, 64):
        ids = words.ids(SENTENCES[0], length)
        assert len(ids) == length
        assert ids.count(words.cls) == ids.count(words.sep) == 1
    assert words.ids(SENTENCES[0], 5)[-1] == words.sep
    pair = words.ids((SENTENCES[0], SENTENCES[1]), 12)
    assert len(pair) == 12 and pair.count(words.sep) == 2 and pair[-1] == words.sep


def test_special_tokens_may_stand_in_a_text_by_name(words):
    ids = words.ids("the [MASK] fox [SENT] dog", 12)
    assert ids[2] == words.mask and words.sent in ids
    assert train_tokenizer(["[MASK] [SENT] a b"], size=40).core.token_to_id("mask") is None


def test_the_names_of_published_tokenizers_are_understood(tmp_path):
    core = Tokenizer(models.WordLevel({"hello": 0, "\u0120world": 1, "world": 2, "x": 3}, unk_token="<unk>"))
    core.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(name, core.token_to_id(name)) for name in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    core.save(str(tmp_path / "tokenizer.json"))
    found = load_tokenizer(tmp_path)  # a folder
    assert (found.cls, found.pad) == (core.token_to_id("<s>"), core.token_to_id("<pad>"))
    assert found.mask == found.sent == core.token_to_id("<mask>")
    assert found.pad != 0
    ids = found.ids("hello [MASK] world", 8)
    assert ids[2] == found.mask and ids[-1] == found.pad
    assert found.size > max(found.special)
    flags = found.continues
    assert not flags[1] and flags[2]  # byte-level vocabularies mark beginnings


def test_requests_for_text_alone_open_no_file(words):
    request = Text(("the dog", ("a ball", "falls")), 16, tokenizer_file())
    found = answer(Source("a", Path("there is none.mp4")), [request, request])
    assert list(found) == [request]
    assert found[request].shape == (2, 16) and found[request].dtype == torch.int64
    assert found[request][0].tolist() == words.ids("the dog", 16)
    assert found[request][1].tolist() == words.ids(("a ball", "falls"), 16)
    assert (
        len(torch.unique(answer(Source("a", Path("none")), [Text(("",), 6, tokenizer_file())])[Text(("",), 6, tokenizer_file())]))
        == 3
    )


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Text((), 16, "t"), "no text"),
        (Text(("a",), 3, "t"), "3 tokens; a text has 4"),
        (Text(("a",), 16, ""), "names no tokenizer"),
    ],
)
def test_requests_that_make_no_sense_are_named(request_, says):
    with pytest.raises(InputError, match=says):
        check(request_)


def test_a_tokenizer_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no tokenizer"):
        load_tokenizer(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="is no tokenizer"):
        load_tokenizer(tmp_path / "bad.json")
    with pytest.raises(InputError, match="no file or folder, and the hub does not give it"):
        load_tokenizer("nobody/nothing")
    with pytest.raises(InputError, match="no words"):
        train_tokenizer(["", "  "])
    with pytest.raises(InputError, match="too small"):
        train_tokenizer(SENTENCES, size=20)


def test_a_changed_file_is_read_again_and_copies_work(tmp_path):
    path = tmp_path / "t.json"
    first = train_tokenizer(["aa bb"] * 9, path, size=60)
    assert load_tokenizer(path) is load_tokenizer(path)
    second = train_tokenizer(["ccc dddd"] * 9, path, size=60)
    assert load_tokenizer(path).digest == second.digest != first.digest
    assert copy.deepcopy(second).ids("ccc", 6) == second.ids("ccc", 6)


def test_texts_of_folders_files_and_subtitles(tmp_path):
    (tmp_path / "a.txt").write_text("One here. Two here.\n\nThree here.")
    (tmp_path / "b.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nA caption\n")
    seen = []
    texts = list(corpus_texts([tmp_path / "a.txt", tmp_path / "b.srt", tmp_path], on_source=lambda *n: seen.append(n)))
    assert texts == ["One here.", "Two here.", "Three here.", "A caption", "One here.", "Two here.", "Three here."]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="no file or folder"):
        list(corpus_texts([tmp_path / "none.txt"]))
    (tmp_path / "c.mp3").touch()
    with pytest.raises(InputError, match="no text by its suffix"):
        list(corpus_texts([tmp_path / "c.mp3"]))


def test_the_command_writes_a_tokenizer_and_says_so(tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(SENTENCES))
    command = [sys.executable, "-m", "mmssl", "tokenizer", str(tmp_path / "a.txt"), str(tmp_path / "w.json"), "--size", "90"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert "90 tokens from" in done.stdout and "5 sentences" in done.stdout
    assert load_tokenizer(tmp_path / "w.json").size == 90
    done = subprocess.run([*command[:-3], str(tmp_path / "w.txt")], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2 and "ends in .json" in done.stderr
