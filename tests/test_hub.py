"""`mmssl.hub` without a network: what is sent, what is fetched, and what is refused before anything of it is imported."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
import torch

import mmssl
from mmssl import hub
from mmssl.export.folder import export_run
from mmssl.exported import foreign
from mmssl.types import InputError
from tests.untrained_run import sound_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    export_run(sound_run(folder / "run"), folder / "out", license="apache-2.0")
    return folder / "out"


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


class FakeHub:
    """Repositories as folders, with the two calls that `push` makes."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, []

    def create_repo(self, repo_id, *, private, exist_ok, repo_type):
        self.calls.append({"repo_id": repo_id, "private": private, "exist_ok": exist_ok, "repo_type": repo_type})
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return SimpleNamespace(repo_id=repo_id, __str__=lambda: repo_id)

    def upload_folder(self, *, folder_path, repo_id, revision, commit_message, allow_patterns):
        self.calls.append({"revision": revision, "message": commit_message})
        for path in folder_path.rglob("*"):
            if path.is_file() and any(path.match(pattern) for pattern in allow_patterns):
                target = self.root / repo_id / path.relative_to(folder_path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)

    def snapshot_download(self, repo_id, *, revision, allow_patterns):
        self.calls.append({"revision": revision, "patterns": allow_patterns})
        target = self.root / "cache" / repo_id
        for path in (self.root / repo_id).rglob("*"):
            if path.is_file() and any(path.match(pattern) for pattern in allow_patterns):
                (target / path.relative_to(self.root / repo_id)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / path.relative_to(self.root / repo_id))
        return str(target)


@pytest.fixture
def there(tmp_path, monkeypatch):
    fake = FakeHub(tmp_path / "there")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_pushed_and_pulled_is_equal_and_pickles_stay_there(copy, there):
    (copy / "video" / "encoder.pt2").write_bytes(b"a program")
    hub.push(copy, "me/model")
    assert there.calls[0] == {"repo_id": "me/model", "private": True, "exist_ok": True, "repo_type": "model"}
    (there.root / "me" / "model" / "pytorch_model.bin").write_bytes(b"a pickle")  # put there by someone else
    model, again = mmssl.from_pretrained(copy), mmssl.from_pretrained("me/model", revision="abc")
    assert there.calls[-1]["revision"] == "abc"
    assert again.path != copy and {path.suffix for path in again.path.rglob("*") if path.is_file()} == {
        ".json",
        ".yaml",
        ".md",
        ".safetensors",
    }
    x = torch.randn(2, 8000)
    assert torch.equal(model.embed("audio", x), again.embed("audio", x))
    hub.push(copy, "me/open", private=False, revision="dev", message="Second try")
    assert there.calls[-2]["private"] is False and there.calls[-1] == {"revision": "dev", "message": "Second try"}


def test_only_exports_are_pushed_and_nothing_unseen(copy, there, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no exported model; `mmssl export RUN"):
        hub.push(tmp_path / "empty", "me/model")
    (copy / "audio" / "holiday.mp4").write_bytes(b"film")
    with pytest.raises(InputError, match=r"holds audio/holiday.mp4, which `mmssl export` did not write"):
        hub.push(copy, "me/model")
    assert there.calls == []


def test_a_repository_of_another_library_is_refused(there):
    (there.root / "some" / "bert").mkdir(parents=True)
    (there.root / "some" / "bert" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no model that `mmssl export` wrote"):
        hub.pull("some/bert")


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda f: change_json(f / "audio" / "config.json", lambda c: c.update(encoder="evil.encoder")),
            "the module evil.encoder",
        ),
        (lambda f: change_json(f / "audio" / "config.json", lambda c: c["arguments"].update(weights="x/y")), "weights x/y"),
        (lambda f: change_json(f / "audio" / "config.json", lambda c: c.update(attached={"a": "../b"})), "the file ../b"),
        (
            lambda f: change_json(f / "audio" / "config.json", lambda c: c["arguments"].update(config={"kernel": "x/y"})),
            "kernel x/y",
        ),
        (
            lambda f: (f / "config.yaml").write_text(
                (f / "config.yaml").read_text().replace("name: av_nce", "name: evil.objective")
            ),
            "evil.obj",
        ),
        (
            lambda f: (f / "config.yaml").write_text(
                (f / "config.yaml").read_text().replace("name: audio_cnn", "name: evil.encoder")
            ),
            "evil.enc",
        ),
    ],
)
def test_what_asks_for_more_than_mmssl_is_refused_before_it_is_imported(copy, there, tmp_path, monkeypatch, change, words):
    (tmp_path / "evil").mkdir()
    for name in ("__init__", "encoder", "objective"):
        (tmp_path / "evil" / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    change(copy)
    shutil.copytree(copy, there.root / "evil" / "model")
    with pytest.raises(InputError, match=words):
        mmssl.from_pretrained("evil/model")
    assert "evil" not in sys.modules


def test_packages_that_are_named_may_be_asked_for(copy):
    change_json(copy / "audio" / "config.json", lambda content: content.update(encoder="mine.encoder"))
    assert foreign(copy) == ["the module mine.encoder"]
    assert foreign(copy, modules=["mine"]) == []


def test_offline_is_a_sentence_with_the_next_move(made):
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(InputError, match="the hub is out of reach; unset HF_HUB_OFFLINE"):
        hub.pull("nobody/nothing-of-this-name")
    with pytest.raises(InputError, match="cannot be sent to me/model: the hub is out of reach; unset HF_HUB_OFFLINE"):
        hub.push(made, "me/model")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("no route"), "the hub is out of reach"),
        (OSError("disk full"), r"\(disk full\); check the name"),
        (ValueError("a/b/c is no name"), "a/b/c is no name"),
    ],
)
def test_what_the_library_raises_becomes_a_sentence(monkeypatch, error, words):
    def fail(*args, **more):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=words):
        hub.pull("me/model")
