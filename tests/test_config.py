import copy

import pytest
import torch
import yaml

from mmssl.config import load_config, resolve
from mmssl.types import InputError

GOOD = {
    "encoders": {"video": {"name": "tests.components.mean_frame", "dim": 4, "norm": {"mean": 0.25, "scales": [1.0, 2.0]}}},
    "streams": [
        {
            "data": "clips/",
            "batch": 8,
            "objectives": [{"name": "tests.components.guess_half", "weight": 2.0, "views": {"frames": 3}}],
        }
    ],
    "train": {"steps": 10, "lr": "1e-4"},
}


def write(tmp_path, values):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def changed(path, value):
    values = copy.deepcopy(GOOD)
    node = values
    *parts, last = path
    for part in parts:
        node = node[part]
    node[last] = value
    return values


def test_defaults_are_filled_in_and_dumped(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert config.train.lr == 1e-4  # PyYAML reads 1e-4 as text
    assert config.train.betas == (0.9, 0.95)
    assert config.streams[0].holdout == 0.1
    assert config.weights == {"guess_half": 2.0}
    again = yaml.safe_load(config.dump())
    assert again["streams"][0]["objectives"][0]["views"] == {"frames": 3, "size": 16}
    assert resolve(again).resolved == config.resolved


def test_components_are_built_with_nested_dataclasses_and_equal_weights(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    one, two = config.build_encoders(), config.build_encoders()
    assert one["video"].norm.scales == (1.0, 2.0)
    assert one["video"].extra is None
    assert torch.equal(one["video"].linear.weight, two["video"].linear.weight)
    objective = config.build_objectives(one)["guess_half"]
    assert objective.views.frames == 3
    assert isinstance(hash(objective.views), int)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("encoders", "video", "dimm"), 4, ["encoders.video.dimm", "unknown key", "'dim'"]),
        (("encoders", "video", "norm", "men"), 4, ["encoders.video.norm.men", "'mean'"]),
        (("encoders", "video", "extra"), {"meann": 1}, ["encoders.video.extra.meann", "'mean'"]),
        (("encoders", "video", "name"), "frame_resnt", ["encoders.video.name", "frame_resnt"]),
        (("streams", 0, "objectives", 0, "views", "frmes"), 2, ["streams.0.objectives.0.views.frmes", "'frames'"]),
        (("streams", 0, "objectives", 0, "hidden"), "many", ["streams.0.objectives.0.hidden", "valid integer", "'many'"]),
        (("streams", 0, "objectives", 0, "weight"), "much", ["streams.0.objectives.0.weight", "'much'"]),
        (("streams", 0, "holdot"), 0.1, ["streams.0.holdot", "'holdout'"]),
        (("streams", 0, "backend"), "opencv", ["streams.0.backend", "pyav"]),
        (("streams", 0, "batch"), 0, ["streams.0.batch", "greater than or equal to 1"]),
        (("train", "step"), 3, ["train.step", "'steps'"]),
        (("train", "steps"), 0, ["train.steps", "at least 1"]),
        (("train", "dtype"), "fp16", ["train.dtype", "bfloat16"]),
        (("trainer",), {}, ["trainer", "'train'"]),
    ],
)
def test_a_wrong_key_is_named_with_its_path_and_the_nearest_valid_one(path, value, words):
    with pytest.raises(InputError) as error:
        resolve(changed(path, value))
    for word in words:
        assert word in str(error.value)


def test_all_problems_are_shown_at_once():
    values = changed(("train", "step"), 3)
    values["encoders"]["video"]["dimm"] = 1
    with pytest.raises(InputError) as error:
        resolve(values)
    assert "2 problems" in str(error.value)


def test_overrides(tmp_path):
    path = write(tmp_path, GOOD)
    config = load_config(
        path, ["streams.0.objectives.0.views.frames=5", "train.steps=7", "streams.0.data=a=b", "train.lr_scale.^head=0.1"]
    )
    assert config.resolved["streams"][0]["objectives"][0]["views"]["frames"] == 5
    assert config.train.steps == 7
    assert config.streams[0].data == "a=b"
    for wrong, words in [
        ("train.steps", "key.path=value"),
        ("streams.1.batch=4", "list of 1"),
        ("seed.x=1", "nothing below it"),
        ("train.stepz=4", "'steps'"),
    ]:
        with pytest.raises(InputError, match=words):
            load_config(path, [wrong] if wrong != "seed.x=1" else ["seed=1", wrong])


def test_a_repeated_key_and_broken_yaml_are_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("train: {steps: 1, steps: 2}")
    with pytest.raises(InputError, match="stands twice"):
        load_config(path)
    path.write_text("train: [")
    with pytest.raises(InputError, match="not valid YAML"):
        load_config(path)
    with pytest.raises(InputError, match="there is no config"):
        load_config(tmp_path / "none.yaml")


def test_a_role_without_encoder_is_an_error():
    values = copy.deepcopy(GOOD)
    values["encoders"] = {"audio": GOOD["encoders"]["video"]}
    config = resolve(values)
    with pytest.raises(InputError, match="needs an encoder for role 'video'"):
        config.build_objectives(config.build_encoders())


def test_an_objective_stands_once():
    values = copy.deepcopy(GOOD)
    values["streams"].append(copy.deepcopy(GOOD["streams"][0]))
    with pytest.raises(InputError, match="stands already"):
        resolve(values)
