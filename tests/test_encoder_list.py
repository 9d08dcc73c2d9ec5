"""`mmssl encoders`: every encoder is listed, and the figures are those of the real networks."""

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import mmssl
from mmssl.cli import build_app
from mmssl.components import component_names
from mmssl.encoder_catalogue import list_encoders
from mmssl.encoders.base import build_encoder
from mmssl.types import InputError
from tests.test_encoders import ALL


def command(*arguments, width=80):
    done = CliRunner().invoke(build_app(), ["encoders", *arguments], env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    return done.output


def test_figures_are_those_of_the_network_built_for_real():
    (entry,) = mmssl.list_encoders("frame_resnet:tiny")
    encoder = build_encoder("frame_resnet", {"size": "tiny"}).eval()
    naive = 0

    def count(module, inputs, output):
        nonlocal naive
        naive += 2 * output[0].numel() * module.weight[0].numel()  # a product and a sum for each weight, at each output

    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        features = encoder(torch.zeros(1, 1, 3, 128, 128, dtype=torch.uint8))
    assert entry["flops"] == naive
    assert entry["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert entry["grid"] == list(features.grid.shape[1:-1]) and entry["dim"] == encoder.dim
    assert (entry["name"], entry["size"], entry["modality"], entry["input"]["size"]) == ("frame_resnet", "tiny", "frame", 128)


def test_attention_is_counted():
    (entry,) = list_encoders("video_vit:tiny")
    tokens, width, layers, patch = 4 * 8 * 8, 128, 4, 3 * 2 * 8 * 8
    products = tokens * patch * width + layers * (tokens * width * 12 * width + 2 * tokens * tokens * width)
    assert entry["flops"] == pytest.approx(2 * products, rel=0.01)


def test_patterns_names_and_weights():
    assert [(e["name"], e["size"]) for e in list_encoders("resnet18")] == [
        ("audio_cnn", "resnet18"),
        ("frame_resnet", "resnet18"),
    ]
    assert [e["weights"] for e in list_encoders("frame_*:resnet18")] == [["IMAGENET1K_V1", "DEFAULT"]]
    with pytest.raises(InputError, match="no encoder matches 'resnext'; there are audio_cnn"):
        list_encoders("resnext")


def test_the_command_shows_a_table_that_fits_and_json():
    shown = command("*:tiny")
    assert all(name in shown for name in component_names("mmssl.encoders"))
    assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())
    assert "16x64x64, 12.5/s" in shown and "0.83G" in shown
    told = json.loads(command("audio_cnn:tiny", "--json"))
    assert told[0]["input"] == {"shape": "N x samples", "type": "floating point, mono, in -1..1", "rate": 16000, "seconds": 1.0}


@pytest.mark.slow
def test_all_are_listed_with_plausible_figures():
    found = list_encoders()
    assert [(entry["name"], entry["size"]) for entry in found] == ALL
    assert all(entry["parameters"] > 1e5 and entry["flops"] > 5e7 for entry in found)
    known = {  # products and sums counted once, as papers and torchvision have them
        ("frame_resnet", "resnet50"): 4.09e9,
        ("video_resnet", "r2plus1d_18"): 40.52e9,
        ("video_vit", "base"): 180.5e9,
    }
    for entry in found:
        if (entry["name"], entry["size"]) in known:
            assert entry["flops"] / 2 == pytest.approx(known[entry["name"], entry["size"]], rel=0.01)
