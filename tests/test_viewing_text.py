from __future__ import annotations

from pathlib import Path

from PIL import Image

from mmssl import viewing
from mmssl.data.loader import Loader
from mmssl.data.stream import Stream
from mmssl.objectives.gap_sentences import GapViews
from mmssl.types import Cue, Source
from tests.tiny_text import SENTENCES, tokenizer_file


def test_texts_are_shown_decoded_with_their_masks(tmp_path, monkeypatch):
    cues = tuple(Cue(k, k + 1, text) for k, text in enumerate(SENTENCES))
    sources = [Source(f"d{k}", Path("none.txt"), cues=cues) for k in range(2)]
    views = GapViews(length=48, target_length=24, keep=0.0, tokenizer=tokenizer_file())
    stream = Stream(sources, {"gap_sentences": views}, seed=0, batch=2)
    drawn: list[str] = []
    real = viewing._text_image
    monkeypatch.setattr(viewing, "_text_image", lambda lines, size: (drawn.extend(lines), real(lines, size))[1])
    out = viewing.batch_sheet(next(Loader([stream]).steps(0, 1)), [stream], tmp_path / "v.png")
    with Image.open(out) as sheet:
        assert sheet.width > 100
    documents = [line for line in drawn if line.startswith("document: [CLS]")]
    assert len(documents) == 2 and all("[SENT]" in line and "[PAD]" not in line for line in documents)
    targets = [line for line in drawn if line.startswith("target: [CLS]")]
    assert len(targets) == 2 and all(line.endswith("[SEP]") for line in targets)


def test_long_clips_go_on_in_the_next_line():
    def pictures(count: int) -> list[Image.Image]:
        return [Image.new("RGB", (viewing.PICTURE, 4)) for _ in range(count)]

    def counts(*keys: int) -> list[int]:
        return [len(line) for line in viewing._lines([pictures(count) for count in keys])]

    assert counts() == [] and counts(0) == []
    assert counts(4, 2, 4) == [10]  # all in one line
    assert counts(8, 8) == [8, 8]  # each key its own
    assert counts(25, 1) == [11, 11, 3, 1]
    wide = Image.new("RGB", (2 * viewing.ACROSS, 4))
    assert viewing._lines([[wide, wide]]) == [[wide], [wide]]
