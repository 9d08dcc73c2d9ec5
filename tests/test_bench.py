"""The benchmarks measure what they say they measure. Their figures are never asserted: time belongs to the machine."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from rich.console import Console

from mmssl.bench import audio, augment, clips, decode, loader, step
from mmssl.bench.race import Field, Lap, Race, Task, spread
from mmssl.bench.result import Result, Settings, at_least, at_most, race_rows
from mmssl.bench.runner import Contender, ContenderError, Runner
from mmssl.commands.bench import SUITES, bench
from mmssl.types import InputError
from tests.bench_contenders import prepare_absent, prepare_burner, prepare_dying, prepare_faulty, prepare_sleeper


@pytest.fixture(scope="module")
def race() -> Race:
    contenders = [
        Contender("small", prepare_burner, {"rounds": 5}),
        Contender("large", prepare_burner, {"rounds": 50}),
        Contender("sleeper", prepare_sleeper),
        Contender("absent", prepare_absent),
        Contender("faulty", prepare_faulty),
        Contender("dying", prepare_dying),
    ]
    with Field(contenders) as field:
        outputs = field.outputs(7)
        assert (outputs["small"], outputs["large"]) == (70, 70)
        assert outputs["sleeper"] != os.getpid()
        return field.race([Task("task", [1, 2, 3], units=2)])


def test_everybody_runs_every_repetition_once(race: Race) -> None:
    for name in ("small", "large", "sleeper"):
        assert sorted(lap.repetition for lap in race.laps if lap.contender == name) == [0, 1, 2]


def test_the_order_is_shuffled() -> None:
    with Field([Contender(name, prepare_burner, {"rounds": 1}) for name in "abc"]) as field:
        laps = field.race([Task("task", list(range(8)))]).laps
    orders = {"".join(lap.contender for lap in laps if lap.repetition == number) for number in range(8)}
    assert len(orders) > 1 and all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_cpu_time_is_work_and_not_waiting(race: Race) -> None:
    assert race.ratio("task", "large", "small").median > 3  # ten times the work
    assert race.milliseconds("task", "sleeper", "wall").median >= 10  # 20 ms asleep for 2 units
    assert race.milliseconds("task", "sleeper").median < 5
    assert race.resident["small"] > 2**20


def test_who_cannot_run_is_named_with_the_reason(race: Race) -> None:
    assert "no_such_decoder" in race.failed["absent"]
    assert "cannot do" in race.failed["faulty"]
    assert "status 3" in race.failed["dying"]
    assert math.isnan(race.ratio("task", "faulty", "small").median)


def test_ratios_are_formed_within_a_repetition() -> None:
    # The machine slows down tenfold in the second repetition; the ratio does not care.
    laps = [Lap("t", "a", 0, 1.0, 1.0), Lap("t", "b", 0, 2.0, 2.0), Lap("t", "a", 1, 10.0, 10.0), Lap("t", "b", 1, 20.0, 20.0)]
    race = Race(laps, {"t": 4})
    assert race.ratio("t", "b", "a") == (2.0, 2.0, 2.0)
    assert race.milliseconds("t", "a").median == pytest.approx(1000 * 5.5 / 4)


def test_a_contender_that_raises_tells_its_own_words() -> None:
    runner = Runner(Contender("faulty", prepare_faulty))
    with pytest.raises(ContenderError, match="ValueError: cannot do 4"):
        runner.run(4)
    runner.close()


def test_rows_targets_and_json_say_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    race = Race([Lap("t", "a", 0, 1.0, 2.0)], {"t": 1}, {"b": "not installed"})
    rows = race_rows(race, ["t"], ["a", "b"], reference="a", task="file", unit="clip")
    assert rows[0]["CPU ms/clip"] == 1000 and rows[0]["CPU ratio"] == 1 and rows[1]["problem"] == "not installed"
    targets = [at_least("x", 2.0, spread([1.9, 1.9])), at_least("y", 2.0, spread([2.1])), at_least("z", 2.0, spread([]))]
    targets += [at_most("w", "below 1", float("nan"), "", met=True)]
    assert [target.met for target in targets] == [False, True, None, None]
    result = Result("decode", "about", rows, targets, ["a note"])
    told = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert told["rows"][1]["CPU ratio"] is None and told["machine"]["cores"] >= 1
    result.show(Console(width=200))
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("missed", "met", "not measured", "not installed", "a note"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> clips.Clip:
    path = tmp_path_factory.mktemp("bench") / "clip.mp4"
    clips.write(path, 160, 120, gop=250, seconds=4)
    return clips.Clip("clip", path, clips.FPS, 160, 120, 4)


def test_made_media_are_what_they_are_called(clip: clips.Clip) -> None:
    with av.open(str(clip.path), "r") as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.layout.name) == ("aac", "stereo")
    assert len(kinds) == 100
    letters = "".join(kinds)
    assert letters.count("I") == 1 and letters.count("B") > 40, letters


def test_made_media_are_the_same_every_time_and_differ_by_seed(tmp_path: Path) -> None:
    first, again, other = (list(clips._pictures(32, 24, 3, seed)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[0] == other[0]).all() and not (first[0] == first[1]).all()


def cut(clip: clips.Clip, size: tuple[int, int]) -> decode.Cut:
    return decode.Cut(clip.path, clip.fps, tuple((20 + 2 * n + 0.5) / clip.fps for n in range(16)), size, 0.9)


def test_decoders_give_the_same_frames(clip: clips.Clip) -> None:
    given = [cut(clip, (120, 160))]
    ours, plain = (work(given) for work in (decode.prepare_mmssl(), decode.prepare_opened(skip=False, draw=True)))
    undrawn = decode.prepare_opened(skip=True, draw=False)(given)
    assert ours[0][0].shape == (16, 120, 160, 3) and ours[0][1] is not None and len(ours[0][1]) == 32_000
    assert (ours[0][0] == plain[0][0]).all() and (ours[0][1] == plain[0][1]).all()
    assert (ours[0][1] == undrawn[0][1]).all() and not (ours[0][0] == undrawn[0][0]).all()
    pytest.importorskip("decord")
    theirs = decode.prepare_decord()(given)
    assert (ours[0][0] == theirs[0][0]).all()


def test_the_plain_contender_really_decodes_everything(clip: clips.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmssl.data.decode import frames

    seen: list[bool] = []
    original = frames.FrameFinder.__init__

    def spy(self: frames.FrameFinder, *args: object, skip: bool, **keywords: object) -> None:
        seen.append(skip)
        original(self, *args, skip=skip, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(frames.FrameFinder, "__init__", spy)
    decode.prepare_mmssl()([cut(clip, (120, 160))])
    decode.prepare_opened(skip=False, draw=True)([cut(clip, (120, 160))])
    assert seen == [True, False]


def test_different_frames_are_not_called_equal(clip: clips.Clip) -> None:
    class Fake:
        def outputs(self, given: list[decode.Cut]) -> dict[str, list]:
            frames = np.zeros((16, 4, 4, 3), np.uint8)
            changed = frames.copy()
            changed[3, 0, 0, 0] = 200
            return {
                "mmssl": [(frames, None)],
                "same": [(frames, None)],
                "other": [(changed, None)],
                "odd": [(frames[:, :2], None)],
            }

    told = decode._compare(Fake(), clip, 0)  # type: ignore[arg-type]
    assert told["same"] == "16/16" and told["other"].startswith("15/16, mean diff") and told["odd"].startswith("shape")


def test_sound_readers_agree_up_to_their_lag(clip: clips.Clip) -> None:
    windows = [audio.Window(clip.path, 1.0)]
    ours, whole = audio.prepare_mmssl()(windows)[0], audio.prepare_whole()(windows)[0]
    assert len(ours) == len(whole) == 32_000
    lag, alike = audio.best_lag(ours, whole)
    assert abs(lag) <= 1 and alike > 0.98


@pytest.mark.parametrize("shift", [-7, 0, 17])
def test_lags_are_found(shift: int) -> None:
    sound = np.random.default_rng(0).normal(size=2000)
    lag, alike = audio.best_lag(sound, np.roll(sound, shift))
    assert lag == shift and alike == pytest.approx(1.0)


@pytest.mark.parametrize(
    "prepare, arguments",
    [
        (augment.prepare_mmssl, {"mode": "fused"}),
        (augment.prepare_mmssl, {"mode": "exact"}),
        (augment.prepare_mmssl, {"mode": None}),
        (augment.prepare_v2, {"float_first": False}),
        (augment.prepare_v2, {"float_first": True}),
    ],
)
def test_augmenting_chains_run(prepare, arguments: dict) -> None:
    prepare(**arguments, device="cpu")((0, 60, 80, 32))


def test_crops_stay_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        box = augment.draw_box(rng)
        assert box.left >= 0 and box.top >= 0 and box.left + box.width <= 1 + 1e-9 and box.top + box.height <= 1 + 1e-9
        assert box.width * box.height <= 1.0


def test_the_loader_gives_the_rows_of_bare_decoding() -> None:
    folder = clips.short_clips(2, width=64, height=48, seconds=3.0)
    bare = loader.prepare_bare(folder=folder, seed=0)
    loaded = loader.prepare_loader(folder=folder, seed=0, workers=0)
    assert bare((0, 2)) == loaded((0, 2)) != bare((2, 4))
    assert loader.prepare_bare(folder=folder, seed=1)((0, 2)) != bare((0, 2))


def test_growth_is_judged_by_fifths() -> None:
    steady, growing = [100, 110, *[120] * 18], list(range(100, 120))
    assert loader._growth(steady, "").met is True
    assert loader._growth(growing, "").met is False
    assert loader._growth([0] * 20, "").met is None


def test_flops_are_counted_as_two_for_a_multiply_add() -> None:
    made = step.Step(step.TINY._replace(batch=2), step.WAYS[0], "cpu")
    doubled = step.Step(step.TINY._replace(batch=4), step.WAYS[0], "cpu")
    small, large = (step.count_flops(one, one.batch()) for one in (made, doubled))
    assert 1.9 < large / small < 2.1
    conv = next(module for module in made.model.encoders["video"].modules() if type(module).__name__ == "Conv2d")
    assert small > 2 * conv.weight.numel()


def test_a_step_changes_the_weights_in_every_way() -> None:
    for way in step.WAYS:
        made = step.Step(step.TINY._replace(batch=2), way, "cpu")
        before = [value.detach().clone() for value in made.model.parameters()]
        made.take(made.batch())
        assert any(not (old == new).all() for old, new in zip(before, made.model.parameters(), strict=True))


def test_the_peak_is_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(step.SIDES, "cpu", 128)
    assert 1e6 < step.matmul_peak("cpu", "float32") < 1e16


def test_a_suite_that_is_not_there() -> None:
    with pytest.raises(InputError, match="decode, audio, augment, loader, step"):
        bench("speed")


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Settings] = []

    def run(settings: Settings) -> Result:
        given.append(settings)
        return Result("audio", "about", [{"file": "a", "CPU ratio": float("nan")}])

    monkeypatch.setattr(audio, "run", run)
    bench("audio", as_json=True, reps=3, quick=True, media=Path("clips"))
    told = json.loads(capsys.readouterr().out)
    assert told["suite"] == "audio" and told["rows"] == [{"file": "a", "CPU ratio": None}]
    assert (given[0].reps, given[0].quick, given[0].media) == (3, True, Path("clips"))
    assert set(SUITES) == {"decode", "audio", "augment", "loader", "step"}


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_suites_run_whole(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench(suite, as_json=True, reps=2, quick=True)
    assert json.loads(capsys.readouterr().out)["rows"]


def test_a_result_is_readable_on_eighty_columns() -> None:
    rows = [
        {
            "file": f"360p 60 s GOP 250 + sound {number}",
            "contender": name,
            "CPU ms/clip": 175.6,
            "wall ms/clip": 1422.1,
            "CPU ratio": 1.23,
            "quartiles": "1.14..1.24",
            "wall ratio": 1.05,
            "problem": "",
            "equal frames": "32/32",
        }
        for number in range(2)
        for name in ("mmssl", "mmssl without skipping")
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    Result("decode", "about", rows, machine={}).show(console)
    text = console.export_text()
    assert "mmssl without skipping" in text
    assert "1.23 (1.14..1.24)" in text
    assert text.count("360p 60 s GOP 250 + sound 1") == 1
    assert "problem" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
