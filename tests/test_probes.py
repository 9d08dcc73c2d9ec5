"""The probes on films whose class is their colour and pitch: the answer is planted, and known not to be in an encoder that sees nothing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmssl.downstream.probe import embed, finetune, probes
from mmssl.downstream.probe.attentive import AttentiveHead
from mmssl.downstream.probe.clips import Cut, cut_of, even_starts, random_start, read_views
from mmssl.downstream.probe.embed import extract, pooled, tokens
from mmssl.downstream.probe.fitting import Recipe, batches, layers_of, learning_rate, parameter_groups
from mmssl.downstream.probe.handmade import colour_histogram, mean_spectrum
from mmssl.downstream.probe.knn import knn_scores
from mmssl.downstream.probe.linear import FALLBACK, Part, linear_scores
from mmssl.downstream.probe.lists_own import Cutting
from mmssl.downstream.probe.outcome import outcome, outcome_table, warnings_of
from mmssl.downstream.probe.probes import Bench, probe_attentive, probe_finetune, probe_knn, probe_linear
from mmssl.downstream.probe.protocols import Request, open_labelled
from mmssl.downstream.probe.scoring import judge
from mmssl.encoders.base import Encoder, build_encoder
from mmssl.types import Features, InputError, InputSpec, Span
from tests.fake_world import HIGH, LOW, ClipColourEncoder, ColourEncoder, PitchEncoder, squares, tone, write_film

CPU = torch.device("cpu")


class BlindEncoder(Encoder):
    """Sees nothing: the same features for every picture."""

    modality = "frame"

    def __init__(self) -> None:
        super().__init__(dim=4, spec=InputSpec(size=64, frames=1), arguments={})

    def forward(self, x, valid=None):
        return Features(torch.ones(len(x), 4), torch.ones(len(x), 1, 8, 8, 4))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """2 classes x 3 groups x 2 clips of 0.9 s, named as UCF101 names its clips."""
    root = tmp_path_factory.mktemp("films") / "clips"
    for label in ("Red", "Green"):
        (root / label).mkdir(parents=True)
        for group in (1, 2, 3):
            for clip in (1, 2):
                x, y = 10 + 14 * group, 12 + 20 * clip
                red = label == "Red"
                write_film(
                    root / label / f"v_{label}_g{group:02d}_c{clip:02d}.mp4",
                    lambda t, red=red, x=x, y=y: squares((x, y) if red else None, None if red else (x, y)),
                    tone(LOW if red else HIGH, 0.9),
                    seconds=0.9,
                    fps=25,
                )
    return root


def grouped(films, **more):
    return Request(films, cutting=Cutting(folds=3, group=r"([^/]+_g[0-9]+)_c"), **more)


@pytest.fixture(scope="module")
def bench(films):
    labelled, _, stream = open_labelled(grouped(films), None)
    assert stream == "video"
    return Bench(labelled, ColourEncoder(), BlindEncoder(), views=2)


def values(result, bench, measure="top1"):
    found = outcome(result, bench)
    json.dumps(found, allow_nan=False)
    assert outcome_table(found).row_count == len(found["contenders"])
    return {f"{c['name']} {c['variant']}".strip(): c["figures"][measure]["value"] for c in found["contenders"]}


def test_knn_tells_a_seeing_encoder_from_a_blind_one(bench):
    found = values(probe_knn(bench, ks=[1, 50]), bench)
    assert found["trained k = 1"] == found["trained k = 8"] == 1.0  # 8 training clips: 50 neighbours are all of them
    assert found["random init k = 8"] == found["most frequent class"] == 0.5
    assert found["colour histogram k = 1"] == 1.0


def test_leave_one_out_never_asks_the_same_group(bench):
    result = probe_knn(bench, ks=[2, 50], leave_one_out=True)
    assert [trial.variant for trial in result.trials[:2]] == ["k = 2", "k = 10"]  # of 12 clips, 2 are of the own group
    assert len(result.splits) == 1 and len(result.splits[0].test) == 12
    found = outcome(result, bench)
    assert found["protocol"] is None and "leave one out" in found["set"]
    train = np.eye(3)[[0, 0, 1, 2]]
    alone = knn_scores(train, np.array([0, 0, 1, 1]), train[:1], 2, [1], barred=(np.array([0, 0, 1, 2]), np.array([0])))
    assert alone[1][0, 0] == 0  # both equal ones are of its own group


def test_linear_probe(bench):
    result = probe_linear(bench)
    found = values(result, bench)
    assert (found["trained"], found["random init"], found["colour histogram"]) == (1.0, 0.5, 1.0)
    assert "cut into folds by group, each tested on what the others teach" in outcome(result, bench)["notes"]
    fit = result.trials[0].about[0]
    assert (fit["fit"], fit["validation_clips"], len(fit["validation"])) == (
        4,
        4,
        11,
    )  # 4 groups of 2: one of each class chooses C


def test_attentive_probe(films):
    labelled, _, _ = open_labelled(grouped(films, split="1"), "video")
    bench = Bench(labelled, ColourEncoder(), BlindEncoder(), views=2)
    result = probe_attentive(bench, Recipe(40, 8, 0.0), [1e-9, 3e-2], cells=4)
    found = values(result, bench)
    assert (found["trained"], found["random init"]) == (1.0, 0.5)
    assert result.trials[0].about[0]["lr"] == 3e-2  # the other rate learns nothing


def test_fine_tuning_leaves_the_encoder_alone_and_learns(films):
    labelled, _, _ = open_labelled(grouped(films, split="1"), "video")
    torch.manual_seed(0)
    encoder = build_encoder("frame_resnet", {"size": "tiny", "pixels": 32, "width": 16})
    before = embed.encoder_digest(encoder)
    bench = Bench(labelled, encoder, build_encoder("frame_resnet", {"size": "tiny", "pixels": 32, "width": 16}), views=2)
    found = values(probe_finetune(bench, Recipe(15, 4, 0.0, layer_decay=0.7), [1e-2]), bench)
    assert found["trained"] == 1.0
    assert embed.encoder_digest(encoder) == before


def test_sound(films):
    labelled, _, _ = open_labelled(grouped(films), "audio")
    bench = Bench(labelled, PitchEncoder(), PitchEncoder(rate=4000), views=2)
    found = values(probe_knn(bench, ks=[3]), bench)
    assert found["trained k = 3"] == found["mean spectrum k = 3"] == 1.0


def test_several_labels_a_clip(films, tmp_path):
    """Colour is in the features, the label of half the clips of either colour is not: mean average precision lies between 1 and chance."""
    names = sorted(path.relative_to(films).as_posix() for path in films.rglob("*.mp4"))
    rows = [f"{name},{name.split('/')[0]}{'|first' * ('_c01' in name)},{name.split('_c')[0]}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["path,labels,group", *rows]))
    labelled, _, _ = open_labelled(Request(films, lists=tmp_path / "labels.csv", cutting=Cutting(folds=3)), None)
    torch.manual_seed(0)
    encoder, other = (build_encoder("frame_resnet", {"size": "tiny", "pixels": 32, "width": 16}) for _ in range(2))
    bench, small = Bench(labelled, ColourEncoder(), BlindEncoder(), views=2), Bench(labelled, encoder, other, views=2)
    for result, on in (
        (probe_knn(bench, ks=[3]), bench),
        (probe_linear(bench), bench),
        (probe_attentive(bench, Recipe(2, 8, 0.0), [1e-2]), bench),
        (probe_finetune(small, Recipe(1, 8, 0.0), [1e-3]), small),
    ):
        found = values(result, on, "mAP")
        assert all(1 / 3 < value <= 1 for value in found.values())
        if result.probe in ("knn", "linear"):
            assert found[next(iter(found))] > found[result.trials[1].contender + (" k = 3" if result.probe == "knn" else "")]


def test_knn_votes_as_written_in_the_paper():
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(30, 5)), rng.normal(size=(7, 5)), rng.integers(0, 3, 30)
    found = knn_scores(train, labels, test, 3, [4, 99])
    assert set(found) == {4, 30}
    for row, own in enumerate(test):
        cosine = [own @ other / np.linalg.norm(own) / np.linalg.norm(other) for other in train]
        for k, votes in found.items():
            best = sorted(range(30), key=lambda place: -cosine[place])[:k]
            twin = [sum(np.exp(cosine[p] / 0.07) for p in best if labels[p] == c) for c in range(3)]
            assert votes[row] / votes[row].sum() == pytest.approx(np.array(twin) / sum(twin), rel=1e-3)
    several = knn_scores(train, np.eye(3, dtype=np.int64)[labels], test, 3, [4])
    assert several[4] == pytest.approx(found[4])


def test_regularization_is_chosen_where_it_is_told_to_and_the_test_part_decides_nothing():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    features = rng.normal(size=(90, 40))
    features[:, :3] += 2 * np.eye(3)[labels]
    fit, validation = Part(features[:40], labels[:40]), Part(features[40:60], labels[40:60])
    found = linear_scores(fit, validation, features[60:], 3, judge)
    best = max(found.swept.values())
    assert found.swept[found.chosen] == best and all(value < best for c, value in found.swept.items() if c < found.chosen)
    assert judge(found.scores, labels[60:]) > 0.7
    other = linear_scores(fit, validation, features[60:] * 100, 3, judge)
    assert (other.chosen, other.swept) == (found.chosen, found.swept)
    nothing = linear_scores(fit, Part(np.zeros((0, 40)), labels[:0]), features[60:], 5, judge)
    assert nothing.chosen == FALLBACK and not nothing.swept
    assert (nothing.scores[:, 3:] < nothing.scores[:, :3].min()).all()  # classes that were never seen
    two = linear_scores(Part(features[:40], labels[:40] % 2), Part(features[:0], labels[:0]), features[60:], 2, judge)
    assert two.scores.shape == (30, 2)


def test_a_linear_probe_of_several_labels():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (80, 3))
    truth[:40, 2] = 0  # never seen while fitting
    features = truth + 0.3 * rng.normal(size=truth.shape)
    found = linear_scores(Part(features[:40], truth[:40]), Part(features[:0], truth[:0]), features[40:], 3, judge)
    assert judge(found.scores[:, :2], truth[40:, :2]) > 0.95
    assert len(set(found.scores[:, 2])) == 1


def test_views_lie_in_the_middles_of_equal_parts(films):
    cut = Cut(False, size=8, frames=3, spacing=0.1)
    assert even_starts(cut, Span(1.0, 5.0), 4) == pytest.approx([1.4, 2.4, 3.4, 4.4])
    assert even_starts(cut, Span(0.0, 0.3), 3) == pytest.approx([0.0, 0.05, 0.1])  # inside, also at the ends
    assert even_starts(cut, Span(0.0, 0.1), 2) == [0.0, 0.0]
    assert all(0 <= random_start(cut, Span(0.0, 0.5), np.random.default_rng(n))[0] <= 0.3 for n in range(20))
    labelled, _, _ = open_labelled(grouped(films), "video")
    source = labelled.sources[0]
    both = read_views(cut, source, [0.0, 0.25])
    assert both.shape == (2, 3, 3, 8, 8)
    assert torch.equal(both[1], read_views(cut, source, [0.25])[0])
    woven = read_views(cut, source, [0.0, 0.05, 0.0])  # views may overlap and be the same
    assert torch.equal(woven[0], woven[2]) and torch.equal(woven[1], read_views(cut, source, [0.05])[0])
    assert read_views(Cut(False, size=8, frames=30, spacing=0.1), source, [0.0]).shape == (1, 30, 3, 8, 8)
    longer = read_views(Cut(True, seconds=2.0, rate=8000), source, [0.0])
    assert longer.shape == (1, 16000) and longer[0, 8000:].abs().max() == 0 < longer[0, :4000].abs().max()
    assert cut_of(ClipColourEncoder()) == Cut(False, size=64, frames=4, spacing=0.1)


def test_features_are_kept_and_an_interrupted_extraction_goes_on(films, monkeypatch):
    monkeypatch.setattr(embed, "PART", 5)
    labelled, _, _ = open_labelled(grouped(films), "video")
    encoder = ColourEncoder()
    cut, embedders = cut_of(encoder), {"a": pooled(encoder, CPU), "b": colour_histogram()}
    done = []

    class StopError(Exception):
        pass

    def stop(count):
        done.append(count)
        if len(done) == 2:
            raise StopError

    with pytest.raises(StopError):
        extract(labelled, embedders, cut, 3, on_clips=stop)
    seen = encoder.encoded
    assert seen == 30
    banks = extract(labelled, embedders, cut, 3)
    assert encoder.encoded == 36  # the last two clips only
    again = extract(labelled, embedders, cut, 3)
    assert encoder.encoded == 36 and np.array_equal(again["a"].rows(range(12)), banks["a"].rows(range(12)))
    rows = banks["a"].rows([11, 0])
    direct = [
        encoder(read_views(cut, labelled.sources[p], even_starts(cut, labelled.sources[p].video, 3))).pooled.mean(0)
        for p in (11, 0)
    ]
    assert rows == pytest.approx(torch.stack(direct).numpy(), abs=1e-6)
    assert extract(labelled, {"a": embedders["a"]}, cut, 2)["a"].folder != banks["a"].folder
    grid = extract(labelled, {"t": tokens(encoder, CPU, 4)}, cut, 3)["t"].rows([0])
    assert grid.shape == (1, 3 * 4 * 4, 4) and grid.dtype == np.float16


def test_handmade_features():
    picture = torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8)
    picture[:, 1] = 255
    found = colour_histogram().embed(picture)
    assert found[0, 0] ** 2 == pytest.approx(0.5) and found[0, -1] ** 2 == pytest.approx(0.5)
    low, high = (mean_spectrum(8000).embed(torch.from_numpy(tone(hertz, 1.0, rate=8000))[None]) for hertz in (LOW, HIGH))
    assert low.shape == (1, 128) and low[0, :64].argmax() < high[0, :64].argmax()


def test_small_parts_of_training():
    recipe = Recipe(2, 4, 1.0)
    order = list(batches(range(9), recipe, 0))
    assert [epoch for epoch, _ in order] == [0] * 3 + [1] * 3 and {len(rows) for _, rows in order} == {3}
    assert sorted(row for epoch, rows in order if epoch == 1 for row in rows) == list(range(9))
    assert recipe.steps(9) == 6
    longer = Recipe(2, 4, 1.0, least_steps=10)
    assert longer.steps(9) == len(list(batches(range(9), longer, 0))) == 12
    rates = [learning_rate(step, peak=1.0, steps=100) for step in range(100)]
    assert max(rates) == 1.0 == rates[9] and rates[0] == 0.1 and rates[-1] < 0.001
    model = finetune.Classifier(build_encoder("frame_resnet", {"size": "tiny"}), 3, mirrored=False)
    layers = layers_of(model)
    assert next(iter(layers)) == "encoder.stages.0.0" and list(layers)[-1] == "classifier"
    groups = parameter_groups(layers, 0.5)
    assert (groups[-1]["scale"], groups[0]["scale"]) == (1.0, 0.5 ** (len(layers) - 1))
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(p.numel() for p in model.parameters())
    assert all((p.ndim > 1) != ("weight_decay" in g) for g in groups for p in g["params"])
    head = AttentiveHead(96, 5)
    assert head.attention.num_heads == 3 and head(torch.randn(2, 7, 96)).shape == (2, 5)


def test_a_loss_that_is_no_number_stops_with_a_sentence(bench, monkeypatch):
    monkeypatch.setattr(probes, "train_head", probes.train_head)
    with pytest.raises(InputError, match="lower it"):
        probe_attentive(bench, Recipe(40, 8, 0.0), [1e30])
    with pytest.raises(InputError, match="--lr is"):
        probe_attentive(bench, Recipe(1, 8, 0.0), [])
    with pytest.raises(InputError, match="--k is"):
        probe_knn(bench, ks=[0])


def part_of_ucf(films, tmp_path, clips):
    """Lists of UCF101 that name the films, and `clips` more that are not there."""
    names = sorted(path.relative_to(films).with_suffix(".avi").as_posix() for path in films.rglob("*.mp4"))
    names += [f"Red/v_Red_g09_c{n:02d}.avi" for n in range(clips)]
    for number in (1, 2, 3):
        train, test = ([name for name in names if (f"_g{number:02d}" in name) == tested] for tested in (False, True))
        (tmp_path / f"trainlist{number:02d}.txt").write_text("".join(f"{name} 1\n" for name in train))
        (tmp_path / f"testlist{number:02d}.txt").write_text("".join(f"{name}\n" for name in test))
    return tmp_path


def test_a_part_of_a_protocol_fails_loudly_or_loses_its_name(films, tmp_path):
    lists = part_of_ucf(films, tmp_path, clips=2)
    with pytest.raises(InputError, match=r"as they were published: the lists name 2 classes, UCF101 has 101; .* 9537"):
        open_labelled(Request(films, lists=lists), None)
    labelled, found, stream = open_labelled(Request(films, lists=lists, allow_missing=True), None)
    assert (found.protocol, stream, len(labelled.sources)) == ("ucf101", "video", 12)
    assert labelled.missing == {
        f"Red/v_Red_g09_c{n:02d}.avi": "no such file, or one more link to a file that is there" for n in range(2)
    }
    assert labelled.title == "a part of UCF101 (12 of 14 clips; not the protocol)"
    bench = Bench(labelled, ColourEncoder(), BlindEncoder(), views=1, allow_missing=True)
    content = outcome(probe_knn(bench, ks=[2]), bench)
    assert content["protocol"] is None and content["clips"]["missing"]["count"] == 2
    assert any("not the protocol" in line for line in warnings_of(content))
    one, _, _ = open_labelled(Request(films, lists=lists, allow_missing=True, split="2"), None)
    assert [split.name for split in one.splits] == ["2"]
    with pytest.raises(InputError, match="no split '4'; it has 1, 2, 3, or all"):
        open_labelled(Request(films, lists=lists, allow_missing=True, split="4"), None)


def test_labels_may_lie_apart_from_a_manifest(films, tmp_path):
    from mmssl.data.index import index_folder

    index_folder(films, tmp_path / "films.parquet", progress=False)
    names = sorted(path.relative_to(films).with_suffix("").as_posix() for path in films.rglob("*.mp4"))
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{name},{'ab'['_c01' in name]}\n" for name in names))
    labelled, found, _ = open_labelled(Request(tmp_path / "films.parquet", lists=tmp_path / "labels.csv"), None)
    assert found.protocol == "csv" and len(labelled.items) == 12 and labelled.listing.classes == ("a", "b")
    (films / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace("_c01,", "_c01.mp4,"))
    alone, _, _ = open_labelled(Request(films / "labels.csv"), None)
    (films / "labels.csv").unlink()
    assert [item.labels for item in alone.items] == [item.labels for item in labelled.items]


@pytest.fixture(scope="module")
def damaged(films, tmp_path_factory):
    """The films, with a mute one, a text called .mp4, an empty one, and one that the index takes but cannot be decoded."""
    root = tmp_path_factory.mktemp("damaged") / "clips"
    for path in films.rglob("*.mp4"):
        place = root / path.relative_to(films)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    (root / "Red" / "text.mp4").write_text("no film at all")
    (root / "Red" / "empty.mp4").write_bytes(b"")
    write_film(root / "Green" / "mute.mp4", lambda t: squares(None, (30, 30)), None, seconds=0.6)
    write_film(root / "Green" / "deaf.mp4", None, tone(HIGH, 0.6))
    return root


def test_whatever_cannot_be_used_is_named(damaged):
    with pytest.raises(InputError, match=r"16 clips and 3 of them cannot be used .*Green/deaf: no picture.*--allow-missing"):
        open_labelled(Request(damaged), "video")
    labelled, _, _ = open_labelled(Request(damaged, allow_missing=True), "audio")
    assert labelled.missing["Green/mute"] == "no sound" and labelled.missing["Red/empty"] == "empty file"
    assert "not the protocol" in labelled.title


def test_what_fails_in_decoding_is_loud_too(films, monkeypatch):
    labelled, _, _ = open_labelled(grouped(films), "video")
    real = embed.decode_ahead

    def decode(jobs, cut):
        return ((n, "damaged" if source.id.endswith("Red_g01_c01") else views) for (n, source, _), (_, views) in pairs(jobs, cut))

    def pairs(jobs, cut):
        jobs = list(jobs)
        return zip(jobs, real(iter(jobs), cut), strict=True)

    monkeypatch.setattr(embed, "decode_ahead", decode)
    encoder = ColourEncoder(shifted=True)  # another digest: nothing is in the cache
    with pytest.raises(InputError, match=r"12 clips and 1 of them cannot be used .*damaged"):
        probe_knn(Bench(labelled, encoder, BlindEncoder(), views=5))
    result = probe_knn(Bench(labelled, encoder, BlindEncoder(), views=5, allow_missing=True), ks=[2])
    assert len(result.labelled.items) == 11
    assert result.trials[0].scores[0].shape[1] == 2
    found = outcome(result, Bench(labelled, encoder, BlindEncoder(), views=5))
    assert found["contenders"][0]["figures"]["top1"]["value"] == 1.0  # features still belong to their clips


def test_the_command(films, tmp_path):
    """A run of one step, as a user would probe it; and what a user may get wrong."""
    from typer.testing import CliRunner

    from mmssl.cli import build_app
    from mmssl.config import resolve
    from mmssl.run import start_run

    config = {
        "encoders": {"video": {"name": "frame_resnet", "size": "tiny", "pixels": 32, "width": 16}},
        "streams": [
            {
                "data": str(films),
                "batch": 4,
                "holdout": 0,
                "objectives": [{"name": "shuffle_learn", "views": {"motion": 0.0, "gap": [0.1, 0.1]}}],
            }
        ],
        "train": {"steps": 1, "workers": 0, "save_every": 1, "log_every": 1, "dtype": "float32", "eval_every": 0, "warmup": 0},
    }
    run = tmp_path / "run"
    start_run(resolve(config), run, display=False)
    app, runner = build_app(), CliRunner(env={"COLUMNS": "200"})
    chart = tmp_path / "chart.png"
    probing = ["probe", "knn", str(run), str(films), "--clips", "2", "--group", "([^/]+_g[0-9]+)_c", "--k", "3"]
    done = runner.invoke(app, [*probing, "--plot", str(chart)])
    assert done.exit_code == 0, done.output
    with Image.open(chart) as picture:
        assert picture.format == "PNG" and picture.width > 800
    assert "read as folder" in done.output and "colour histogram, k = 3" in done.output
    content = json.loads((run / "probe-knn-clips-video.json").read_text())
    assert content["clips"]["used"] == 12 and content["step"] == 1 and content["role"] == "video"
    for arguments, why in (
        (["--role", "audio"], "no encoder of pictures or sound called 'audio'"),
        (["--split", "9"], "no split '9'"),
        (["--k", "many"], "separated by commas"),
        (["--out", str(tmp_path)], "cannot be written"),
        (["--protocol", "imagenet"], "there is no protocol"),
        (["--plot", "chart.jpg"], "ends in .png"),
    ):
        bad = runner.invoke(app, ["probe", "knn", str(run), str(films), *arguments])
        assert isinstance(bad.exception, InputError) and why in str(bad.exception), arguments
