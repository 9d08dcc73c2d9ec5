"""Checkpoints: whole or absent, nothing unpickled, every misfit explained."""

from __future__ import annotations

import errno
import json
import os
import pickle  # noqa: TID251 - the hostile side
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from mmssl.training import checkpoint as module
from mmssl.training.checkpoint import (
    MODEL,
    STATE,
    checkpoints,
    clean,
    find_checkpoint,
    read_state,
    read_tensors,
    write_checkpoint,
)
from mmssl.training.errors import RunError
from mmssl.training.identity import check_same_run
from mmssl.types import InputError
from tests.conftest import ROOT
from tests.fakes import fake_trainer

TENSORS: dict[str, dict[str, Tensor]] = {
    MODEL: {"weight": torch.arange(6.0).view(2, 3)},
    "optim/moments.safetensors": {"a": torch.ones(2)},
}


def write(root: Path, step: int, **values: Any) -> Path:
    return write_checkpoint(root, step, TENSORS, {"note": step}, **{"keep": 3, **values})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path, 40)
    assert path == tmp_path / "0000040" == find_checkpoint(tmp_path)
    assert torch.equal(read_tensors(path / MODEL)["weight"], TENSORS[MODEL]["weight"])
    assert read_state(path) == {"format": 1, "step": 40, "note": 40}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000040"]


def test_odd_layouts_are_written(tmp_path: Path) -> None:
    # safetensors refuses shared memory and strides; both are common (tied weights, channels_last).
    weight = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    path = write_checkpoint(tmp_path, 1, {MODEL: {"a": weight, "b": weight, "c": weight[0], "empty": torch.zeros(0)}}, {}, keep=1)
    assert torch.equal(read_tensors(path / MODEL)["b"], weight)


def test_only_whole_checkpoints_are_seen_and_leftovers_are_removed(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / ".0000002.99.part").mkdir()
    (tmp_path / ".0000001.99.old.part").mkdir()
    (tmp_path / "0000003").mkdir()  # without state.json: not ours, or half removed by hand
    (tmp_path / "notes").mkdir()
    assert [p.name for p in checkpoints(tmp_path)] == ["0000001"]
    clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000001", "0000003", "notes"]


def test_the_newest_are_kept_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9_999_999, 10_000_000, 10_000_001):
        write(tmp_path, step, keep=2)
    assert [p.name for p in checkpoints(tmp_path)] == ["10000000", "10000001"]


def test_missing_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        find_checkpoint(tmp_path / "nowhere")
    write(tmp_path, 5)
    with pytest.raises(InputError, match=r"no checkpoint of step 6; there are 5"):
        find_checkpoint(tmp_path, 6)


@pytest.mark.parametrize("where", ["tensors", "state", "sync", "rename"])
def test_a_disk_that_fills_up_keeps_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    write(tmp_path, 1)
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: Any, **__: Any) -> None:
        raise full

    target = {
        "tensors": (safetensors.torch, "save_file"),
        "state": (Path, "write_text"),
        "sync": (module, "sync"),
        "rename": (Path, "rename"),
    }
    monkeypatch.setattr(*target[where], fail)
    with pytest.raises(RunError, match=r"step 2 could not be written.*No space left.*last good one is .*0000001.*--resume"):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000001"]
    assert torch.equal(read_tensors(tmp_path / "0000001" / MODEL)["weight"], TENSORS[MODEL]["weight"])


FULL_DISK = """
import sys
from pathlib import Path
import torch
from mmssl.training.checkpoint import write_checkpoint
from mmssl.training.errors import RunError
root = Path(sys.argv[1])
write_checkpoint(root, 1, {"model.safetensors": {"w": torch.ones(200_000)}}, {}, keep=3)
try:
    write_checkpoint(root, 2, {"model.safetensors": {"w": torch.ones(400_000)}}, {}, keep=3)
except RunError as error:
    print(error)
    print(sorted(p.name for p in root.iterdir()))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root on Linux"
)
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # A mount of its own in a namespace of its own: it ends with the process, whatever happens.
    script = f"mount -t tmpfs -o size=2m tmpfs {disk} && exec {sys.executable} -c '{FULL_DISK}' {disk}/ckpt"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"this system does not let tests mount: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "step 2 could not be written" in done.stdout and "0000001" in done.stdout and "needs 1.6 MB" in done.stdout
    assert done.stdout.splitlines()[-1] == "['0000001']"


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("file", [MODEL, "ema.safetensors", "optim/moments.safetensors", STATE])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path: Path, file: str, form: str) -> None:
    run = tmp_path / "run"
    fake_trainer(run, steps=4, save_every=2).fit()
    target, mark = run / "ckpt/0000004" / file, tmp_path / "mark"
    if form == "pickle":
        target.write_bytes(pickle.dumps(Hostile(mark)))
    else:
        torch.save(Hostile(mark), target)
    with pytest.raises(InputError, match=r"cannot be read.*remove .*0000004 to go on from 0000002"):
        fake_trainer(run, steps=4).fit(resume=True)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))  # the payload is live, so refusing it was worth something
    assert mark.exists()


def spoil(run: Path, file: str, change: Any) -> None:
    path = run / "ckpt/0000004" / file
    tensors = read_tensors(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (MODEL, lambda t: t.pop("encoders.video.stem.weight"), r"lacks encoders\.video\.stem\.weight"),
        (MODEL, lambda t: t.update(extra=torch.ones(1)), "has the unknown extra"),
        (MODEL, lambda t: t.update({"objectives.nce.scale": torch.ones(2)}), r"objectives\.nce\.scale is \(2,\), not \(1,\)"),
        (MODEL, lambda t: t["encoders.video.stem.weight"].fill_(float("nan")), r"not finite, in encoders\.video\.stem\.weight"),
        ("optim/moments.safetensors", lambda t: t["encoders.video.stem.weight/exp_avg"].fill_(float("inf")), "not finite"),
        ("optim/moments.safetensors", lambda t: t.pop("encoders.video.stem.weight/exp_avg"), "lacks"),
        ("ema.safetensors", lambda t: t.clear(), "lacks"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_what(tmp_path: Path, file: str, change: Any, message: str) -> None:
    fake_trainer(tmp_path, steps=4, save_every=2).fit()
    spoil(tmp_path, file, change)
    with pytest.raises(InputError, match=message):
        fake_trainer(tmp_path, steps=4).fit(resume=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    write(tmp_path, 1)
    target = write(tmp_path, 2) / MODEL
    whole = target.read_bytes()
    target.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"cannot be read as safetensors.*go on from 0000001"):
        read_tensors(target)


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    (path / STATE).write_text(json.dumps({"format": 7}))
    with pytest.raises(InputError, match="of format 7, this version of mmssl reads format 1"):
        read_state(path)


OLD = {
    "config": {"train": {"lr": 0.1, "workers": 2, "steps": 9}, "streams": [{"data": "a", "batch": 4}], "encoders": {}},
    "data": {"stream 0": "f00"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    new = json.loads(json.dumps(OLD))
    *parents, last = path.split(".")
    node = new
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    node[last] = value
    return new


@pytest.mark.parametrize(
    ("path", "value"), [("config.train.workers", 0), ("config.streams.0.data", "b"), ("config.train.keep", 9)]
)
def test_what_changes_no_result_may_change(path: str, value: Any) -> None:
    check_same_run(OLD, changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("config.train.lr", 0.2, r"config\.train\.lr: 0\.1 in the checkpoint, 0\.2 now"),
        ("config.train.steps", 10, r"config\.train\.steps: 9 in the checkpoint, 10 now \(the learning rate"),
        ("config.streams.0.batch", 8, r"config\.streams\.0\.batch: 4 in the checkpoint, 8 now"),
        ("config.train.clip", 1.0, r"config\.train\.clip: absent in the checkpoint, 1\.0 now"),
        ("data.stream 0", "bad", r"data\.stream 0: 'f00' in the checkpoint, 'bad' now"),
    ],
)
def test_what_changes_results_may_not(path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_same_run(OLD, changed(path, value))
