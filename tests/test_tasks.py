"""`mmssl tasks`: every objective is listed, explained, and can be trained by a config of its name."""

import json

import pytest
from typer.testing import CliRunner

from mmssl.catalogue import describe, describe_all
from mmssl.cli import build_app
from mmssl.components import component_names
from mmssl.types import InputError

NAMES = component_names("mmssl.objectives")


def run(*arguments):
    done = CliRunner().invoke(build_app(), ["tasks", *arguments], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_all_are_listed():
    shown = run()
    assert all(name in shown for name in NAMES)
    assert [entry["name"] for entry in json.loads(run("--json"))] == NAMES == [entry["name"] for entry in describe_all()]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_explained_and_has_a_config_for_a_gpu_and_one_for_two_cores(name):
    entry = describe(name)
    assert 10 < len(entry["what"]) < 160
    assert entry["encoders"] and entry["options"]
    assert entry["configs"] == [f"configs/{name}.yaml", f"configs/tiny/{name}.yaml"]
    shown = " ".join(run(name).split())
    assert " ".join(entry["explanation"].split())[:60] in shown
    assert f"mmssl train configs/tiny/{name}.yaml" in shown


def test_an_unknown_name_is_bad_input():
    with pytest.raises(InputError, match="did you mean avts"):
        describe("avt")
