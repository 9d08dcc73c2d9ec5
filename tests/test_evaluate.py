import time

import numpy as np
import pytest

from mmssl.downstream.calibration import Calibration, fit_threshold
from mmssl.downstream.crossfit import cross_thresholds
from mmssl.downstream.cuts import accepted, cut_sources
from mmssl.downstream.evaluate import evaluate, pair_accuracy
from mmssl.downstream.evaluation_file import evaluation_path, read_calibration, read_evaluation, write_evaluation
from mmssl.downstream.evaluation_table import evaluation_tables, figure_rows
from mmssl.downstream.galleries import retrieve
from mmssl.downstream.sounding import known_truths, score_maps
from mmssl.rng import rng_for
from mmssl.types import InputError, Source, Span
from tests.fake_world import HIGH, LOW, fake_pairing, squares, tone, write_film


def corpus(folder, count, *, linked=True):
    """Films of 1 s: red with the low tone or green with the high one; unlinked, the tone is drawn for itself."""
    sources = []
    for i in range(count):
        red = i % 2 == 0
        low = red if linked else bool(rng_for(i, "unlinked").integers(2))
        place = (int(rng_for(i, "x").integers(12, 52)), int(rng_for(i, "y").integers(12, 52)))
        film = write_film(
            folder / f"{i:03d}.mp4",
            lambda t, red=red, place=place: squares(place, None) if red else squares(None, place),
            tone(LOW if low else HIGH, 1.0),
            seconds=1.0,
        )
        sources.append(Source(f"{i:03d}", film, 10.0, 64, 64, Span(0, 1), Span(0, 1), loudness=(-15.0,) * 10))
    return sources


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("linked"), 24)


def test_a_planted_link_is_measured(linked):
    """Two kinds of sound: own is right, and so are half of the others, which no threshold can refuse."""
    found = evaluate([fake_pairing(frames=2)], linked[:12], linked[12:], seed=0, clips=12)["colour_pitch"]
    assert found["sources"] == 12
    assert found["failed"] == {}
    assert found["accuracy"]["value"] == pytest.approx((1 + 6 / 11) / 2, abs=0.01)
    assert found["retrieval"]["gallery"] == 12
    for way in ("video_to_audio", "audio_to_video"):
        entry = found["retrieval"][way]
        assert entry["R@1"]["value"] == pytest.approx(1 / 6, abs=0.12)
        assert entry["R@5"]["value"] > entry["R@5"]["chance"] + 0.2
    scale = Calibration.from_json(found["calibration"], "here")
    assert 0.3 < scale.threshold < 1.0
    assert scale.low < scale.high


def test_a_cut_link_is_at_chance(tmp_path):
    sources = corpus(tmp_path, 32, linked=False)
    found = evaluate([fake_pairing()], sources[:16], sources[16:], seed=0)["colour_pitch"]
    accuracy = found["accuracy"]
    assert accuracy["low"] <= 0.5 <= accuracy["high"]
    assert abs(accuracy["value"] - 0.5) < 0.15


def test_the_same_seed_gives_the_same_figures_and_a_source_order_does_not_matter(linked):
    once = evaluate([fake_pairing()], linked[:8], linked[8:], seed=3, clips=8)
    assert once == evaluate([fake_pairing()], linked[:8], linked[8:], seed=3, clips=8)


def test_a_broken_file_is_counted_and_named(linked, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film")
    broken = Source("bad", bad, 10.0, 64, 64, Span(0, 1), Span(0, 1), loudness=(-15.0,) * 10)
    found = evaluate([fake_pairing()], [*linked[:5], broken], linked[12:], seed=0)["colour_pitch"]
    assert found["sources"] == 5
    assert list(found["failed"]) == ["bad"]
    tables = evaluation_tables({"objectives": {"colour_pitch": found}})
    assert "1 could not be decoded" in str(tables[0].title)
    shown = [what for what, _, _ in figure_rows(found)]
    assert "picture to sound, R@1 of 5" in shown
    assert not any("R@5" in what or "R@10" in what for what in shown)  # of five


def test_one_source_is_not_enough(linked):
    with pytest.raises(InputError, match="1 held-out sources are usable"):
        evaluate([fake_pairing()], linked[:1], linked[1:], seed=0)
    silent = [Source(s.id, s.path, 10.0, 64, 64, Span(0, 1), None) for s in linked]
    with pytest.raises(InputError, match="0 training"):
        evaluate([fake_pairing()], linked, silent, seed=0)


def test_accuracy_matches_the_naive_count():
    scores = rng_for(0, "scores").normal(size=(9, 9)).astype(np.float32) + np.eye(9, dtype=np.float32)
    found = pair_accuracy(scores, 0.4)
    for i in range(9):
        wrong = [scores[i, j] < 0.4 for j in range(9) if j != i] + [scores[j, i] < 0.4 for j in range(9) if j != i]
        assert found[i] == pytest.approx(((scores[i, i] >= 0.4) + np.mean(wrong)) / 2)


def test_a_constant_score_is_at_chance_whatever_the_threshold():
    scores = np.full((30, 30), 0.3, np.float32)
    for threshold in (0.2, 0.3, 0.4):
        assert pair_accuracy(scores, threshold).mean() == pytest.approx(0.5)
    found = retrieve(scores, seed=0, gallery=10)
    assert found["R@1"].mean() == pytest.approx(0.1)
    assert found["rank"].mean() == pytest.approx(5.5)


def test_galleries_are_drawn_and_cover_the_sources():
    scores = np.eye(150, dtype=np.float32)
    found = retrieve(scores, seed=0)
    assert len(found["R@1"]) == 150  # 20 draws of 100 of 150 reach everyone
    assert (found["R@1"] == 1).all()


def test_cuts_show_the_whole_picture_and_are_addressed(linked):
    pairing = fake_pairing(crop=(0.5, 0.6))
    first, again = (cut_sources(linked[:3], [pairing.views], seed=0)[0] for _ in range(2))
    other = cut_sources(linked[:3], [pairing.views], seed=0, take=1)[0]
    assert all(plan.requests["video"].box is None for plan in first.plans)
    assert first.tensors["audio"].equal(again.tensors["audio"])
    assert not first.tensors["audio"].equal(other.tensors["audio"])
    assert accepted(linked, [pairing.views], 5, seed=0, name="a") != accepted(linked, [pairing.views], 5, seed=0, name="b")


def test_views_of_a_region_are_evaluated_on_it_and_not_asked_where_things_are(linked):
    region = (0.0, 0.25, 0.5, 0.5)
    pairing = fake_pairing(crop=(0.5, 0.6), region=region)
    cuts = cut_sources(linked[:3], [pairing.views], seed=0)[0]
    for plan in cuts.plans:
        box = plan.requests["video"].box
        assert (box.left, box.top, box.width, box.height) == pytest.approx(region)
    assert known_truths(cuts, pairing.shape) == {}


def test_maps_are_scored_beside_what_hears_nothing(linked):
    pairing = fake_pairing()
    cuts = cut_sources(linked[:4], [pairing.views], seed=0, motion=True)[0]
    video, audio = pairing.encode("video", cuts.tensors["video"]), pairing.encode("audio", cuts.tensors["audio"])
    own = pairing.maps(video, audio)
    pictures = cuts.tensors["video"][:, 0].float()
    colour = (pictures - pictures.mean(1, keepdim=True)).abs().amax(1) > 40
    truths = {row: colour[row].numpy() for row in range(4)}
    found = score_maps(cuts, truths, own, -own, pairing.shape, offset=3.5, stride=8.0)
    assert found["pointing_near"]["model"].min() == 1.0
    assert found["pointing_near"]["wrong_sound"].max() == 0.0
    assert found["iou"]["model"].mean() > 0.5
    assert set(found["pointing"]) == {"model", "wrong_sound", "centre", "motion"}


def test_the_file_is_read_back_and_damage_is_told(tmp_path):
    scale = Calibration(0.5, 0.1, 0.2, 0.9)
    assert read_evaluation(tmp_path) is None
    assert read_calibration(tmp_path, "a") is None
    write_evaluation(evaluation_path(tmp_path), {"objectives": {"a": {"calibration": scale.to_json()}}})
    assert read_calibration(tmp_path, "a") == scale
    assert read_calibration(tmp_path, "b") is None
    evaluation_path(tmp_path).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_evaluation(tmp_path)


def test_rows_read_in_order(linked):
    found = evaluate([fake_pairing()], linked[:6], linked[6:], seed=0)["colour_pitch"]
    rows = list(figure_rows(found))
    assert rows[0][0] == "correspondence accuracy"
    assert any("R@5 of 6" in what for what, _, _ in rows)


def test_evaluation_costs_one_open_a_clip(linked, monkeypatch):
    from mmssl.downstream import cuts

    calls = []
    real = cuts.answer
    monkeypatch.setattr(cuts, "answer", lambda source, requests: calls.append(source.id) or real(source, requests))
    begin = time.process_time()
    cut_sources(linked, [fake_pairing().views, fake_pairing(frames=3).views], seed=0, motion=True)
    assert sorted(calls) == sorted(source.id for source in linked)
    assert time.process_time() - begin < 20


def test_a_threshold_for_a_source_is_fitted_on_the_others_only():
    """The naive twin; and changing a source's own scores does not change the threshold that judges it."""
    takes = [rng_for(0, "take", k).normal(size=(30, 30)).astype(np.float32) + np.eye(30, dtype=np.float32) for k in range(2)]
    names = [[f"{i}" for i in range(30)]] * 2
    found = cross_thresholds(takes, names)
    for i in range(30):
        others = [j for j in range(30) if j % 5 != i % 5]
        own = [take[j, j] for take in takes for j in others]
        wrong = [take[j, k] for take in takes for j in others for k in others if j != k]
        assert found[0][i] == found[1][i] == pytest.approx(fit_threshold(own, wrong))
    changed = [take.copy() for take in takes]
    for take in changed:
        take[3], take[:, 3] = 100.0, 100.0
    assert cross_thresholds(changed, names)[0][3] == found[0][3]


def test_a_threshold_fitted_on_what_it_judges_would_flatter_and_the_crossed_one_does_not():
    crossed, fooled = [], []
    for draw in range(40):
        scores = rng_for(0, "noise", draw).normal(size=(20, 20)).astype(np.float32)
        crossed.append(pair_accuracy(scores, cross_thresholds([scores], [[str(i) for i in range(20)]])[0]).mean())
        fooled.append(pair_accuracy(scores, fit_threshold(np.diagonal(scores), scores[~np.eye(20, dtype=bool)])).mean())
    assert np.mean(fooled) > 0.54  # measured: 0.559
    assert abs(np.mean(crossed) - 0.5) < 0.02


def test_too_few_sources_are_judged_by_the_training_threshold(linked):
    with pytest.raises(ValueError, match="at least 20"):
        cross_thresholds([np.eye(19, dtype=np.float32)], [[str(i) for i in range(19)]])
    found = evaluate([fake_pairing()], linked[:6], linked[6:], seed=0)["colour_pitch"]
    assert found["accuracy"]["value"] == found["accuracy_training_threshold"]["value"]
