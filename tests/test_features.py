import json

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from mmssl.downstream import features
from mmssl.downstream.digest import weights_digest
from mmssl.downstream.encoder_space import encoder_space, features_space
from mmssl.downstream.features import Question, extract
from mmssl.downstream.windows import windows
from mmssl.objectives.base import objective_class
from mmssl.types import InputError, Source, Span
from tests.fake_world import HIGH, LOW, squares, tone, write_film
from tests.test_spaces import colour_space
from tests.tiny_av import build, tiny_for

BOTH = Question(("video", "audio"), 0.5, False)


def film(folder, name, *, low=True, seconds=2.0, sound=True):
    path = write_film(
        folder / f"{name}.mp4",
        lambda t: squares((20, 20), None) if low else squares(None, (20, 20)),
        tone(LOW if low else HIGH, seconds) if sound else None,
        seconds=seconds,
    )
    return Source(name, path, 10.0, 64, 64, Span(0, seconds), Span(0, seconds) if sound else None)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return [
        film(folder, "b", low=False),
        film(folder, "a"),
        film(folder, "mute", sound=False),
        film(folder, "short", seconds=0.3),
    ]


def rows(folder):
    return ds.dataset(folder, format="parquet").to_table().to_pylist()


def test_rows_are_windows_in_order_of_id_and_time(sources, tmp_path):
    found = extract(sources, colour_space(), tmp_path / "out", BOTH, digest="x")
    video, audio = rows(tmp_path / "out" / "video"), rows(tmp_path / "out" / "audio")
    assert [row["id"] for row in video] == ["a"] * 4 + ["b"] * 4 + ["mute"] * 4 + ["short"]
    assert [row["start"] for row in video[:4]] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert [row["end"] - row["start"] for row in video[:4]] == pytest.approx([0.4] * 4)
    assert {row["modality"] for row in audio} == {"audio"}
    assert found.rows == {"video": 13, "audio": 9}
    assert found.failed == {"mute": "no audio"}
    assert json.loads((tmp_path / "out" / "failed.json").read_text()) == found.failed


def test_the_joint_space_is_unit_length_and_pairs_what_belongs_together(sources, tmp_path):
    extract(sources[:2], colour_space(), tmp_path / "out", BOTH, digest="x")
    by = {(row["id"], role): np.array(row["embedding"]) for role in ("video", "audio") for row in rows(tmp_path / "out" / role)}
    assert all(np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) for vector in by.values())
    assert by["a", "video"] @ by["a", "audio"] > by["a", "video"] @ by["b", "audio"] + 0.3
    assert by["b", "video"] @ by["b", "audio"] > by["b", "video"] @ by["a", "audio"] + 0.3


def test_metadata_says_what_the_numbers_are(sources, tmp_path):
    space = colour_space()
    space = encoder_space(space.name, space.objective, space.encoders)
    extract(sources[:1], space, tmp_path / "out", Question(("audio",), 1.0, True), digest="x")
    schema = pq.read_schema(tmp_path / "out" / "audio" / "00000.parquet")
    about = json.loads(schema.metadata[b"mmssl"])
    assert (about["dim"], about["space"], about["rate"], about["seconds"], about["stride"]) == (4, "encoder", 8000, 0.4, 1.0)
    assert str(schema.field("embedding").type) == "fixed_size_list<element: halffloat>[4]"
    assert not (tmp_path / "out" / "video").exists()


def test_an_interrupted_extraction_goes_on_and_ends_with_the_same_bytes(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART", 2)
    extract(sources, colour_space(), tmp_path / "whole", BOTH, digest="x")

    class StopError(Exception):
        pass

    done = []

    def stop():
        done.append(1)
        if len(done) == 3:
            raise StopError

    with pytest.raises(StopError):
        extract(sources, colour_space(), tmp_path / "again", BOTH, digest="x", on_source=stop)
    assert sorted(p.name for p in (tmp_path / "again" / "video").iterdir()) == ["00000.parquet"]
    found = extract(sources, colour_space(), tmp_path / "again", BOTH, digest="x")
    assert found.skipped == 2
    assert found.failed == {"mute": "no audio"}
    for role in ("video", "audio"):
        for part in ("00000.parquet", "00001.parquet"):
            assert (tmp_path / "whole" / role / part).read_bytes() == (tmp_path / "again" / role / part).read_bytes()


def test_another_question_needs_another_folder(sources, tmp_path):
    extract(sources[:1], colour_space(), tmp_path / "out", BOTH, digest="x")
    with pytest.raises(InputError, match="differ in stride"):
        extract(sources[:1], colour_space(), tmp_path / "out", Question(("video", "audio"), 0.25, False), digest="x")
    with pytest.raises(InputError, match="the weights or the files"):
        extract(sources[:1], colour_space(), tmp_path / "out", BOTH, digest="y")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="other files"):
        extract(sources[:1], colour_space(), tmp_path / "mine", BOTH, digest="x")


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (Question(("smell",), 1.0, False), "modality smell: a run has some of video, audio"),
        (Question((), 1.0, False), "empty"),
        (Question(("video",), 0.0, False), "stride is 0"),
    ],
)
def test_questions_that_make_no_sense(sources, tmp_path, question, why):
    with pytest.raises(InputError, match=why):
        extract(sources[:1], colour_space(), tmp_path / "out", question, digest="x")


def test_a_broken_file_gives_no_rows_and_a_reason(sources, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(sources[0].path.read_bytes()[:3000])
    broken = Source("bad", bad, 10.0, 64, 64, Span(0, 2), Span(0, 2))
    found = extract([sources[1], broken], colour_space(), tmp_path / "out", BOTH, digest="x")
    assert list(found.failed) == ["bad"]
    assert {row["id"] for row in rows(tmp_path / "out" / "video")} == {"a"}


def test_long_files_are_read_in_chunks(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 3)
    extract(sources[:2], colour_space(), tmp_path / "small", BOTH, digest="x")
    monkeypatch.setattr(features, "CHUNK", 64)
    extract(sources[:2], colour_space(), tmp_path / "large", BOTH, digest="x")
    small, large = (np.array([row["embedding"] for row in rows(tmp_path / name / "audio")]) for name in ("small", "large"))
    assert small == pytest.approx(large, abs=1e-6)


def test_the_space_is_that_of_the_first_objective_that_has_the_modalities():
    pairs, alone = colour_space(), tiny_for(objective_class("colorize"))
    objectives = {"colorize": build("colorize", alone), "colour_pitch": pairs.objective}
    encoders = dict(pairs.encoders)

    def chosen(*kinds, **more):
        space = features_space(objectives, encoders, kinds, **more)
        return space.name, space.gives

    assert chosen() == ("colour_pitch", "joint")
    assert chosen("audio") == ("colour_pitch", "joint")
    assert chosen("video", space="encoder") == ("colorize", "encoder")
    assert chosen("audio", space="encoder") == ("colour_pitch", "encoder")
    assert chosen(name="colorize") == ("colorize", "encoder")
    with pytest.raises(InputError, match="objective colorize has no joint space"):
        chosen(name="colorize", space="joint")
    with pytest.raises(InputError, match=r"no objective of the run has video and text \(.*colour_pitch: video, audio"):
        chosen("video", "text")
    with pytest.raises(InputError, match="--space is 'other'"):
        chosen(space="other")
    with pytest.raises(InputError, match="no objective 'l3'; it has colorize, colour_pitch"):
        chosen(name="l3")


def test_windows():
    assert windows(Span(0.0, 0.0), seconds=1, stride=1) == []
    assert windows(Span(0.5, 1.0), seconds=1, stride=1) == [Span(0.5, 1.0)]
    assert [w.start for w in windows(Span(0.5, 3.6), seconds=1, stride=0.7)] == pytest.approx([0.5, 1.2, 1.9, 2.6])
    assert [w.start for w in windows(Span(0.0, 3.0), seconds=1, stride=0.1)] == pytest.approx(np.arange(21) / 10)


def test_the_digest_takes_the_scalars_of_batch_norms():
    norm = torch.nn.BatchNorm1d(3)
    before = weights_digest([norm])
    assert weights_digest([torch.nn.BatchNorm1d(3)]) == before
    norm.load_state_dict(norm.state_dict() | {"num_batches_tracked": torch.tensor(1)})
    assert weights_digest([norm]) != before
