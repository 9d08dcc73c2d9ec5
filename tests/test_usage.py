"""The downstream tools on a real (hardly trained) run over a real toy world: everything fits together, nothing is learnt here."""

import json

import numpy as np
import pyarrow.dataset as ds
import pytest

from mmssl.config import resolve
from mmssl.data.toyworld import make_toyworld
from mmssl.run import start_run
from mmssl.types import InputError
from mmssl.usage import evaluate_run, features_run, localize_run, report_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usage")
    world = make_toyworld(folder / "world", clips=12, seed=1, workers=1, progress=False)
    views = {"frames": 1, "seconds": 1.0}
    config = resolve(
        {
            "seed": 0,
            "encoders": {"video": {"name": "frame_resnet", "size": "tiny"}, "audio": {"name": "audio_cnn", "size": "tiny"}},
            "streams": [
                {
                    "data": str(world),
                    "batch": 4,
                    "holdout": 5,
                    "min_usable": 0.1,
                    "objectives": [{"name": "av_nce", "views": views}, {"name": "l3", "views": views}],
                }
            ],
            "train": {"steps": 2, "workers": 0, "save_every": 2, "log_every": 1, "dtype": "float32"},
        }
    )
    start_run(config, folder / "run", display=False)
    return folder / "run", world


def test_a_run_is_evaluated_localizes_and_is_reported(run, tmp_path):
    path, world = run
    found = evaluate_run(path, progress=False)
    assert set(found["objectives"]) == {"av_nce", "l3"}
    nce = found["objectives"]["av_nce"]
    assert 0 <= nce["accuracy"]["low"] <= nce["accuracy"]["value"] <= nce["accuracy"]["high"] <= 1
    assert "model" in nce["localization"]["pointing"]
    assert found["objectives"]["l3"]["calibration"] is None
    clip = sorted(world.rglob("*.mp4"))[0]
    located = localize_run(path, clip, tmp_path / "heat.mp4", fps=5, progress=False)
    assert located.calibration.origin == "run"
    assert located.film.stat().st_size > 10_000
    assert np.load(located.maps)["maps"].shape[1:] == (16, 16)
    page = report_run(path, progress=False).read_text()
    assert "l3" in page
    assert page.count("its own sound") >= 1


def test_json_alone_is_on_stdout(run, tmp_path, capsys):
    from mmssl.commands.localize import localize

    path, world = run
    clip = sorted(world.rglob("*.mp4"))[0]
    localize(path, clip, tmp_path / "heat.json", as_json=True, sources=2, fps=5.0)
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "heat.json").read_text())
    assert len(told["windows"]) == 20
    assert told["model"].startswith("run av_nce step 2")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["heat.json"]
    with pytest.raises(InputError, match="--stereo is 'loud'"):
        localize(path, clip, tmp_path / "heat.json", stereo="loud")


def test_a_run_is_probed_on_a_toy_world(run, tmp_path, capsys):
    from mmssl.commands._probe_localization import toyworld, vggss

    path, world = run
    toyworld(path, world, out=tmp_path / "figures.json", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "figures.json").read_text())
    assert (found["data"], found["clips"], found["objective"]) == ("toy world", 12, "av_nce")
    toyworld(path, world)
    assert "object prior" in capsys.readouterr().out
    assert (path / "probe-toyworld.json").is_file()
    with pytest.raises(InputError, match=r"holds no vggss\.json"):
        vggss(path, world)


@pytest.mark.gpu
def test_the_gpu_finds_what_the_cpu_finds(run, tmp_path):
    path, world = run
    clip = sorted(world.rglob("*.mp4"))[0]
    here, there = (
        localize_run(path, clip, tmp_path / f"{device}.json", sources=2, device=device, progress=False)
        for device in ("cpu", "cuda")
    )
    assert there.scores == pytest.approx(here.scores, abs=0.02)
    assert there.states == here.states


def test_other_data_get_a_file_of_their_own(run):
    path, world = run
    evaluate_run(path, world, clips=6, progress=False)
    assert (path / "evaluation-world.json").is_file()


def test_features_of_a_run(run, tmp_path):
    path, world = run
    found = features_run(path, world, tmp_path / "features", stride=2.0, half=True, progress=False)
    table = ds.dataset(tmp_path / "features" / "audio").to_table()
    assert found.rows["audio"] == table.num_rows > 10
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    assert vectors.shape[1] == 128
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=0.01)
    again = features_run(path, world, tmp_path / "features", stride=2.0, half=True, progress=False)
    assert again.skipped == found.sources


def test_real_clips_are_localized(run, media, tmp_path):
    """Sound of any codec and layout, pictures of any shape: the film keeps its own aspect ratio and its sound."""
    import av

    from mmssl.data.container import display_size, open_media, picture_stream

    clips = [next((media / "grid").glob("*.mpg")), min((media / "web").glob("*.webm"), key=lambda p: p.stat().st_size)]
    for clip in clips:
        found = localize_run(run[0], clip, tmp_path / f"{clip.stem}.mp4", fps=2, progress=False)
        with open_media(clip) as container:
            stream = picture_stream(container)
            assert stream is not None
            width, height = display_size(stream)
        with av.open(str(found.film)) as container:
            video = container.streams.video[0]
            assert len(container.streams.audio) == 1
            assert 0.6 < (video.width / (video.height * 0.87)) / (width / height) < 1.4
            assert abs(float(container.duration or 0) / 1e6 - found.times[-1]) < 1.0


def test_a_run_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        localize_run(tmp_path, tmp_path / "a.mp4", tmp_path / "b.mp4")
