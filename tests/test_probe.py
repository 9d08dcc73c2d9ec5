from __future__ import annotations

import json
import math
from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.data.probe import NO_STREAM, NOT_MEDIA, PICTURE_UNDECODABLE, UNDECODABLE, WHOLE_BELOW, probe
from mmssl.data.probe_streams import FLOOR_DB, LoudnessMeter
from mmssl.types import LOUDNESS_HOP
from tests.small_clips import make_clip


def test_picture_and_sound(tmp_path):
    facts = probe(str(make_clip(tmp_path / "a.mp4", seconds=2.0, fps=10, size=(32, 24), tone=0.5)))
    assert (facts["reason"], facts["notes"]) == (None, [])
    assert (facts["fps"], facts["width"], facts["height"]) == (10.0, 32, 24)
    assert facts["video"] == (0.0, 2.0)
    assert facts["audio"][0] == pytest.approx(0.0, abs=0.07)
    assert facts["audio"][1] == pytest.approx(2.0, abs=0.07)  # AAC works in frames of 64 ms here
    json.dumps(facts)  # it travels as JSON


def test_loudness_is_the_rms_of_each_hop_from_time_zero(tmp_path):
    facts = probe(str(make_clip(tmp_path / "a.wav", seconds=1.0, size=None, tone=0.5, tone_from=0.4, audio_codec="pcm_s16le")))
    assert facts["video"] is None
    assert facts["audio"] == (0.0, 1.0)
    assert len(facts["loudness"]) == 10
    assert facts["loudness"][:4] == [FLOOR_DB] * 4
    assert facts["loudness"][4:] == pytest.approx([20 * math.log10(0.5 / math.sqrt(2))] * 6, abs=0.05)


def test_without_loudness_spans_are_the_same(tmp_path):
    path = str(make_clip(tmp_path / "a.mkv", seconds=2.5, fps=25, tone=0.1, audio_codec="pcm_s16le"))
    full, quick = probe(path), probe(path, loudness=False)
    assert quick["loudness"] == []
    assert {key: quick[key] for key in ("fps", "video", "width")} == {key: full[key] for key in ("fps", "video", "width")}
    assert quick["audio"] == pytest.approx(full["audio"], abs=0.002)


def test_large_files_are_read_at_both_ends_only(tmp_path, monkeypatch):
    path = str(make_clip(tmp_path / "a.mp4", seconds=40.0, fps=5, size=(16, 16), tone=0.1, rate=8000))
    full = probe(path, loudness=False)
    monkeypatch.setattr("mmssl.data.probe.WHOLE_BELOW", 1000)
    ends = probe(path, loudness=False)
    assert Path(path).stat().st_size < WHOLE_BELOW
    assert ends["video"] == full["video"] == (0.0, 40.0)
    assert ends["audio"] == pytest.approx(full["audio"], abs=0.002)
    assert (ends["fps"], ends["reason"]) == (5.0, None)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.mp4", b"this is no video, but a letter to you\n" * 20, NOT_MEDIA),
        ("zeros.mkv", bytes(5000), NOT_MEDIA),
        ("noise.webm", np.random.default_rng(0).bytes(5000), NOT_MEDIA),
    ],
)
def test_what_is_no_media(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    assert probe(str(path))["reason"] == reason


def test_what_is_not_there_or_may_not_be_read(tmp_path, monkeypatch):
    assert probe(str(tmp_path / "gone.mp4"))["reason"] == "vanished, or a link to nothing"
    path = make_clip(tmp_path / "a.mp4")

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)  # root may read everything: a mode of 000 would not stop it
    assert probe(str(path))["reason"] == "permission denied"


def test_a_file_cut_off_in_the_middle_ends_where_its_packets_end(tmp_path):
    whole = make_clip(
        tmp_path / "a.mkv", seconds=10.0, fps=10, size=(64, 48), video_codec="mpeg4", tone=0.3, audio_codec="pcm_s16le"
    )
    content = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(content[: len(content) * 6 // 10])
    facts = probe(str(cut))
    assert facts["reason"] is None
    for kind in ("video", "audio"):
        end = decoded_end(cut, kind)
        assert 4.0 < end < 8.0
        assert facts[kind][1] == pytest.approx(end, abs=0.11)


def test_sound_that_cannot_be_decoded_leaves_the_picture(tmp_path):
    path = make_clip(tmp_path / "a.mkv", seconds=1.0, tone=0.3)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    content = bytearray(path.read_bytes())
    for place, size in places:  # a Matroska block: its payload lies at the end of what `pos` points to
        start = content.index(b"", place)
        content[start + 8 : start + 8 + size - 4] = b"\xff" * (size - 4)
    path.write_bytes(bytes(content))
    facts = probe(str(path))
    assert facts["reason"] is None
    assert facts["video"] == (0.0, 1.0)
    assert facts["audio"] is None
    assert facts["loudness"] == []
    assert "the sound cannot be decoded" in facts["notes"]


def test_sidecars_in_order_clipped_to_the_media(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", seconds=2.0)
    (tmp_path / "a.vtt").write_text("WEBVTT\n")
    (tmp_path / "a.en.srt").write_text("1\n00:00:00,500 --> 00:00:09,000\nlong\n\n2\n00:00:08,000 --> 00:00:09,000\nlate\n")
    (tmp_path / "a.de.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nnie\n")
    facts = probe(str(clip), [str(tmp_path / name) for name in ("a.vtt", "a.en.srt", "a.de.srt")])
    end = max(facts["video"][1], facts["audio"][1])
    assert facts["cues"] == ((0.5, end, "long"),)
    assert facts["cues_from"] == "a.en.srt"
    assert facts["notes"] == ["a subtitle file beside it holds no caption", "captions outlast picture and sound"]


def test_cover_art_is_no_picture(tmp_path):
    sound = make_clip(tmp_path / "a.m4a", size=None, tone=0.2)
    path = tmp_path / "cover.m4a"
    with av.open(str(sound)) as source, av.open(str(path), "w", format="mp4") as out:
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        copy = out.add_stream_from_template(source.streams.audio[0])
        out.mux(art.encode(av.VideoFrame(32, 32, "yuvj420p")))
        out.mux(art.encode(None))
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    facts = probe(str(path))
    assert (facts["reason"], facts["video"]) == (None, None)
    assert facts["audio"] is not None


def test_meter_places_samples_by_time_whatever_the_pieces():
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, 48_000).astype(np.float32)
    meter = LoudnessMeter()
    place = 0
    while place < len(wave):
        size = int(rng.integers(1, 3000))
        meter.add(0.25 + place / 16_000, wave[place : place + size], 16_000)
        place += size
    meter.flush()
    padded = np.concatenate([np.zeros(4000), wave.astype(np.float64)])
    hop = round(LOUDNESS_HOP * 16_000)
    naive = []
    for start in range(0, len(padded), hop):
        heard = [value for place, value in enumerate(padded[start : start + hop], start) if place >= 4000]
        power = sum(value * value for value in heard) / len(heard) if heard else 0.0
        naive.append(10 * math.log10(power) if power > 0 else FLOOR_DB)
    assert meter.levels() == pytest.approx(naive, abs=0.006)


def test_meter_leaves_out_what_lies_before_zero_and_fills_gaps():
    meter = LoudnessMeter()
    meter.add(-0.05, np.full(800, 0.5, dtype=np.float32), 8000)  # 0.1 s: half of it is run-in
    meter.add(0.3, np.full(800, 0.25, dtype=np.float32), 8000)
    meter.flush()
    assert meter.levels() == pytest.approx([20 * math.log10(0.5), FLOOR_DB, FLOOR_DB, 20 * math.log10(0.25)], abs=0.01)


def decoded_end(path: Path, kind: str) -> float:
    """When the last picture or sample of a damaged file ends, by decoding all of it."""
    end = 0.0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.best(kind)):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                length = frame.samples / frame.sample_rate if kind == "audio" else 0.1
                end = max(end, frame.time + length)
    return end


# --- real files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("odd/exoplayer/full_blocks.mkv", NO_STREAM),
        ("odd/exoplayer/sample.text.mp4", NO_STREAM),
        ("odd/exoplayer/sample_ac4.ts", UNDECODABLE),
        ("odd/exoplayer/sample_mpegh_mha1.mp4", UNDECODABLE),
        ("odd/exoplayer/subsample_encrypted_altref.webm", PICTURE_UNDECODABLE),
    ],
)
def test_real_files_that_cannot_be_used(media, name, reason):
    assert probe(str(media / name))["reason"] == reason


@pytest.mark.parametrize(
    ("name", "fps", "size", "video", "audio"),
    [
        # as read off a decode of every frame of the file, less the container's start time
        ("odd/Zulko+moviepy__no_duration.webm", 14.985, (1280, 720), (0.0, 4.938), (0.015, 4.874)),
        ("odd/autoeditor/SAR-2by3.mp4", 30.0, (427, 360), (0.0, 2.0), (0.0, 2.02)),
        ("odd/exoplayer/sample_with_color_info.mp4", 30.0, (1080, 1920), (0.0, 0.3), (0.0, 0.302)),  # turned by 90 degrees
        ("odd/exoplayer/bbb_2500ms.ts", 23.19, (1920, 1080), (0.011, 2.511), (0.0, 2.513)),
        ("web/mozilla__trailer.ogv", 24.0, (302, 180), (0.0, 64.542), (0.0, 64.512)),  # empty packets repeat a picture
        ("web/pytorch__nasa_13013.mp4", 29.97, (480, 270), (0.0, 13.013), (0.0, 13.056)),  # the better of two
        ("actions/Diving/v_Diving_g01_c01.avi", 29.97, (320, 240), (0.0, 8.642), None),
    ],
)
def test_real_spans(media, name, fps, size, video, audio):
    facts = probe(str(media / name))
    assert facts["reason"] is None
    assert facts["fps"] == pytest.approx(fps, abs=0.01)
    assert (facts["width"], facts["height"]) == size
    assert facts["video"] == pytest.approx(video, abs=0.0015)
    assert facts["audio"] == (audio if audio is None else pytest.approx(audio, abs=0.0015))
