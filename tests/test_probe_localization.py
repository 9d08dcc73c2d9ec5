"""The test sets of sound localization: exactly the protocol's clips or a refusal, and planted answers at their published measures."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmssl.data.index import open_corpus
from mmssl.downstream.calibration import Calibration
from mmssl.downstream.cuts import accepted, cut_sources
from mmssl.downstream.metrics.localization import silent_negatives
from mmssl.downstream.probe.localization import Judged, detection, probe_localization, windows_of
from mmssl.downstream.probe.localization_sets import read_soundnet_set, read_vggss_set
from mmssl.downstream.probe.localization_table import localization_tables
from mmssl.downstream.probe.localization_toyworld import foreign_sound, probe_toyworld
from mmssl.rng import rng_for
from mmssl.types import InputError
from tests.fake_world import GREEN, HIGH, LOW, RED, fake_pairing, tone, write_film

# The left half is red and rings low, the right half green and rings high: the upper half of a map's pixels is the answer itself.
LEFT, RIGHT = (0, 0, 128, 256), (128, 0, 256, 256)


def flickr_xml(*boxes):
    people = "".join(
        f"<p><bbox><n>x</n><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bbox></p>" for a, b, c, d in boxes
    )
    return f"<annotation>{people}</annotation>"


def halves(size=(64, 64)):
    picture = np.empty((*size, 3), np.uint8)
    picture[:, : size[1] // 2], picture[:, size[1] // 2 :] = RED, GREEN
    return picture


@pytest.fixture(scope="module")
def soundnet(tmp_path_factory):
    """250 clips: even ones ring low, odd ones high; their negatives ring as nothing in view does."""
    root = tmp_path_factory.mktemp("soundnet")
    for folder in ("frames", "audio", "Annotations"):
        (root / folder).mkdir()
    picture, wide = root / "square.png", root / "wide.jpg"
    Image.fromarray(halves()).save(picture)
    Image.fromarray(halves((48, 96))).save(wide, quality=95)
    sounds = [
        write_film(root / f"{name}.wav", None, tone(hertz, seconds), audio_codec="pcm_s16le")
        for name, hertz, seconds in (("low", LOW, 0.5), ("high", HIGH, 0.3), ("odd", 3000, 0.5))
    ]
    for k in range(250):
        shutil.copy(wide if k % 3 == 0 else picture, root / "frames" / f"{k:03d}.{'jpg' if k % 3 == 0 else 'png'}")
        shutil.copy(sounds[k % 2], root / "audio" / f"{k:03d}.wav")
        # Two of three annotators agree on the half; the third one's box alone counts for a half only.
        (root / "Annotations" / f"{k:03d}.xml").write_text(flickr_xml(*[RIGHT if k % 2 else LEFT] * 2, (0, 0, 10, 10)))
    shutil.copy(sounds[2], root / "audio" / "odd.wav")
    (root / "test_list.txt").write_text("".join(f"{k:03d}.jpg\r\n" for k in range(250)))
    rows = "".join(f"{k:03d},odd,non-sounding\r\n" for k in range(250))
    (root / "metadata").mkdir()
    (root / "metadata" / "flickr_test_plus_silent.csv").write_text(f"video,audio,label\r\n{rows}")
    return root


def test_the_whole_set_is_called_by_its_name_and_planted_answers_are_found(soundnet):
    plain = read_soundnet_set(soundnet)
    assert (plain.name, plain.complete, len(plain.items)) == ("Flickr-SoundNet test", True, 250)
    scale = Calibration(0.8, 0.05, 0.5, 1.0)
    found = probe_localization(fake_pairing(), read_soundnet_set(soundnet, extended=True), calibration=scale)
    assert (found["data"], found["complete"], found["missing"]) == ("Flickr-SoundNet test, extended", True, {})
    assert (found["clips"], found["with_source"]) == (500, 250)
    model, wrong, centre = (found["maps"][name] for name in ("model", "wrong_sound", "centre"))
    assert model["ciou"] == {"value": 1.0, "low": pytest.approx(0.985, abs=0.002), "high": 1.0, "n": 250}
    assert model["auc"]["value"] > 0.95
    assert model["pointing"]["value"] == 1.0
    # Each clip's neighbour rings from the other half; only the first of a group of odd size gets a sound like its own.
    assert wrong["ciou"]["value"] <= 0.03
    assert [model[key]["value"] for key in ("average_precision", "max_f1", "loc_acc")] == pytest.approx([1.0, 1.0, 1.0])
    assert centre["average_precision"]["value"] < 0.6
    assert found["by_score"]["average_precision"]["value"] == pytest.approx(1.0)
    assert [entry["value"] for entry in found["claims"].values()] == [1.0, 1.0]
    titles = [str(table.title) for table in localization_tables(found)]
    assert titles[0].startswith("Flickr-SoundNet test, extended: 250 clips with a source in view, 500 in all")
    json.dumps(found, allow_nan=False)


def test_a_part_is_refused_or_called_what_it_is(soundnet, tmp_path):
    root = tmp_path / "part"
    shutil.copytree(soundnet, root)
    (root / "audio" / "011.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"249 of the 250 clips .*011"):  # found while reading, and told at once
        probe_localization(fake_pairing(), read_soundnet_set(root))
    (root / "audio" / "007.wav").unlink()
    (root / "frames" / "008.png").write_text("no picture")
    with pytest.raises(InputError, match=r"249 of the 250 clips of Flickr-SoundNet test: not the test set .*007: no sound"):
        probe_localization(fake_pairing(), read_soundnet_set(root))
    for k in range(40, 250):
        (root / "frames" / f"{k:03d}.png").unlink(missing_ok=True)
        (root / "frames" / f"{k:03d}.jpg").unlink(missing_ok=True)
    found = probe_localization(fake_pairing(), read_soundnet_set(root), allow_missing=True)
    assert (found["data"], found["complete"]) == ("37 of the 250 clips of Flickr-SoundNet test", False)
    assert len(found["missing"]) == 213
    assert "no picture that can be read" in found["missing"]["008"]
    assert "average_precision" not in found["maps"]["model"]


def test_a_list_of_other_length_is_not_the_protocols(soundnet, tmp_path):
    root = tmp_path / "list"
    shutil.copytree(soundnet, root)
    (root / "test_list.txt").unlink()
    (root / "flickr_test.csv").write_text("".join(f"{k:03d},0\n" for k in range(249)))
    clips = read_soundnet_set(root)
    assert not clips.complete
    with pytest.raises(
        InputError, match=r"it names 249, Flickr-SoundNet test has 250 \(the flickr_test.csv of later releases lacks"
    ):
        clips.demand(allow_missing=False)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda root: shutil.rmtree(root), "there is no folder"),
        (lambda root: shutil.rmtree(root / "Annotations"), "holds no Annotations"),
        (lambda root: (root / "test_list.txt").unlink(), "holds no test_list.txt or flickr_test.csv"),
        (lambda root: (root / "Annotations" / "003.xml").write_text("<a"), "is not an annotation"),
        (lambda root: (root / "metadata" / "flickr_test_plus_silent.csv").write_text("a,b,c\n"), "no row"),
    ],
)
def test_a_wrong_layout_is_one_sentence(soundnet, tmp_path, spoil, why):
    root = tmp_path / "root"
    shutil.copytree(soundnet, root, ignore=shutil.ignore_patterns("frames", "audio"))
    spoil(root)
    with pytest.raises(InputError, match=why):
        read_soundnet_set(root, extended=True)


def test_vggss_reads_films_at_the_annotated_moment(tmp_path):
    """The halves change sides at 4.8 s: the picture at 5.0 s is the one that was annotated, not the middle of a longer film."""
    (tmp_path / "videos").mkdir()
    name = "abcdefghijk_000030"
    write_film(
        tmp_path / "videos" / f"{name}.mp4", lambda t: halves()[:, :: -1 if t > 4.85 else 1], tone(LOW, 12.0), seconds=12.0, fps=5
    )
    rows = [{"file": name, "class": "bell", "bbox": [[0.5, 0.0, 1.0, 1.0]]}, {"file": "gone_000000", "class": "x", "bbox": []}]
    (tmp_path / "vggss.json").write_text(json.dumps(rows))
    clips = read_vggss_set(tmp_path)
    assert clips.name == "1 of the 5158 clips of VGG-SS"
    with pytest.raises(InputError, match=r"it names 2, VGG-SS has 5158|gone_000000"):
        probe_localization(fake_pairing(), clips)
    found = probe_localization(fake_pairing(), clips, allow_missing=True)
    assert found["maps"]["model"]["ciou"]["value"] == 1.0
    assert "wrong_sound" not in found["maps"]  # there is no other clip whose sound it could be
    with pytest.raises(InputError, match="vggss_test_plus_silent"):
        read_vggss_set(tmp_path, extended=True)


@pytest.mark.parametrize("samples", [500, 3200, 3300, 10_000, 24_000, 40_000])
@pytest.mark.parametrize("middle", [None, 0.2, 4.9])
def test_windows_cover_the_middle_seconds(samples, middle):
    shape = fake_pairing().shape  # 0.4 s at 8 kHz: 3200 samples
    wave = np.arange(samples, dtype=np.float32)
    found = windows_of(wave, shape, middle)
    repeated = np.tile(wave, -(-3200 // samples)) if samples < 3200 else wave
    heard = min(len(repeated), 24_000)
    centre = len(repeated) / 2 if middle is None else middle * 8000
    first = min(max(round(centre - heard / 2), 0), len(repeated) - heard)
    assert found[0][0] == repeated[first]
    assert found[-1][-1] == repeated[first + heard - 1]
    if samples >= 3200:
        starts = found[:, 0]
        assert (np.diff(starts) <= 1600).all()
        assert all(np.array_equal(window, wave[int(window[0]) :][:3200]) for window in found)


def test_confidence_and_detection_have_naive_twins():
    rng = rng_for(0, "judged")
    maps, truths = rng.random((3, 224, 224)).astype(np.float32), np.zeros((3, 224, 224))
    truths[:, 50:150, 20:100] = 1
    one = Judged()
    one.add(maps, truths)
    for values, sure in zip(maps, one.confidence, strict=True):
        assert sure == pytest.approx(np.mean(sorted(values.ravel().astype(float))[-224 * 224 // 4 :]))
    ious, sure, there = rng.random(40), rng.random(40), rng.random(40) < 0.6
    found = detection(ious, sure, there)
    plain, missed = (silent_negatives(ious, sure, there, misplaced_is_missed=m) for m in (False, True))
    assert found["average_precision"]["value"] == pytest.approx(plain.average_precision)
    assert found["max_f1"]["value"] == pytest.approx(plain.max_f1)
    assert found["average_precision_misplaced_missed"]["value"] == pytest.approx(missed.average_precision)
    assert found["loc_acc"]["value"] == pytest.approx((ious[there] >= 0.5).mean())


# toy worlds --------------------------------------------------------------------------------------------------------------


def test_a_toy_world_is_judged_by_its_masks(toy):
    sources = list(open_corpus(toy))
    pairing = fake_pairing(seconds=0.6)
    found = probe_toyworld(pairing, sources, seed=0)
    assert (found["data"], found["complete"], found["clips"]) == ("toy world", True, 24)
    assert 0 < found["with_source"] <= found["with_sound"] <= 24
    assert set(found["localization"]["pointing"]) == {"model", "wrong_sound", "centre", "motion", "object_prior"}
    assert {entry["n"] for entry in found["localization"]["iou"].values()} == {found["with_source"]}
    assert 0 <= found["detection"]["average_precision"]["value"] <= 1
    assert found["detection"]["loc_acc"]["value"] == found["localization"]["pointing"]["model"]["value"]
    assert len(list(localization_tables(found))) == 2
    json.dumps(found, allow_nan=False)


def test_foreign_sounds_are_made_by_nothing_in_the_picture(toy):
    from mmssl.data.toyworld import load_truth

    pairing, sources = fake_pairing(seconds=0.6), list(open_corpus(toy))
    usable = accepted(sources, [pairing.views], 24, seed=0, name="toy world")
    cuts = cut_sources(usable, [pairing.views], seed=0)[0]
    truths = [load_truth(source.path) for source in cuts.sources]
    others = [foreign_sound(truths, cuts, row, "audio") for row in range(len(cuts))]
    assert sum(other is not None for other in others) > len(cuts) / 2
    for row, other in enumerate(others):
        if other is not None:
            wave = cuts.plans[other].requests["audio"]
            ringing = {s.material for s in truths[other].sounds if wave.start <= s.time < wave.start + wave.seconds}
            assert ringing
            assert not ringing & set(truths[row].materials)


def test_a_world_without_its_truth_is_refused(toy, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(toy, root)
    clips = sorted(root.rglob("*.mp4"))
    clips[0].with_suffix(".npz").unlink()
    with pytest.raises(InputError, match=r"1 of 24 clips are missing, such as .*no ground truth"):
        probe_toyworld(fake_pairing(seconds=0.6), list(open_corpus(root)), seed=0)
    found = probe_toyworld(fake_pairing(seconds=0.6), list(open_corpus(root)), seed=0, allow_missing=True)
    assert found["data"] == "toy world, 23 of 24 clips"
    for clip in clips:
        clip.with_suffix(".npz").unlink(missing_ok=True)
    with pytest.raises(InputError, match="none of the 24 films has a ground truth"):
        probe_toyworld(fake_pairing(seconds=0.6), list(open_corpus(root)), seed=0, allow_missing=True)
