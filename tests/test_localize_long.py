"""Films of hours: the memory that localizing takes does not depend on the length of the film."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.fake_world import HIGH, LOW, squares, tone, write_film

ROOT = Path(__file__).resolve().parents[1]


def looped(short, path, times, seconds):
    """The packets of a film, over and over: hours of film without encoding hours."""
    with av.open(str(short)) as source, av.open(str(path), "w") as sink:
        streams = {s.index: sink.add_stream_from_template(s) for s in source.streams}
        for turn in range(times):
            source.seek(0)
            for packet in source.demux():
                if packet.dts is None:
                    continue
                shift = round(turn * seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                sink.mux(packet)
    return path


def localized(film, out):
    done = subprocess.run(
        [sys.executable, "-m", "tests.localize_program", str(film), str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_two_hours_take_the_memory_of_six_minutes(tmp_path):
    sides = [np.concatenate([tone(LOW, 10.0, rate=8000), tone(HIGH, 10.0, rate=8000)]) * gain for gain in (0.9, 0.4)]
    short = write_film(
        tmp_path / "short.mkv",
        lambda t: squares((16, 20), (48, 44)),
        np.stack(sides).astype(np.float32),
        seconds=20.0,
        fps=1,
        rate=8000,
        audio_codec="pcm_s16le",
        codec="mpeg4",
    )
    found = {}
    for minutes in (6, 120):
        film = looped(short, tmp_path / f"{minutes}.mkv", minutes * 3, 20.0)
        found[minutes] = localized(film, tmp_path / f"{minutes}.mp4")
        assert found[minutes]["moments"] == pytest.approx(minutes * 60, abs=2)
        assert found[minutes]["sources"] == 2
        told = json.loads((tmp_path / f"{minutes}.json").read_text())
        assert told["windows"][-1]["end"] == pytest.approx(minutes * 60, abs=2)
        assert told["stereo"] == "prior"
    print(found)
    # What grows: eight bytes for each number of a moment, and the index of the film that is written.
    assert found[120]["peak"] - found[6]["peak"] < 32
