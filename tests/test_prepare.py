"""A prepared corpus shows the same pictures and sounds at the same times, says the same of its films, and is made once."""

from __future__ import annotations

import errno
import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.data import prepare as module
from mmssl.data import reencode as reencoding
from mmssl.data.decode import answer
from mmssl.data.decode.frames import FrameFinder
from mmssl.data.index import index_folder, open_corpus
from mmssl.data.prepare import MANIFEST, NOTES, Form, prepare
from mmssl.data.prepared import PreparedFolder, read_notes
from mmssl.data.reencode import FULL, quantiser, reencode, small_size
from mmssl.types import Frames, InputError, Source, Wave
from tests.media_makers import make_film, make_flash_and_click, numbers_in
from tests.small_clips import make_clip

PLAIN = {"short_side": 64, "rate": 16_000, "quality": 10}


def small(path: Path, target: Path, *, video: bool = True, audio=None, **form) -> Source:
    facts = reencode(str(path), str(target), **{**PLAIN, **form}, video=video, audio=audio)
    assert facts["reason"] is None, facts
    assert facts["bytes"] == target.stat().st_size
    return Source("small", target)


# --- one film --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", {}),
        (".mp4", {"options": {"bf": "3", "g": "30"}}),
        (".mkv", {"rate": Fraction(30000, 1001)}),
        (".mp4", {"pts": [n * n for n in range(40)], "time_base": Fraction(1, 600), "frames": 40}),
        (".mkv", {"first": Fraction(5)}),
        (".avi", {"codec": "mpeg4"}),
        (".webm", {"codec": "libvpx", "frames": 40}),
    ],
)
@pytest.mark.parametrize("pictures", ["h264", "jpeg"])
def test_the_same_pictures_are_shown_at_the_same_times(tmp_path, suffix, options, pictures):
    stamps = make_film(tmp_path / f"film{suffix}", **options)
    film = Source("film", tmp_path / f"film{suffix}")
    made = small(film.path, tmp_path / "small.mp4", pictures=pictures)
    rng = np.random.default_rng(0)
    ends = stamps[-1] - stamps[0]
    times = tuple(sorted([0.0, *rng.uniform(0.0, ends + 0.01, 60).tolist()]))
    request = Frames(times, (64, 96))
    assert numbers_in(answer(made, [request])[request]) == numbers_in(answer(film, [request])[request])
    with av.open(str(tmp_path / "small.mp4")) as container:
        stream = container.streams.video[0]
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
        assert stream.codec_context.name == {"h264": "h264", "jpeg": "mjpeg"}[pictures]
        assert not stream.codec_context.has_b_frames
    assert len(keys) == len(stamps)
    assert [n for n, key in enumerate(keys) if key] == list(range(0, len(keys), 8 if pictures == "h264" else 1))


def make_still(path: Path, picture: np.ndarray) -> Source:
    """A film of ten times the same picture (H, W, 3), losslessly in RGB."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "rgb24"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return Source("still", path)


@pytest.mark.parametrize("pictures", ["h264", "jpeg"])
def test_colours_stay_as_they_are(tmp_path, pictures):
    greys = [[level] * 3 for level in (0, 16, 128, 235, 255)]
    bars = np.array([*greys, [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    film = make_still(tmp_path / "bars.mp4", bars[None].repeat(64, 0).repeat(16, 1))
    made = small(film.path, tmp_path / "small.mp4", pictures=pictures, quality=5)
    request = Frames((0.2,), (64, 128))
    one, other = (answer(source, [request])[request][0].float() for source in (film, made))
    inner = [16 * bar + 8 for bar in range(8)]  # a range or a matrix taken for another is off by 10 to 40
    assert (one[:, 32, inner] - other[:, 32, inner]).abs().max() <= 4


def test_jpeg_is_as_coarse_as_it_is_told(tmp_path):
    film = make_still(tmp_path / "film.mp4", np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))
    made = [small(film.path, tmp_path / f"{q}.mp4", pictures="jpeg", quality=q) for q in (12, 24, 36)]
    sizes = [source.path.stat().st_size for source in made]
    assert sizes[0] > 1.3 * sizes[1] > 1.69 * sizes[2]
    assert [quantiser(quality) for quality in (0, 12, 18, 24, 51)] == [1, 1, 2, 4, 31]


def test_one_picture_is_decoded_for_one_moment_of_jpeg(tmp_path, monkeypatch):
    make_film(tmp_path / "film.mp4", frames=40)
    made = small(tmp_path / "film.mp4", tmp_path / "small.mp4", pictures="jpeg")
    taken = []
    real = FrameFinder._take
    monkeypatch.setattr(FrameFinder, "_take", lambda self, frame: taken.append(frame.pts) or real(self, frame))
    request = Frames((0.9, 1.1, 1.3), 32)
    answer(made, [request])
    assert len(taken) == 3


def test_rotation_and_pixel_aspect_are_applied_once(tmp_path):
    make_film(tmp_path / "film.mp4", turn=90, aspect=Fraction(2), frames=10)
    made = small(tmp_path / "film.mp4", tmp_path / "small.mp4")
    with av.open(str(tmp_path / "small.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (64, 192)  # 96 x 64 coded, 192 x 64 as shown, 64 x 192 turned
    request = Frames((0.0, 0.2), (192, 64))
    one, other = (answer(source, [request])[request].float() for source in (Source("film", tmp_path / "film.mp4"), made))
    assert (one - other).abs().mean() < 6


def test_sizes_are_even_and_nothing_grows():
    assert small_size((1920, 1080), 128) == (128, 228)
    assert (
        small_size((101, 55), 128) == (56, 100)
        or small_size((101, 55), 128) == (54, 100)
        or small_size((101, 55), 128) == (56, 102)
    )
    assert small_size((1, 1), 128) == (2, 2)


@pytest.mark.parametrize(("video_from", "audio_from"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_sound_and_picture_keep_their_times_wherever_they_begin(tmp_path, video_from, audio_from):
    events = [1.6, 3.2, 4.88]
    path = tmp_path / "film.mp4"
    make_flash_and_click(path, video="libx264", audio="aac", events=events, video_from=video_from, audio_from=audio_from)
    (film,) = index_folder(tmp_path, tmp_path / "m.parquet", progress=False, workers=1)
    made = small(path, tmp_path / "small.mp4", audio=list(film.audio))
    wave = Wave(audio_from, 5.9 - audio_from, 16_000)
    frames = Frames(tuple(np.arange(max(video_from, 0.02), 5.9, 0.01).tolist()), 16)
    before, after = answer(film, [wave, frames]), answer(made, [wave, frames])
    white = [answers[frames].float().mean((1, 2, 3)) > 127 for answers in (before, after)]
    assert white[0].any() and bool((white[0] == white[1]).all())
    one, other = before[wave].numpy(), after[wave].numpy()
    onsets = [np.flatnonzero(np.abs(x) > 0.3)[0] for x in (one, other)]
    assert abs(onsets[0] - onsets[1]) <= 2
    assert (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()) > 0.97
    again = index_folder(tmp_path, tmp_path / "m.parquet", progress=False, workers=1)
    spans = {source.id: source for source in again}
    assert spans["small"].video == pytest.approx(spans["film"].video, abs=0.05)
    assert spans["small"].audio == pytest.approx(spans["film"].audio, abs=0.07)


def test_what_cannot_be_read_is_a_reason_and_leaves_nothing(tmp_path):
    (tmp_path / "text.mp4").write_text("dear friend")
    make_clip(tmp_path / "sound.mp4", size=None)
    for name, video in (("text", True), ("none", True), ("sound", True)):
        facts = reencode(str(tmp_path / f"{name}.mp4"), str(tmp_path / "out" / "x.mp4"), **PLAIN, video=video, audio=None)
        assert facts["reason"].startswith("cannot be re-encoded")
    assert list((tmp_path / "out").iterdir()) == []
    made = small(tmp_path / "sound.mp4", tmp_path / "s.mp4", video=False, audio=[0.0, 1.0])
    wave = Wave(0.1, 0.8, 16_000)
    assert answer(made, [wave])[wave].std() > 0.1


def test_a_real_film_in_theora_with_empty_packets(media, tmp_path):
    path = media / "web" / "mozilla__trailer.ogv"
    made = small(path, tmp_path / "small.mp4", short_side=64, quality=20)
    request = Frames((0.0, 3.3, 7.7), (64, 114))
    one, other = (answer(source, [request])[request].float() for source in (Source("film", path), made))
    assert (one - other).abs().mean() < 8


# --- a corpus --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    make_clip(root / "talk.mp4", seconds=2.0, size=(160, 120))
    make_clip(root / "walking" / "one.mkv", seconds=1.0, size=(120, 160), tone=None)
    make_clip(root / "same.mp4", seconds=1.0)
    make_clip(root / "same.avi", seconds=1.0, audio_codec="mp2")
    make_clip(root / "only.wav", seconds=1.0, size=None, audio_codec="pcm_s16le")
    (root / "broken.mp4").write_text("dear friend")
    (root / "talk.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,900\nhello & good day\n\n2\n00:00:01,000 --> 00:00:01,500\nbye\n"
    )
    return root


def run(root: Path, out: Path, **options):
    return prepare(root, out, **{"form": Form(short_side=64, quality=20), "workers": 2, "progress": False, **options})


def test_ids_captions_spans_and_rejections_are_carried_over(corpus, tmp_path):
    before = index_folder(corpus, tmp_path / "m.parquet", progress=False, workers=1)
    found = run(corpus, tmp_path / "out", motion=True)
    assert (found.done, found.kept) == (5, 0)
    assert found.manifest.ids == before.ids == ("only", "same.avi", "same.mp4", "talk", "walking/one")
    assert dict(found.rejected) == dict(before.reasons) and found.manifest.rejected == before.rejected
    for old, new in zip(before, found.manifest, strict=True):
        assert new.cues == old.cues
        assert (new.has_video, new.has_audio) == (old.has_video, old.has_audio)
        for one, other in ((old.video, new.video), (old.audio, new.audio)):
            assert one is None or other == pytest.approx(one, abs=0.1)
        assert min(new.width, new.height) in (0, 24, 64) and len(new.motion) == (4 if new.id != "talk" else 8) * new.has_video
    assert open_corpus(tmp_path / "out" / MANIFEST).ids == before.ids
    anew = index_folder(tmp_path / "out", tmp_path / "n.parquet", progress=False, workers=1)  # without the manifest
    assert anew.select(["talk"])[0].cues == before.select(["talk"])[0].cues
    assert found.bytes_after == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.mp4"))


def test_what_is_done_is_not_done_again_and_what_changed_is(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(corpus, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    found = run(corpus, out)
    assert (found.done, found.kept) == (0, 5)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")} == stamps
    make_clip(corpus / "talk.mp4", seconds=1.5, size=(160, 120))
    make_clip(corpus / "new.mp4", seconds=1.0)
    (corpus / "same.avi").unlink()
    found = run(corpus, out)
    assert (found.done, found.kept) == (3, 2)  # same.mp4 is called "same" now
    assert found.manifest.ids == ("new", "only", "same", "talk", "walking/one")
    (out / "talk.mp4").unlink()
    assert run(corpus, out).done == 1
    assert run(corpus, out, form=Form(short_side=32, quality=20)).done == 5


def test_an_interrupted_run_continues(corpus, tmp_path, monkeypatch):
    out, real = tmp_path / "out", module.probe_all

    def two(jobs, **options):
        for number, found in enumerate(real(jobs, **{**options, "workers": 1})):
            if number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(module, "probe_all", two)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, out)
    monkeypatch.setattr(module, "probe_all", real)
    with (out / NOTES).open("a") as file:
        file.write('{"id": "ta')  # as a power cut leaves it
    with PreparedFolder(out) as there:
        there.note({"id": "later"})
    assert "later" in read_notes(out / NOTES), "a note after half a line is a line of its own"
    (out / ".talk.1.part.mp4").write_text("half")
    found = run(corpus, out)
    assert (found.done, found.kept) == (3, 2)
    assert not list(out.rglob(".*.part.mp4"))
    assert [json.loads(line)["id"] for line in (out / NOTES).read_text().splitlines()] == list(found.manifest.ids)


def test_a_full_disk_ends_the_run_and_is_no_fault_of_a_film(corpus, tmp_path, monkeypatch):
    def full(target, fill):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(reencoding, "make_aside", full)
        facts = reencode(str(corpus / "talk.mp4"), str(tmp_path / "x.mp4"), **PLAIN, video=True, audio=None)
    assert facts == {"reason": FULL}
    out, real = tmp_path / "out", module.probe_all

    def two(jobs, **options):
        for number, found in enumerate(real(jobs, **{**options, "workers": 1})):
            yield found if number < 2 else (found[0], {"reason": FULL, "flow": None})

    monkeypatch.setattr(module, "probe_all", two)
    with pytest.raises(OSError, match="No space left"):
        run(corpus, out)
    monkeypatch.setattr(module, "probe_all", real)
    found = run(corpus, out)
    assert (found.done, found.kept) == (3, 2)
    assert not any("full" in reason for reason in found.rejected)


def test_a_film_that_breaks_on_the_way_is_counted(corpus, tmp_path):
    content = bytearray((corpus / "talk.mp4").read_bytes())
    shutil.copy(corpus / "talk.mp4", tmp_path / "whole.mp4")
    start = content.find(b"mdat") + len(content) // 4
    content[start : start + len(content) // 4] = np.random.default_rng(0).bytes(len(content) // 4)
    (corpus / "hurt.mp4").write_bytes(bytes(content))
    found = run(corpus, tmp_path / "out")
    if "hurt" in found.manifest.ids:
        pytest.skip("this damage can be decoded here")
    assert "hurt" in found.manifest.rejected
    assert not (tmp_path / "out" / "hurt.mp4").exists()


def test_foreign_folders_are_left_alone(corpus, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds other things"):
        run(corpus, tmp_path / "mine")
    for inside in (corpus / "out", corpus, tmp_path):
        with pytest.raises(InputError, match="lie in one another"):
            run(corpus, inside)
    with pytest.raises(InputError, match="short side 8"):
        Form(short_side=8)


def test_the_command(corpus, tmp_path):
    from typer.testing import CliRunner

    from mmssl.cli import build_app

    done = CliRunner().invoke(
        build_app(), ["prepare", str(corpus), str(tmp_path / "out"), "--short-side", "32", "--workers", "2"]
    )
    assert done.exit_code == 0, done.output
    assert "5 films written, 0 were there already" in done.output
    assert "1 left out: not media" in done.output
    assert (tmp_path / "out" / MANIFEST).is_file()
