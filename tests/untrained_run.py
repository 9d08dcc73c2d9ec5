"""Run folders as training leaves them, made without training: random weights, norms that have seen something, invented figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmssl.config import resolve
from mmssl.training.checkpoint import MODEL, write_checkpoint
from mmssl.training.model import Pretraining
from mmssl.training.state import model_tensors
from tests.tiny_text import tokenizer_file

STEP = 7
FRAMES = {"name": "frame_resnet", "size": "tiny", "pixels": 32, "norm": "batch", "width": 16}
SOUNDS = {"name": "audio_cnn", "size": "tiny", "seconds": 0.5}


def entry(value: float, **more: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 300, **more}


def run_of(
    folder: Path, encoders: dict[str, Any], objectives: list[dict[str, Any]], data: str = "/home-of/someone/secret-clips"
) -> Path:
    """A run of one stream; the folder it was trained on does not exist."""
    stream = {"data": data, "batch": 4, "objectives": objectives}
    config = resolve({"seed": 3, "encoders": encoders, "streams": [stream], "train": {"steps": STEP}})
    built = config.build_encoders()
    model = Pretraining(built, config.build_objectives(built), config.weights)
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    write_checkpoint(folder / "ckpt", STEP, {MODEL: model_tensors(model)}, {}, keep=1)
    (folder / "config.yaml").write_text(config.dump())
    return folder


def sound_run(folder: Path) -> Path:
    """Pictures and sounds: `av_nce` with a queue, `l3`; counts of data, and figures on held-out and on other sources."""
    objectives = [{"name": "av_nce", "queue": 8, "dim": 16, "views": {"frames": 1, "seconds": 0.5}}, {"name": "l3"}]
    run_of(folder, {"video": FRAMES, "audio": SOUNDS}, objectives)
    counts = {
        "sources": 1420,
        "index_rejected": {"damaged": 3},
        "held_out": 420,
        "train": 1000,
        "usable": 732,
        "rejected": {"av_nce": {"silent": 268}},
    }
    (folder / "data.json").write_text(json.dumps({"stream 0": counts}))
    figures = {
        "sources": 300,
        "cuts_of_each": 1,
        "failed": {"holiday/secret": "no key frame"},
        "accuracy": entry(0.8125, chance=0.5),
    }
    for name, step, data in (
        ("evaluation", STEP, "held out"),
        ("evaluation-other", STEP, "/home-of/other"),
        ("evaluation-old", 2, "old"),
    ):
        content = {"step": step, "data": data, "objectives": {"av_nce": figures}}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def text_run(folder: Path) -> Path:
    """Clips and captions: `mil_nce`, whose views name the tokenizer by its path."""
    text = {"name": "text_bert", "size": "tiny", "tokens": 16, "tokenizer": tokenizer_file()}
    views = {"frames": 1, "fps": 2.0, "tokenizer": tokenizer_file()}
    return run_of(folder, {"video": FRAMES, "text": text}, [{"name": "mil_nce", "dim": 16, "views": views}])
