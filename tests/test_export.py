"""`mmssl export`: what comes out computes what the run computes, loads everywhere it says, and tells nothing of the machine."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn
from typer.testing import CliRunner

import mmssl
from mmssl.cli import build_app
from mmssl.config import load_config
from mmssl.encoders.base import Encoder
from mmssl.export import onnx_file
from mmssl.export.compare import TOLERANCE, check
from mmssl.export.folder import export_run
from mmssl.export.onnx_file import write_onnx
from mmssl.export.program import Program, example_of, trace
from mmssl.export.torch_file import pickled_parts, write_torch
from mmssl.run import load_run
from mmssl.training.errors import RunError
from mmssl.types import Features, InputError, InputSpec
from tests.test_encoders import ALL, build
from tests.untrained_run import STEP, sound_run, text_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sound_run(tmp_path_factory.mktemp("machine") / "sound-run")


@pytest.fixture(scope="module")
def out(run, tmp_path_factory):
    """All formats of all encoders: slow to make, so made once."""
    folder = tmp_path_factory.mktemp("exports") / "my-model"
    done = CliRunner().invoke(build_app(), ["export", str(run), str(folder), "--format", "onnx,torch", "--format", "safetensors"])
    assert done.exit_code == 0, done.output
    assert "claims no licence" in done.output and "audio/encoder.onnx" in done.output
    return folder


def pictures(rows: int, frames: int = 2, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (rows, frames, 3, side, side), generator=torch.Generator().manual_seed(rows), dtype=torch.uint8)


def sounds(rows: int, samples: int = 8000) -> Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(rows)) * 0.1


def near(got, wanted: Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(got), wanted, rtol=0, atol=TOLERANCE * wanted.abs().max().item())


def test_what_was_exported_is_the_run(run, out):
    model, trained = mmssl.from_pretrained(out), load_run(run)
    assert set(model.encoders) == {"video", "audio"} and set(model.objectives) == {"av_nce", "l3"} and model.step == STEP
    for role, x in (("video", pictures(3)), ("audio", sounds(3))):
        with torch.inference_mode():
            wanted = trained.encoders[role](x)
            assert torch.equal(model[role](x).grid, wanted.grid)
            assert torch.equal(model.embed(role, x), trained.objectives["av_nce"].embed(role, wanted))
    again = mmssl.from_pretrained(run)
    assert torch.equal(again.embed("audio", sounds(2)), model.embed("audio", sounds(2)))
    assert mmssl.from_pretrained(out / "video").step is None
    assert {k.split(".")[1] for k in safetensors.torch.load_file(out / "heads.safetensors") if k.startswith("av_nce")} == {
        "video_head",
        "audio_head",
    }  # and no queue, which remembers clips


def test_programs_give_features_and_joint_embeddings_for_other_lengths(out):
    model = mmssl.from_pretrained(out)
    for role, inputs in {
        "video": [pictures(1, 1), pictures(4, 3, 47)],
        "audio": [sounds(1), sounds(5, 9431)],
    }.items():
        session = onnxruntime.InferenceSession(str(out / role / "encoder.onnx"))
        program = torch.export.load(out / role / "encoder.pt2").module()
        for x in inputs:
            with torch.inference_mode():
                features, embedding = model[role](x), model.embed(role, x)
            for got in (session.run(["pooled", "grid", "embedding"], {session.get_inputs()[0].name: x.numpy()}), program(x)):
                for value, wanted in zip(got, (features.pooled, features.grid, embedding), strict=True):
                    near(value, wanted)


def test_the_list_says_how_programs_were_checked(out):
    told = json.loads((out / "export.json").read_text())
    assert [(p["role"], p["format"], p["embedding_of"]) for p in told["programs"]] == [
        (role, kind, "av_nce") for role in ("video", "audio") for kind in ("torch", "onnx")
    ]
    for program in told["programs"]:
        assert (out / program["file"]).is_file()
        assert program["check"]["tolerance"] == TOLERANCE and len(program["check"]["inputs"]) == 3
        assert {d["output"] for d in program["check"]["differences"]} == {"pooled", "grid", "embedding"}
        assert all(0 <= d["max_rel"] < TOLERANCE for d in program["check"]["differences"])
    assert told["programs"][0]["free_axes"] == {"0": "batch", "1": "frames", "3": "height", "4": "width"}
    assert told["roles"]["audio"]["preparation"]["mels"] == 64 and told["roles"]["video"]["preparation"]["mean"][0] == 0.485


def test_nothing_of_the_machine_goes_along(run, out):
    secrets = [
        str(run.parent),
        str(Path.cwd()),
        str(Path(torch.__file__).parent),
        "home-of",
        "holiday/secret",
        tempfile.gettempdir() + os.sep,
    ]
    for path in (path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [word for word in secrets if word.encode() in content], path
    assert not list(out.parent.glob(".*"))


def test_the_card_is_filled_from_the_run_and_is_valid_for_the_hub(run, out, tmp_path):
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "unknown" and card.data.library_name == "mmssl" and "av_nce" in card.data.tags
    assert [(r.metric_type, r.metric_value) for r in card.data.eval_results] == [("correspondence_accuracy", 0.8125)]
    text = card.text
    for words in (
        "none is claimed",
        "1420",
        "420",
        "732",
        "silent: 268",
        "0.812",
        "0.713 to 0.912",
        "chance 0.500",
        "secret-clips",
        "opset 18",
    ):
        assert words in text, words
    assert "| other | av_nce |" in text and "old" not in {path.stem.partition("-")[2] for path in out.glob("evaluation-*")}
    assert "1 could not be decoded" in text
    export_run(run, tmp_path / "licensed", license="cc-by-4.0", roles=["audio"])
    card = ModelCard.load(tmp_path / "licensed" / "README.md")
    assert card.data.license == "cc-by-4.0" and "none is claimed" not in card.text
    assert "av_nce and l3, which are not here" in card.text and card.data.eval_results is None


def test_one_role_lies_flat_and_an_export_can_be_exported(out, tmp_path):
    export_run(out, tmp_path / "sound", roles=["audio"])
    assert (tmp_path / "sound" / "config.json").is_file() and not (tmp_path / "sound" / "audio").exists()
    alone = mmssl.from_pretrained(tmp_path / "sound")
    with torch.inference_mode():
        assert torch.equal(alone["audio"](sounds(2)).pooled, mmssl.from_pretrained(out)["audio"](sounds(2)).pooled)
    assert "1420" in (tmp_path / "sound" / "README.md").read_text()  # the counts came along
    with pytest.raises(InputError, match="no encoder 'video'; it has audio"):
        alone["video"]
    with pytest.raises(InputError, match="joint space; these do: none"):
        alone.embed("audio", sounds(1))
    assert isinstance(Encoder.from_pretrained(tmp_path / "sound"), Encoder)


def test_texts_bring_their_tokenizer_and_a_model_of_transformers(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    trained = text_run(tmp_path / "text-run")
    made = export_run(trained, tmp_path / "out")
    model = mmssl.from_pretrained(tmp_path / "out")
    kept = load_config(tmp_path / "out" / "config.yaml").resolved
    assert kept["encoders"]["text"]["tokenizer"] == "text/tokenizer.json"
    assert kept["streams"][0]["objectives"][0]["views"]["tokenizer"] is None
    folder = tmp_path / "out" / made.theirs["text"]["folder"]
    theirs, tokenizer = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["A red ball falls.", "The ball bounces twice; then it rolls away."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    length = batch["input_ids"].shape[1]
    assert batch["input_ids"].tolist() == [model["text"].vocabulary.ids(text, length) for text in texts]
    with torch.inference_mode():
        hidden, ours = theirs(**batch).last_hidden_state, model["text"](batch["input_ids"])
        real = batch["attention_mask"].bool()
        near(hidden[real], ours.grid[real])
        near((hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True), ours.pooled)
        trained_run = load_run(trained)
        wanted = trained_run.objectives["mil_nce"].embed("text", trained_run.encoders["text"](batch["input_ids"]))
        assert torch.equal(model.embed("text", batch["input_ids"]), wanted)


# What is refused, and why.


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"roles": ["text"]}, "no encoder text; it has video, audio"),
        ({"formats": ["tflite"]}, "there are safetensors, torch, onnx"),
        ({"license": "My Licence!"}, "apache-2.0"),
        ({"objective": "l3"}, "these have one: av_nce"),
        ({"step": 6}, "no checkpoint of step 6"),
    ],
)
def test_bad_requests_are_refused_and_leave_nothing(run, tmp_path, more, words):
    with pytest.raises(InputError, match=words):
        export_run(run, tmp_path / "out", **more)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export_run(run, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    done = CliRunner().invoke(build_app(), ["export", str(tmp_path / "none"), str(tmp_path / "new")])
    assert isinstance(done.exception, InputError) and "no run folder" in str(done.exception)


def test_a_folder_that_cannot_be_written_is_a_sentence(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="could not be written"):
        export_run(run, tmp_path / "file" / "out")

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Encoder, "save_pretrained", full)
    with pytest.raises(RunError, match="No space left on device; nothing of it is left"):
        export_run(run, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the folder that you are in"):
        export_run(run, Path())


def test_without_onnx_the_command_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(InputError, match=r"needs onnxruntime; install mmssl's extra: uv sync --extra onnx"):
        export_run(run, tmp_path / "out", formats=["onnx"])


@pytest.fixture
def damaged(out, tmp_path):
    """A copy of the export, to be damaged."""
    return shutil.copytree(out, tmp_path / "damaged", ignore=shutil.ignore_patterns("*.onnx", "*.pt2"))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("export.json", lambda b: b[:50], "is no list of an exported model"),
        ("export.json", lambda b: b.replace(b'"format": 1', b'"format": 9', 1), "of format 9, this mmssl reads format 1"),
        ("export.json", lambda b: b.replace(b'"folder": "audio"', b'"folder": "../audio"'), "in the folder or one below it"),
        ("heads.safetensors", lambda b: b"\x80\x04pickle", "cannot be read as safetensors"),
        ("heads.safetensors", lambda b: b.replace(b"video_head", b"radio_head"), "does not fit objective av_nce"),
        ("audio/model.safetensors", lambda b: b"", "does not hold the weights"),
        ("config.yaml", lambda b: b.replace(b"queue:", b"kew:"), "kew"),
    ],
)
def test_a_damaged_export_is_refused_with_a_sentence(damaged, name, change, words):
    path = damaged / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=words):
        mmssl.from_pretrained(damaged)


def test_names_that_are_no_model(tmp_path, run, out):
    with pytest.raises(InputError, match="there is no folder"):
        mmssl.from_pretrained(tmp_path / "none" / "at" / "all")
    with pytest.raises(InputError, match="revision 'main' says nothing"):
        mmssl.from_pretrained(out, revision="main")
    with pytest.raises(InputError, match="was exported from step 7, it has no step 3"):
        load_run(out, step=3)


def test_commands_on_data_say_that_an_export_has_none(out):
    from mmssl.usage import evaluate_run

    with pytest.raises(InputError, match="an exported model leaves its data behind"):
        evaluate_run(out, progress=False)


# The parts by themselves.


class Strange(Encoder):
    """An encoder that does what programs cannot hold."""

    modality = "audio"

    def __init__(self, kind: str) -> None:
        super().__init__(dim=1, spec=InputSpec(rate=8, seconds=1.0), arguments={"kind": kind})
        self.kind, self.line = kind, nn.Linear(1, 1)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        if self.kind == "embedding":
            y = torch.nn.functional.embedding((x > 0).long(), self.line.weight.expand(2, 1)).squeeze(-1) + x
        else:
            y = torch.special.airy_ai(x) if self.kind == "operator" else x * 2 if x.sum().item() > 0 else x
        return Features(self.line(y.mean(1, keepdim=True)), self.line(y[:, :, None, None]))


def test_an_operator_that_cannot_be_exported_is_named(tmp_path):
    with pytest.raises(InputError, match=r"operator aten\.special_airy_ai"):
        write_onnx(trace(Program(Strange("operator"), "audio")), tmp_path / "a.onnx", {})
    with pytest.raises(InputError, match=r"torch\.export stops at a branch that depends on values"):
        trace(Program(Strange("branch"), "audio"))


class Doubles(nn.Module):
    def embed(self, role: str, features: Features) -> Tensor:
        return 2 * features.pooled


@pytest.mark.parametrize("inline", [1 << 30, 0])
def test_inner_values_may_be_called_as_outputs_are_and_weights_lie_outside_where_they_are_many(tmp_path, monkeypatch, inline):
    monkeypatch.setattr(onnx_file, "INLINE", inline)
    found = write_onnx(trace(Program(Strange("embedding"), "audio", Doubles())), tmp_path / "a.onnx", {"role": "audio"})
    assert (tmp_path / "a.onnx.data").is_file() == (inline == 0)
    assert found.worst.max_rel < TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["mmssl"]) == {"role": "audio"}
    assert [value.name for value in session.get_outputs()] == ["pooled", "grid", "embedding"]


def test_the_comparison_sees_what_is_wrong():
    program = Program(build("audio_cnn", "tiny"), "audio")
    x = example_of(program.encoder)
    right = program(x)
    assert check(program, [x], lambda x: right, "it").worst.max_abs == 0
    for wrong in (lambda t: t * (1 + 3 * TOLERANCE), lambda t: t[:1], lambda t: t * float("nan"), lambda t: t.roll(1, 0)):
        with pytest.raises(RunError, match="it"):
            check(program, [x], lambda x, wrong=wrong: [right[0], wrong(right[1])], "it")


def test_a_program_file_with_pickles_is_seen(out, tmp_path):
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    assert pickled_parts(out / "audio" / "encoder.pt2") == []
    torch.export.save(torch.export.export(Twice(), (torch.ones(2),)), tmp_path / "with-example.pt2")
    assert pickled_parts(tmp_path / "with-example.pt2") == ["data/sample_inputs/model.pt"]


def test_examples_hold_a_quiet_row_and_padding():
    assert example_of(build("frame_resnet", "tiny"), 3)[-1].max() == 0
    text = build("text_bert", "tiny")
    ids = example_of(text, 3)
    assert (ids[-1] == text.vocabulary.pad).sum() == 8 and (ids[0] != text.vocabulary.pad).all()
    assert example_of(text, 2, more={1: -3}).shape == (2, 13)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), ALL)
def test_every_encoder_can_be_exported_both_ways(name, size, tmp_path):
    encoder = build(name, size)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    traced = trace(Program(encoder, "it"))
    assert set(traced.free.values()) == {
        "frame_resnet": {"batch", "frames", "height", "width"},
        "video_resnet": {"batch", "frames", "height", "width"},
        "flow_cnn": {"batch", "frames", "height", "width"},
        "audio_cnn": {"batch", "samples"},
        "text_bert": {"batch", "tokens"},
        "text_seq2seq": {"batch", "tokens"},
    }.get(name, {"batch"})
    found = write_torch(traced, tmp_path / "a.pt2"), write_onnx(traced, tmp_path / "a.onnx", {})
    print(name, size, *(f"{check.worst.max_rel:.1e}" for check in found))
    assert np.isfinite([check.worst.max_abs for check in found]).all()
