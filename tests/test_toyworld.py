"""The toy world is what its truth says: pictures, sound, captions, motion; the same for everyone; and cut where it says it is cut."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from mmssl.commands.toyworld import toyworld as command
from mmssl.data.decode import answer
from mmssl.data.toyworld import CUTS, PRESETS, STAMP, Difficulty, Truth, clip_path, corpus, load_truth, make_toyworld
from mmssl.data.toyworld.captions import write_srt
from mmssl.data.toyworld.clip import plan_clip
from mmssl.data.toyworld.materials import MATERIALS
from mmssl.data.toyworld.motion import Piece, fly
from mmssl.data.toyworld.picture import Pictures, draw_pictures
from mmssl.data.toyworld.scene import OFFSCREEN, draw_scene
from mmssl.data.toyworld.sheet import SHEET
from mmssl.data.toyworld.sound import strike_response, synthesise
from mmssl.types import Cue, Frames, InputError, MediaError, Source, Wave

DEFAULT = PRESETS["default"]
TINY = replace(DEFAULT, size=64, fps=5, seconds=1.0, rate=8000)  # where only the folder is looked at
LOUD = replace(DEFAULT, muted=0.0, offscreen=0.0, snr_db=60.0)  # every clip sounds, by what is in view alone


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toyworld(tmp_path_factory.mktemp("loud") / "world", clips=8, seed=3, difficulty=LOUD, workers=0, progress=False)


def truth_of(folder: Path, index: int) -> Truth:
    truth = load_truth(clip_path(folder, index))
    assert truth is not None
    return truth


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def listen(path: Path, seconds: float, rate: int) -> np.ndarray:
    wave = Wave(0.0, seconds, rate)
    return answer(Source(path.stem, path), [wave])[wave].numpy()


# -- the same for everyone ----------------------------------------------------------------------------------------------------


def raw_hash(seed: int, index: int, difficulty: Difficulty, cut: str | None) -> str:
    clip = plan_clip(seed, index, difficulty, cut)  # pyright: ignore[reportArgumentType]
    parts = draw_pictures(clip)
    digest = hashlib.sha256(parts.frames.tobytes() + parts.labels.tobytes() + parts.layers.tobytes())
    digest.update(synthesise(clip).tobytes() + write_srt(clip.captions).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("cut", [None, *CUTS])
def test_the_same_address_gives_the_same_pixels_and_samples(cut: str | None) -> None:
    assert raw_hash(1, 5, DEFAULT, cut) == raw_hash(1, 5, DEFAULT, cut)


def test_another_seed_index_or_difficulty_gives_another_clip() -> None:
    hashes = [
        raw_hash(1, 5, DEFAULT, None),
        raw_hash(2, 5, DEFAULT, None),
        raw_hash(1, 6, DEFAULT, None),
        raw_hash(1, 5, PRESETS["easy"], None),
    ]
    assert len(set(hashes)) == len(hashes)


def test_workers_and_the_number_of_clips_change_nothing(tmp_path: Path) -> None:
    alone = make_toyworld(tmp_path / "alone", clips=2, seed=4, workers=0, progress=False)
    pooled = make_toyworld(tmp_path / "pooled", clips=9, seed=4, workers=2, progress=False)
    wanted, found = content(alone), content(pooled)
    del wanted[STAMP]
    assert len(wanted) == 6 and wanted.items() <= found.items()
    assert len(found) == 28


# -- the folder ---------------------------------------------------------------------------------------------------------------


def test_the_same_call_again_touches_nothing_and_a_larger_one_adds(tmp_path: Path) -> None:
    make_toyworld(tmp_path, clips=2, difficulty=TINY, workers=0, progress=False)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    make_toyworld(tmp_path, clips=2, difficulty=TINY, workers=0, progress=False)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    make_toyworld(tmp_path, clips=3, difficulty=TINY, workers=0, progress=False)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(after) == len(before) + 3
    assert all(after[name] == before[name] for name in before if name != STAMP)


def test_an_interrupted_corpus_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_toyworld(tmp_path / "whole", clips=4, seed=8, difficulty=TINY, workers=0, progress=False)
    calls, record = Counter[str](), corpus.record

    def interrupted(*args: np.ndarray, **options: int) -> bytes:
        calls["record"] += 1
        if calls["record"] == 3:
            raise KeyboardInterrupt
        return record(*args, **options)

    out = tmp_path / "cut short"
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_toyworld(out, clips=4, seed=8, difficulty=TINY, workers=0, progress=False)
    assert not clip_path(out, 2).exists()
    clip_path(out, 3).write_bytes(b"half a file")  # as if killed between the video and its truth
    kept = clip_path(out, 0).stat().st_mtime_ns
    make_toyworld(out, clips=4, seed=8, difficulty=TINY, workers=0, progress=False)
    assert content(out) == content(whole)
    assert clip_path(out, 0).stat().st_mtime_ns == kept


def test_what_a_killed_process_left_is_swept_up(tmp_path: Path) -> None:
    make_toyworld(tmp_path, clips=1, difficulty=TINY, workers=0, progress=False)
    old, young = tmp_path / ".clip_000001.77.part.mp4", tmp_path / ".clip_000001.78.part.mp4"
    old.write_bytes(b"half"), young.write_bytes(b"half")
    os.utime(old, (1, 1))
    make_toyworld(tmp_path, clips=2, difficulty=TINY, workers=0, progress=False)
    assert young.exists() and not old.exists()


def test_another_corpus_in_the_same_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    make_toyworld(tmp_path, clips=1, difficulty=TINY, workers=0, progress=False)
    before = content(tmp_path)
    with pytest.raises(InputError, match=r"seed is 0, asked for 1"):
        make_toyworld(tmp_path, clips=1, seed=1, difficulty=TINY, progress=False)
    with pytest.raises(InputError, match=r"difficulty\.silent_max is 3, asked for 1"):
        make_toyworld(tmp_path, clips=1, difficulty=replace(TINY, silent_max=1), progress=False)
    with pytest.raises(InputError, match=r"cut is None, asked for frozen"):
        make_toyworld(tmp_path, clips=2, difficulty=TINY, cut="frozen", progress=False)
    make_toyworld(tmp_path, clips=2, difficulty=TINY, workers=0, progress=False)
    with pytest.raises(InputError, match=r"clips is 2, asked for 1"):
        make_toyworld(tmp_path, clips=1, difficulty=TINY, progress=False)
    assert before.items() - content(tmp_path).items() == {(STAMP, before[STAMP])}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="holds no toy world"):
        make_toyworld(tmp_path, clips=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]
    (tmp_path / STAMP).write_text("[]")
    with pytest.raises(InputError, match="not the stamp"):
        make_toyworld(tmp_path, clips=1, progress=False)
    with pytest.raises(InputError, match="is a file"):
        make_toyworld(tmp_path / "holiday.mp4", clips=1, progress=False)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"clips": 0}, "clips is 0"),
        ({"clips": 1, "seed": -1}, "seed is -1"),
        ({"clips": 1, "difficulty": "brutal"}, "no difficulty named 'brutal'; known: easy, default"),
        ({"clips": 1, "cut": "everything"}, "no cut named 'everything'; known: sound_from_other_clip"),
    ],
)
def test_bad_arguments_name_what_is_allowed(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_toyworld(tmp_path / "x", **arguments)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "values", [{"muted": 1.5}, {"size": 127}, {"silent_min": 4}, {"radius_min": 25.0}, {"silent_min": 0, "silent_max": 0}]
)
def test_a_difficulty_that_cannot_be_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"difficulty\."):
        Difficulty(**values)  # pyright: ignore[reportArgumentType]


# -- what is drawn is what the recipe says ------------------------------------------------------------------------------------


def test_shares_of_the_default_difficulty() -> None:
    scenes = [draw_scene(0, index, "here", replace(DEFAULT, twins=0.0)) for index in range(200)]
    things = [thing for scene in scenes for thing in scene.things]
    assert np.mean([thing.shape == MATERIALS[thing.material].shape for thing in things]) == pytest.approx(0.9, abs=0.03)
    assert np.mean([thing.hue == MATERIALS[thing.material].hue for thing in things]) == pytest.approx(0.8, abs=0.04)
    assert np.mean([scene.muted for scene in scenes]) == pytest.approx(0.25, abs=0.08)
    heard = [scene for scene in scenes if not scene.muted]
    assert np.mean([any(event.body == OFFSCREEN for event in scene.sounds) for scene in heard]) == pytest.approx(0.2, abs=0.09)
    assert {sum(thing.sounds for thing in scene.things) for scene in scenes} == {1}
    assert {sum(not thing.sounds for thing in scene.things) for scene in scenes} == {1, 2, 3}
    assert all(13 <= thing.radius <= 22 for thing in things)
    first = Counter(next(thing.material for thing in scene.things if thing.sounds) for scene in scenes)
    assert len(first) == 8 and min(first.values()) >= 10  # 200 / 8 = 25 each


def has_twin(seed_index: int, difficulty: Difficulty) -> bool:
    things = draw_scene(0, seed_index, "here", difficulty).things
    loud = {thing.hue for thing in things if thing.sounds}
    return any(thing.hue in loud for thing in things if not thing.sounds)


def test_every_clip_of_twins_has_one_and_two_sounders_differ() -> None:
    assert all(has_twin(index, PRESETS["twins"]) for index in range(30))
    for index in range(30):
        things = draw_scene(0, index, "here", PRESETS["two_sounders"]).things
        materials = [thing.material for thing in things if thing.sounds]
        assert len(materials) == 2 == len(set(materials))


def test_what_sounds_from_outside_is_not_in_view() -> None:
    for index in range(60):
        scene = draw_scene(0, index, "here", PRESETS["noisy"])
        beyond = {event.material for event in scene.sounds if event.body == OFFSCREEN}
        assert not beyond & {thing.material for thing in scene.things}
        assert all(abs(event.pan) == 1 for event in scene.sounds if event.body == OFFSCREEN)


def test_sounders_are_struck_often_enough_to_be_found() -> None:
    strikes = [sum(event.body >= 0 for event in draw_scene(0, index, "here", LOUD).sounds) for index in range(40)]
    assert min(strikes) >= 3 and np.mean(strikes) < 9


# -- motion -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restitution", [1.0, 0.6])
@pytest.mark.parametrize("gravity", [0.0, 120.0])
def test_bodies_stay_in_the_box_and_out_of_each_other(gravity: float, restitution: float) -> None:
    starts = [Piece(0, 30, 30, 70, 20, 0, 1), Piece(0, 90, 40, -50, 60, 0, 1), Piece(0, 60, 90, 30, -80, 0, 1)]
    radii = [14.0, 20.0, 17.0]
    flights, impacts = fly(
        starts, radii, [0, 0, 0], box=(5, 5, 122, 122), gravity=gravity, seconds=8.0, scale=1.0, restitution=restitution
    )
    assert len(impacts) > 8 and any(impact.other >= 0 for impact in impacts)
    times = np.linspace(0, 8, 4001)
    paths = np.stack([flight.at(times)[:, :2] for flight in flights])  # (K, T, 2)
    for path, radius in zip(paths, radii, strict=True):
        assert path.min() >= 5 + radius - 1e-6 and path.max() <= 122 - radius + 1e-6
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert np.hypot(*(paths[a] - paths[b]).T).min() >= radii[a] + radii[b] - 1e-6
    for impact in impacts:  # at every impact the body really touches what it strikes
        x, y = flights[impact.body].at(np.array([impact.time]))[0, :2]
        if impact.other >= 0:
            gap = np.hypot(*(flights[impact.other].at(np.array([impact.time]))[0, :2] - (x, y))) - radii[impact.other]
        else:
            gap = {-2: x - 5, -3: 122 - x, -4: y - 5, -5: 122 - y}[impact.other]
        assert gap == pytest.approx(radii[impact.body], abs=1e-6)


@pytest.mark.parametrize(("preset", "low", "high"), [("default", 0.97, 1.03), ("lossy", 0.0, 0.7)])
def test_only_lossy_worlds_lose_speed(preset: str, low: float, high: float) -> None:
    """Mean squared speed of the last pieces of flight over that of the first, where nothing falls: the direction of time."""
    first, last = 0.0, 0.0
    for index in range(60):
        for flight in draw_scene(0, index, "here", PRESETS[preset]).flights:
            if flight.gravity == 0.0:
                first += flight.pieces[0].vx ** 2 + flight.pieces[0].vy ** 2
                last += flight.pieces[-1].vx ** 2 + flight.pieces[-1].vy ** 2
    assert low <= last / first <= high


@pytest.mark.parametrize("index", [131, 1237, 2104])
def test_lossy_bodies_in_a_heap_do_not_strike_for_ever(index: int) -> None:
    """In these scenes of seed 0 bodies lay between others and struck them ever faster and ever more gently: no clip came of it."""
    scene = draw_scene(0, index, "here", PRESETS["lossy"])
    assert 0 < len(scene.impacts) < 1000


def test_worlds_made_before_there_was_loss_stay_valid() -> None:
    assert "restitution" not in DEFAULT.as_dict()
    assert PRESETS["lossy"].as_dict()["restitution"] == 0.6
    assert "falling" not in DEFAULT.as_dict() and PRESETS["falling"].as_dict()["falling"] == 1.0
    falls = [
        [any(f.gravity for f in draw_scene(0, k, "here", PRESETS[name]).flights) for k in range(60)]
        for name in ("falling", "default")
    ]
    assert all(falls[0]) and 15 < sum(falls[1]) < 45
    with pytest.raises(InputError, match=r"restitution is 0\.2"):
        replace(DEFAULT, restitution=0.2)


# -- the truth agrees with the pixels -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures() -> list[Pictures]:
    return [draw_pictures(plan_clip(3, index, LOUD)) for index in range(4)]


def test_masks_are_centred_on_the_positions(loud: Path) -> None:
    checked = 0
    for index in range(8):
        truth = truth_of(loud, index)
        for frame in range(0, 100, 9):
            for body in range(len(truth.materials)):
                others = [k for k in range(len(truth.materials)) if k != body]
                apart = np.hypot(*(truth.positions[frame, others] - truth.positions[frame, body]).T)
                if (apart > truth.radii[others] + truth.radii[body] + 2).all():  # nothing hides any part of it
                    y, x = np.nonzero(truth.mask(body, frame))
                    assert np.hypot(x.mean() - truth.positions[frame, body, 0], y.mean() - truth.positions[frame, body, 1]) < 0.5
                    assert np.hypot(x - x.mean(), y - y.mean()).max() == pytest.approx(truth.radii[body], abs=1.5)
                    checked += 1
    assert checked > 50


def test_flow_carries_each_frame_onto_the_next(loud: Path, pictures: list[Pictures]) -> None:
    for index, drawn in enumerate(pictures):
        truth = truth_of(loud, index)
        assert (truth.labels == drawn.labels).all()
        for frame in (10, 47, 80):
            flow, seen = truth.flow(frame), truth.stays_visible(frame)
            ys, xs = np.mgrid[:128, :128].astype(np.float32)
            warped = remap(drawn.frames[frame + 1], xs + flow[0], ys + flow[1])
            now, still = drawn.frames[frame].astype(int), drawn.frames[frame + 1].astype(int)
            inside = seen & (np.abs(flow).max(axis=0) < 30)
            objects = erode(truth.labels[frame] > 0) & inside
            assert np.abs(warped - now)[objects].mean() < 0.4 * np.abs(still - now)[objects].mean()
            background = erode(truth.labels[frame] == 0) & inside
            assert np.abs(warped - now)[background].mean() < 3.0
            assert seen.mean() > 0.9


def test_flow_over_several_frames_follows_the_flow_from_frame_to_frame(loud: Path) -> None:
    truth = truth_of(loud, 0)
    flow, seen = truth.flow(30, 3), truth.stays_visible(30, 3)
    ys, xs = np.mgrid[:128, :128].astype(np.float64)
    for frame in (30, 31, 32):  # from where each point has come to
        x, y = (np.clip(np.rint(place).astype(int), 0, 127) for place in (xs, ys))
        step = truth.flow(frame)[:, y, x]
        seen &= truth.labels[frame][y, x] == truth.labels[30]
        xs, ys = xs + step[0], ys + step[1]
    start = np.mgrid[:128, :128][::-1]
    assert seen.mean() > 0.8
    assert np.abs(np.stack([xs, ys]) - start - flow)[:, seen].max() < 0.3


def remap(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x0, y0 = np.clip(np.floor(x).astype(int), 0, 126), np.clip(np.floor(y).astype(int), 0, 126)
    a, b = (x - x0)[..., None], (y - y0)[..., None]
    p = picture.astype(float)
    return (p[y0, x0] * (1 - a) + p[y0, x0 + 1] * a) * (1 - b) + (p[y0 + 1, x0] * (1 - a) + p[y0 + 1, x0 + 1] * a) * b


def erode(mask: np.ndarray, by: int = 2) -> np.ndarray:
    inner = mask.copy()
    for dy in range(-by, by + 1):
        for dx in range(-by, by + 1):
            inner &= np.roll(mask, (dy, dx), (0, 1))
    inner[:by], inner[-by:], inner[:, :by], inner[:, -by:] = False, False, False, False
    return inner


def test_flow_needs_a_next_frame(loud: Path) -> None:
    truth = truth_of(loud, 0)
    assert truth.flow(98).shape == (2, 128, 128)
    with pytest.raises(IndexError, match="frames 0 to 98"):
        truth.flow(99)


def test_decoded_frames_are_the_drawn_ones_at_their_times(loud: Path, pictures: list[Pictures]) -> None:
    for index, drawn in enumerate(pictures):
        asked = Frames(tuple(i / 25 for i in (0, 13, 51, 99)), 128)
        path = clip_path(loud, index)
        decoded = answer(Source(path.stem, path), [asked])[asked].numpy().transpose(0, 2, 3, 1).astype(int)
        for shown, i in zip(decoded, (0, 13, 51, 99), strict=True):
            errors = {j: np.abs(shown - drawn.frames[j]).mean() for j in range(max(0, i - 2), min(100, i + 3))}
            assert min(errors, key=errors.__getitem__) == i
            assert errors[i] < 8


def test_the_sounding_mask_is_that_of_what_sounds(loud: Path) -> None:
    for index in range(8):
        truth = truth_of(loud, index)
        (body,) = truth.sounders
        assert truth.materials[body] in {m.name for m in MATERIALS if m.sounds}
        assert (truth.sounding_mask(1.3) == truth.mask(body, 32)).all()
        strike = truth.sounds[0].time
        assert (truth.sounding_mask(strike, window=0.1) == truth.sounding_mask(strike)).all()
        long_before = min(sound.time for sound in truth.sounds) - 0.2
        if long_before > 0:
            assert not truth.sounding_mask(long_before, window=0.2).any()
    assert truth_of(loud, 0).sounding_mask(-5.0).shape == (128, 128)
    assert truth_of(loud, 0).frame_at(99.0) == 99


# -- sound --------------------------------------------------------------------------------------------------------------------


def test_decoded_onsets_are_where_the_truth_says(loud: Path) -> None:
    late = []
    for index in range(8):
        truth = truth_of(loud, index)
        rate = 16_000
        wave = np.abs(listen(clip_path(loud, index), 4.0, rate))
        previous = -1.0
        for sound in truth.sounds:
            if sound.time - previous > 0.4 and sound.time < 3.9:  # the one before has died away
                middle = round(sound.time * rate)
                before, after = max(0, middle - 800), wave[middle : middle + 800]
                first = before + int(np.argmax(wave[before : middle + 800] > 0.25 * after.max()))
                late.append(first / rate - sound.time)
            previous = sound.time
    assert len(late) >= 15
    assert np.abs(late).max() < 0.010, late


def test_muted_clips_are_silent_and_others_are_not(tmp_path: Path) -> None:
    make_toyworld(tmp_path, clips=10, seed=1, difficulty=replace(DEFAULT, fps=5), workers=0, progress=False)
    truths = [truth_of(tmp_path, index) for index in range(10)]
    assert {truth.muted for truth in truths} == {True, False}
    for index, truth in enumerate(truths):
        peak = np.abs(listen(clip_path(tmp_path, index), 4.0, 16_000)).max()
        assert peak < 1e-4 if truth.muted else peak > 0.1
        assert not truth.muted or (truth.sounders == () and not truth.sounding_mask(1.0).any())


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_the_stated_level(snr_db: float) -> None:
    plain = plan_clip(0, 1, replace(LOUD, snr_db=80.0))
    clean, noisy = synthesise(plain), synthesise(replace(plain, difficulty=replace(LOUD, snr_db=snr_db)))
    gain = float((clean * noisy).sum() / (clean * clean).sum())  # the mix is scaled to a peak of its own
    noise = noisy - gain * clean
    assert 10 * np.log10(np.mean((gain * clean) ** 2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.5)


def test_sound_is_panned_to_where_the_strike_is() -> None:
    for index in range(6):
        clip = plan_clip(0, index, LOUD)
        track = synthesise(clip)
        for event, after in zip(clip.sounds, [*clip.sounds[1:], None], strict=True):
            start = round(event.time * 16_000)
            left, right = np.abs(track[:, start : start + 200]).max(axis=1)
            if abs(event.pan) > 0.6 and event is clip.sounds[0] and (after is None or after.time - event.time > 0.02):
                assert (right > left) == (event.pan > 0)


def test_materials_sound_unlike_each_other_and_large_ones_lower() -> None:
    def spectrum(material: int, radius: float) -> np.ndarray:
        power = np.abs(np.fft.rfft(strike_response(material, radius, 16_000), 16_000)) ** 2
        bands = np.add.reduceat(power, np.unique(np.geomspace(40, 7999, 60).astype(int)))
        return np.log(bands / bands.sum() + 1e-4)

    sounding = [index for index, material in enumerate(MATERIALS) if material.sounds]
    for a in sounding:
        for b in sounding:
            if a < b:
                assert np.corrcoef(spectrum(a, 17.5), spectrum(b, 17.5))[0, 1] < 0.9
        hertz = [np.abs(np.fft.rfft(strike_response(a, radius, 16_000), 16_000)).argmax() for radius in (14.0, 21.0)]
        assert MATERIALS[a].click > 0.5 or hertz[0] > 1.2 * hertz[1]


# -- captions -----------------------------------------------------------------------------------------------------------------


def test_captions_tell_what_happens_near_where_it_happens() -> None:
    told = 0
    for index in range(20):
        clip = plan_clip(0, index, DEFAULT)
        assert len(clip.captions) >= 2
        for before, after in zip(clip.captions, clip.captions[1:], strict=False):
            assert before.start < before.end < after.start
        assert clip.captions[-1].end <= 4.0 + 1e-9
        for cue in clip.captions[1:]:
            near = [impact for impact in clip.seen.impacts if abs(impact.time - cue.start) <= DEFAULT.caption_slack + 0.002]
            assert any(cue.text.startswith(f"the {clip.seen.things[impact.body].words} ") for impact in near), cue
            told += 1
    assert told > 40


def test_srt_text() -> None:
    assert write_srt((Cue(0.0, 1.5, "one"), Cue(3601.25, 3602.0, "two"))) == (
        "1\n00:00:00,000 --> 00:00:01,500\none\n\n2\n01:00:01,250 --> 01:00:02,000\ntwo\n"
    )


def test_sidecars_hold_the_captions_of_the_truth(loud: Path) -> None:
    truth = truth_of(loud, 2)
    assert clip_path(loud, 2).with_suffix(".srt").read_text() == write_srt(truth.captions)
    assert truth.captions == plan_clip(3, 2, LOUD).captions


# -- cuts ---------------------------------------------------------------------------------------------------------------------


def both(
    cut: str, index: int
) -> tuple[tuple[Pictures, np.ndarray, tuple[Cue, ...]], tuple[Pictures, np.ndarray, tuple[Cue, ...]]]:
    whole, parted = plan_clip(5, index, LOUD), plan_clip(5, index, LOUD, cut)  # pyright: ignore[reportArgumentType]
    return (draw_pictures(whole), synthesise(whole), whole.captions), (draw_pictures(parted), synthesise(parted), parted.captions)


def test_sound_from_other_clip_changes_the_sound_alone() -> None:
    for index in range(3):
        (seen, heard, told), (seen_cut, heard_cut, told_cut) = both("sound_from_other_clip", index)
        assert (seen.frames == seen_cut.frames).all() and told == told_cut
        assert abs(np.corrcoef(heard.ravel(), heard_cut.ravel())[0, 1]) < 0.2
        assert {event.body for event in plan_clip(5, index, LOUD, "sound_from_other_clip").sounds} == {OFFSCREEN}


def test_sound_from_other_clip_is_independent_of_the_picture() -> None:
    same = []
    for index in range(100):
        clip = plan_clip(5, index, LOUD, "sound_from_other_clip")
        (in_view,) = (thing.material for thing in clip.seen.things if thing.sounds)
        same.append(in_view == clip.sounds[0].material)
    assert np.mean(same) == pytest.approx(1 / 8, abs=0.1)


def test_sound_shifted_moves_every_strike_by_the_same_time() -> None:
    shifts = []
    for index in range(20):
        whole, cut = plan_clip(5, index, LOUD), plan_clip(5, index, LOUD, "sound_shifted")
        assert cut.seen == whole.seen and cut.captions == whole.captions
        candidates = [(after.time - whole.sounds[0].time) % 4.0 for after in cut.sounds]
        wanted = sorted(event.time for event in cut.sounds)
        fits = [
            shift for shift in candidates if np.allclose(sorted((event.time + shift) % 4.0 for event in whole.sounds), wanted)
        ]
        assert fits
        shifts.append(fits[0])
        assert 0.5 <= fits[0] <= 3.5
    assert np.std(shifts) > 0.4
    (_, heard, _), (_, heard_cut, _) = both("sound_shifted", 1)
    assert abs(np.corrcoef(heard.ravel(), heard_cut.ravel())[0, 1]) < 0.3


def test_captions_shuffled_changes_the_captions_alone() -> None:
    for index in range(3):
        (seen, heard, told), (seen_cut, heard_cut, told_cut) = both("captions_shuffled", index)
        assert (seen.frames == seen_cut.frames).all() and (heard == heard_cut).all()
        assert {cue.text for cue in told} != {cue.text for cue in told_cut}


def test_frozen_shows_one_of_the_frames_and_sounds_the_same() -> None:
    for index in range(3):
        (seen, heard, told), (seen_cut, heard_cut, told_cut) = both("frozen", index)
        assert (seen_cut.frames == seen_cut.frames[0]).all() and (seen_cut.layers == seen_cut.layers[0]).all()
        assert any((seen.frames[i] == seen_cut.frames[0]).all() for i in range(100))
        assert (heard == heard_cut).all() and told == told_cut


def test_turned_turns_the_picture_and_all_that_is_known_of_it() -> None:
    turns = []
    for index in range(8):
        (seen, heard, _), (turned, heard_cut, _) = both("turned", index)
        quarters = plan_clip(5, index, LOUD, "turned").turns
        assert (turned.frames == np.rot90(seen.frames, quarters, axes=(1, 2))).all() and (heard == heard_cut).all()
        assert (turned.labels == np.rot90(seen.labels, quarters, axes=(1, 2))).all()
        last = 127
        x, y = seen.positions[..., 0], seen.positions[..., 1]
        expected = {0: (x, y), 1: (y, last - x), 2: (last - x, last - y), 3: (last - y, x)}[quarters]
        assert np.allclose(turned.positions, np.stack(expected, axis=-1), atol=1e-4)
        shift, turned_shift = (part.layers[40, :, :, 2] - part.layers[30, :, :, 2] for part in (seen, turned))
        u, v = shift.T
        assert np.allclose(turned_shift.T, {0: (u, v), 1: (v, -u), 2: (-u, -v), 3: (-v, u)}[quarters], atol=1e-4)
        # What lies at a point of an object's own coordinates is shown where its map says, with the object's own angle.
        assert np.allclose(np.linalg.det(turned.layers[..., :2]), 1.0, atol=1e-4)
        turns.append(quarters)
    assert len(set(turns)) == 4


def test_silent_only_leaves_nothing_in_view_that_could_sound() -> None:
    for index in range(20):
        whole, cut = plan_clip(5, index, LOUD), plan_clip(5, index, LOUD, "silent_only")
        assert not any(thing.sounds for thing in cut.seen.things)
        assert [thing.radius for thing in cut.seen.things] == [thing.radius for thing in whole.seen.things]
        assert (synthesise(cut) == synthesise(whole)).all()
        strikes = np.array([event.time for event in cut.sounds])[:, None]
        moved = np.array([impact.time for impact in cut.seen.impacts])
        assert np.abs(strikes - moved).min(axis=1).max() > 0.02  # not in step with what is seen either


@pytest.mark.parametrize("cut", CUTS)
def test_cut_files_are_made_like_whole_ones(tmp_path: Path, loud: Path, cut: str) -> None:
    make_toyworld(tmp_path, clips=1, seed=3, difficulty=LOUD, cut=cut, workers=0, progress=False)
    truth = truth_of(tmp_path, 0)
    assert truth.cut == cut
    assert shape_of(clip_path(tmp_path, 0)) == shape_of(clip_path(loud, 0))
    if cut in ("sound_from_other_clip", "silent_only"):
        assert truth.sounders == () and truth.sounds and not truth.sounding_mask(2.0).any()
    else:
        assert truth.sounders == truth_of(loud, 0).sounders
    if cut == "frozen":
        assert not truth.flow(50).any() and truth.impacts == ()


def shape_of(path: Path) -> list[object]:
    """What a container gives away without being decoded."""
    import av

    with av.open(str(path)) as file:
        streams = [(s.type, s.codec.name, s.time_base, s.start_time, s.duration, s.frames) for s in file.streams]
        keys = [packet.pts for packet in file.demux(video=0) if packet.is_keyframe and packet.pts is not None]
    return [streams, keys]


# -- truth files --------------------------------------------------------------------------------------------------------------


def test_no_truth_foreign_truth_broken_truth(tmp_path: Path, loud: Path) -> None:
    video = tmp_path / "a.mp4"
    assert load_truth(video) is None
    np.savez(tmp_path / "a.npz", features=np.zeros(3))
    assert load_truth(video) is None
    whole = clip_path(loud, 0).with_suffix(".npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:2000] + b"\0" * 3000 + whole[5000:], b""):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(MediaError, match="make the toy world again"):
            load_truth(video)


def test_truth_is_plain_numpy(loud: Path) -> None:
    with np.load(clip_path(loud, 0).with_suffix(".npz"), allow_pickle=False) as members:
        assert members["labels"].shape == (100, 128, 128) and members["labels"].dtype == np.uint8
        assert json.loads(str(members["toyworld"]))["seed"] == 3


# -- other sizes, and the command ---------------------------------------------------------------------------------------------


def test_other_sizes_and_lengths(tmp_path: Path) -> None:
    difficulty = replace(LOUD, size=64, fps=10, seconds=2.0, rate=22_050)
    make_toyworld(tmp_path, clips=1, difficulty=difficulty, workers=0, progress=False)
    truth = truth_of(tmp_path, 0)
    assert truth.labels.shape == (20, 64, 64) and (truth.radii <= 11).all()
    assert listen(clip_path(tmp_path, 0), 2.0, 22_050).std() > 0


def test_the_help_names_every_preset_and_every_cut() -> None:
    helps = {
        name: hint.__metadata__[0].help for name, hint in get_type_hints(command, include_extras=True).items() if name != "return"
    }
    assert all(name in helps["difficulty"] for name in PRESETS)
    assert all(name in helps["cut"] for name in CUTS)


def test_the_command_writes_a_corpus_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a world"
    command(out, clips=3, difficulty="two_sounders", workers=0)
    shown = capsys.readouterr().out
    assert "contact_sheet.png" in shown and "clips of 4 s" in shown and "muted" in shown
    assert (out / SHEET).stat().st_size > 100_000
    command(out, clips=3, difficulty="two_sounders", workers=0)  # its own sheet in the folder is no obstacle
    shutil.rmtree(out)
