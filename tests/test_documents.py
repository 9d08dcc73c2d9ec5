from __future__ import annotations

import pytest

from mmssl.data.documents import SECTION_WORDS, parse_document, read_document, split_sentences
from mmssl.data.index import default_manifest, index_folder, open_corpus
from mmssl.types import Cue, InputError, MediaError


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One two. Three four! Five?  Six", ["One two.", "Three four!", "Five?", "Six"]),
        ("He met Mr. Smith and Dr. No. They spoke.", ["He met Mr. Smith and Dr. No.", "They spoke."]),
        ("Was it No. 10? No. It was 12.", ["Was it No. 10?", "No.", "It was 12."]),
        ('"Go!" he said. "Why?" Because I. Yes', ['"Go!" he said.', '"Why?"', "Because I.", "Yes"]),
        ("J. K. Rowling ate 3.5 pies... Then left.", ["J. K. Rowling ate 3.5 pies...", "Then left."]),
        ("See fig. 2 of it. 1984 came.", ["See fig. 2 of it.", "1984 came."]),
        ("Homarus , H. gammarus . It grows to 60 cm ( 24 in ) .", ["Homarus , H. gammarus .", "It grows to 60 cm ( 24 in ) ."]),
        ("three\nlines of\n one sentence.", ["three lines of one sentence."]),
        ("* * * . 123.", []),
        ("e.g. This goes on. vs. That", ["e.g. This goes on. vs. That"]),
    ],
)
def test_sentences_end_where_they_end(text, sentences):
    assert split_sentences(text) == sentences


def paragraphs(text: str, **options) -> list[list[tuple[str, ...]]]:
    return [list(section.paragraphs) for section in parse_document(text, **options)]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("# Title\n## A\nOne.\n\nTwo. Three.\n# Other\nFour.", True),
        ("Title\n=====\n\nA\n---\n\nOne.\n\nTwo. Three.\n\nOther\n=====\n\nFour.", False),
        (" = Title = \n \n = = A = = \n \n One. \n \n Two. Three. \n \n = Other = \n \n Four. \n", False),
        ("CHAPTER I. Title\n\nOne.\n\nTwo. Three.\n\nChapter 2\n\nFour.", False),
        ("I. THE TITLE\n\nI.\n\nOne.\n\nTwo. Three.\n\nII. THE OTHER\n\nFour.", False),
    ],
)
def test_sections_begin_at_the_highest_headings_only(text, markdown):
    assert paragraphs(text, markdown=markdown) == [[("One.",), ("Two.", "Three.")], [("Four.",)]]


def test_cues_count_sentences_and_gaps_are_paragraphs():
    (section,) = parse_document("One. Two.\n\nThree.")
    assert section.cues == (Cue(0, 1, "One."), Cue(1, 2, "Two."), Cue(3, 4, "Three."))


def test_a_licence_comes_off_and_rare_words_are_unknown():
    text = "Licence.\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\nA <unk> word.\n\nEnd of Project Gutenberg's X\n\nMore licence."
    assert paragraphs(text) == [[("A [UNK] word.",)]]


def test_long_sections_are_parted_at_paragraphs():
    paragraph = " ".join(["word"] * 99) + " End."
    (whole,) = parse_document("\n\n".join([paragraph] * 12))
    assert (whole.number, whole.part, len(whole.paragraphs)) == (1, 1, 12)  # a rest of two stays with the ten before
    parts = parse_document("\n\n".join([paragraph] * 25))
    assert [(p.number, p.part, len(p.paragraphs)) for p in parts] == [(1, 1, 10), (1, 2, 10), (1, 3, 5)]
    assert SECTION_WORDS == 1000


def test_files_that_give_nothing_say_why(tmp_path):
    (tmp_path / "binary.txt").write_bytes(bytes([0, 1, 2, 0, 0, 0, 255, 254, 0, 0]) * 50)
    (tmp_path / "numbers.txt").write_text("1 2 3\n\n# 4")
    for name, reason in (("binary", "binary data, not text"), ("numbers", "no sentence"), ("none", "cannot be read")):
        with pytest.raises(MediaError, match=reason):
            read_document(tmp_path / f"{name}.txt")
    (tmp_path / "latin.txt").write_bytes("Das ist für Übermütige schön. Und dann aß er Käse über Käse.".encode("cp1252"))
    assert read_document(tmp_path / "latin.txt")[0].cues[1].text == "Und dann aß er Käse über Käse."


@pytest.fixture
def library(tmp_path):
    root = tmp_path / "books"
    (root / "deep").mkdir(parents=True)
    (root / "novel.txt").write_text("Chapter 1\n\nIt began. It went on.\n\nChapter 2\n\nIt ended.")
    (root / "deep" / "note.md").write_text("# Note\nJust this. And that.")
    (root / "bad.txt").write_bytes(bytes(range(256)) * 4 + bytes(2000))
    (root / "empty.txt").touch()
    (root / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nNo document\n")
    (root / ".hidden.txt").write_text("Not seen.")
    return root


def test_a_folder_of_text_is_a_corpus(library):
    corpus = open_corpus(library, progress=False)
    assert corpus.ids == ("deep/note", "novel#001.01", "novel#002.01")
    assert corpus.rejected == {"bad": "binary data, not text", "empty": "empty file"}
    novel = corpus[1]
    assert (novel.has_video, novel.has_audio, novel.path) == (False, False, library.resolve() / "novel.txt")
    assert [cue.text for cue in novel.cues] == ["It began.", "It went on."]
    summary = corpus.summary()
    assert (summary.usable, summary.texts, summary.rejected, summary.ignored) == (3, 3, 2, 2)
    assert (summary.silent, summary.with_sound, summary.audio_only, summary.with_subtitles) == (0, 0, 0, 0)


def test_text_beside_media_is_ignored_unless_asked_for(library, tmp_path):
    (library / "film.mp4").write_text("Not a film.")
    manifest = index_folder(library, progress=False, workers=1)
    assert not len(manifest) and list(manifest.rejected) == ["film"]
    texts = index_folder(library, progress=False, kind="text")
    assert len(texts) == 3
    assert texts.path == default_manifest(library, "text") != default_manifest(library)
    with pytest.raises(InputError, match="there are no text files in"):
        (tmp_path / "void").mkdir()
        open_corpus(tmp_path / "void", progress=False, kind="text")


def test_only_changed_texts_are_read_again(library, monkeypatch):
    before = open_corpus(library, progress=False)
    read = []
    from mmssl.data import index_texts

    real = index_texts.read_document
    monkeypatch.setattr(index_texts, "read_document", lambda path: (read.append(path.name), real(path))[1])
    assert open_corpus(library, progress=False).sha256 == before.sha256
    assert read == ["bad.txt"]
    (library / "deep" / "note.md").write_text("# Note\nJust this. And something else.")
    after = open_corpus(library, progress=False)
    assert read == ["bad.txt", "bad.txt", "note.md"]
    assert after.sha256 != before.sha256
    assert after.ids == before.ids


def test_real_texts_give_sentences(media):
    sections = {path.stem: read_document(path) for path in sorted((media / "text").glob("*.txt"))}
    assert {name: max(section.number for section in found) for name, found in sections.items()} == {
        "gutenberg_11_alice": 13,
        "gutenberg_1661_sherlock": 13,
        "wikitext2_valid": 60,
    }
    for found in sections.values():
        sentences = [cue.text for section in found for cue in section.cues]
        assert 14 < sum(len(sentence.split()) for sentence in sentences) / len(sentences) < 28
        assert not any("Project Gutenberg License" in sentence for sentence in sentences)
