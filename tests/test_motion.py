"""The motion profile: measured on films whose still and moving stretches are known, and kept by the index as `Source.motion`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from mmssl.data import index as index_module
from mmssl.data.index import index_folder, open_corpus
from mmssl.data.manifest import read_rows
from mmssl.data.probe import probe
from mmssl.types import MOTION_HOP, MOTION_STEP, InputError
from tests.small_clips import make_clip


def make_grey(
    path: Path, level: Callable[[int], float], *, frames: int, fps: int = 24, options=None, pts=None, size=(96, 64)
) -> Path:
    """A film of uniform pictures whose brightness (0 to 255) is `level(frame number)`."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "1", "preset": "ultrafast", **(options or {})})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = (pts or range(frames))[number], Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def motion(path: Path) -> list[float]:
    facts = probe(str(path), loudness=False, motion=True)
    assert facts["reason"] is None
    return facts["motion"]


def test_still_and_moving_stretches_are_told_apart_to_the_level(tmp_path):
    # 24 fps: a step is exactly 3 frames. Still for a second, then 4 levels a frame up for a second, then still again.
    film = make_grey(tmp_path / "a.mp4", lambda n: 60 + 4 * min(max(0, n - 24), 24), frames=72)
    found = motion(film)
    assert len(found) == 12
    assert found[:3] == pytest.approx([0, 0, 0], abs=0.3)
    assert found[4:7] == pytest.approx([12, 12, 12], abs=1.0)
    assert found[8:] == pytest.approx([0] * 4, abs=0.3)


@pytest.mark.parametrize("options", [{"bf": "2"}, {"bf": "0", "g": "8"}, {"x264-params": "open-gop=1:keyint=8:bframes=2"}])
def test_the_order_of_frames_in_the_file_does_not_matter(tmp_path, options):
    film = make_grey(tmp_path / "a.mp4", lambda n: 30 + 4 * n, frames=48, options={"preset": "medium", **options})
    assert motion(film) == pytest.approx([12.0] * 8, abs=1.2)  # rounding to limited range: 0.6 each; a frame amiss: 2


def test_only_part_of_the_picture_moves(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "1", "preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 256, 128, "yuv420p"
        for number in range(24):
            picture = np.full((128, 256, 3), 100, np.uint8)
            picture[:64, :128] = 50 + 100 * (number // 3 % 2)  # a quarter of it, 100 levels every step
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert motion(tmp_path / "a.mp4") == pytest.approx([25.0] * 4, abs=1.5)


def test_a_picture_that_stays_on_does_not_move_and_gaps_are_filled(tmp_path):
    # One frame each second, each 30 levels brighter: the change lies in the step in which the new one appears.
    film = make_grey(tmp_path / "a.mkv", lambda n: 60 + 30 * n, frames=4, pts=[0, 24, 48, 72])
    found = motion(film)
    assert len(found) in (12, 13, 16)
    changes = {3: 15.0, 7: 15.0, 11: 15.0}  # from moment 7 (0.875 s) to 8 (1 s), half of the fourth hop
    assert found[:12] == pytest.approx([changes.get(hop, 0.0) for hop in range(12)], abs=1.0)


def test_the_last_hop_counts_only_what_lies_before_the_end(tmp_path):
    film = make_grey(tmp_path / "a.mp4", lambda n: 40 + 4 * n, frames=25)  # 1.0417 s: the fifth hop holds one moment and no pair
    assert motion(film) == pytest.approx([12.0] * 4 + [0.0], abs=1.0)


def test_small_and_single_pictures(tmp_path):
    assert motion(make_grey(tmp_path / "s.mp4", lambda n: 50 + 4 * n, frames=24, size=(16, 16))) == pytest.approx(
        [12] * 4, abs=1.5
    )
    assert set(motion(make_grey(tmp_path / "one.mp4", lambda n: 50, frames=1))) <= {0.0}
    assert probe(str(make_clip(tmp_path / "sound.wav", size=None, audio_codec="pcm_s16le")), motion=True)["motion"] == []


def test_nothing_is_measured_unasked(tmp_path, monkeypatch):
    import mmssl.data.probe_streams as streams

    monkeypatch.setattr(streams, "MotionMeter", lambda: pytest.fail("a meter was made"))
    film = make_grey(tmp_path / "a.mp4", lambda n: 60, frames=30)
    assert probe(str(film), loudness=False)["motion"] == []


# --- in the index ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    root.mkdir()
    for name, slope in (("still", 0), ("moves", 4)):
        make_grey(root / f"{name}.mp4", lambda n, slope=slope: 60 + slope * n, frames=36)
    return root


class Probed:
    """Counts which files are probed."""

    def __init__(self, monkeypatch) -> None:
        self.paths: list[str] = []
        real = index_module.probe_all

        def counting(jobs, **options):
            self.paths += [Path(job["path"]).stem for job in jobs]
            return real(jobs, **options)

        monkeypatch.setattr(index_module, "probe_all", counting)

    def names(self) -> list[str]:
        names, self.paths = sorted(self.paths), []
        return names


def test_rows_are_reused_as_far_as_they_know_enough(folder, tmp_path, monkeypatch):
    out, probed = tmp_path / "m.parquet", Probed(monkeypatch)

    def run(**options):
        return index_folder(folder, out, progress=False, workers=1, **options)

    assert run()[0].motion == () and probed.names() == ["moves", "still"]
    manifest = run(motion=True)
    assert probed.names() == ["moves", "still"]
    assert len(manifest[0].motion) == 6 and np.mean(manifest[0].motion) > 10 > 0.3 > np.mean(manifest[1].motion)
    stamp = out.stat().st_mtime_ns
    assert run(motion=True).has_motion and run().has_motion and probed.names() == []  # what is known is not thrown away
    assert out.stat().st_mtime_ns == stamp
    shutil.copy(folder / "moves.mp4", folder / "new.mp4")
    assert run().ids == ("moves", "new", "still") and probed.names() == ["new"]
    assert run(motion=True)[1].motion == manifest[0].motion and probed.names() == ["new"]
    assert set(read_rows(out)["probe"].to_pylist()) == {"1+loudness+motion"}


def test_a_corpus_shows_motion_only_to_those_who_ask(folder, tmp_path):
    before = open_corpus(folder, progress=False)
    with_motion = open_corpus(folder, motion=True, progress=False)
    after = open_corpus(folder, progress=False)
    assert before.sha256 == after.sha256 != with_motion.sha256
    assert after[0].motion == () and with_motion[0].motion
    out = tmp_path / "m.parquet"
    index_folder(folder, out, progress=False, workers=1)
    with pytest.raises(InputError, match=r"holds no motion profiles.*--motion --out"):
        open_corpus(out, motion=True)
    index_folder(folder, out, motion=True, progress=False, workers=1)
    assert open_corpus(out, motion=True).sha256 == with_motion.sha256
    assert open_corpus(out).sha256 == before.sha256


def test_the_option_reaches_the_command_line(folder, tmp_path):
    from typer.testing import CliRunner

    from mmssl.cli import build_app

    out = tmp_path / "m.parquet"
    result = CliRunner().invoke(build_app(), ["index", str(folder), "--motion", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert open_corpus(out, motion=True).has_motion


def test_views_that_need_motion_have_it_measured(folder, tmp_path):
    import dataclasses

    from mmssl.config import resolve
    from mmssl.run import open_corpora

    raw = {
        "encoders": {"video": {"name": "tests.components.mean_frame"}},
        "streams": [{"data": str(folder), "batch": 2, "objectives": [{"name": "tests.components.guess_half"}]}],
        "train": {"steps": 1},
    }
    config = resolve(raw)
    objectives = config.build_objectives(config.build_encoders())
    assert open_corpora(config, objectives)[0].train[0].motion == ()
    objective = objectives["guess_half"]

    @dataclasses.dataclass(frozen=True)
    class Moving(type(objective.views)):
        needs_motion: ClassVar[bool] = True

    objective.views = Moving(**dataclasses.asdict(objective.views))
    assert len(open_corpora(config, objectives)[0].train[0].motion) == round(1.5 / MOTION_HOP)
    assert MOTION_HOP == 2 * MOTION_STEP
