"""What the tests of the page share: a corpus, a server in a process of its own, a browser."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A browser that asks nobody for anything.
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
STARTS = 300.0  # seconds; torch and Gradio take a while to import on a busy machine


def make_corpus(toy: Path, folder: Path, *, count: int) -> Path:
    """A folder with the first clips of a toy world."""
    folder.mkdir(parents=True)
    for clip in sorted(toy.glob("*.mp4"))[:count]:
        shutil.copyfile(clip, folder / clip.name)
    return folder


def outside_link(toy: Path, folder: Path) -> Path:
    """A link in the corpus that leads out of it."""
    link = folder / "zz_link.mp4"
    link.symlink_to(sorted(toy.glob("*.mp4"))[-1])
    return link


def find_chromium() -> str:
    """Where a Chromium is, or the test is skipped."""
    for name in (os.environ.get("MMSSL_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name) if name else None
        if found:
            return found
    pytest.skip("no Chromium found (apt-get install chromium, or set MMSSL_CHROMIUM): the page is not driven in a browser")


@contextmanager
def server(*arguments: str, scratch: Path) -> Iterator[str]:
    """`mmssl app` with arguments, in a process of its own on a free port; its address. Ended by SIGTERM, after which `scratch` must be empty."""
    scratch.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "mmssl", "app", *arguments, "--port", "0", "--device", "cpu"]
    with (scratch.parent / "server.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=scratch.parent)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


def _address(process: subprocess.Popen[str], log: object) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + STARTS
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([process.stdout], [], [], 1.0)[0]:
            found = re.search(r"http://[\d.:]+/", process.stdout.readline())
            if found:
                return found[0]
    log.seek(0)  # type: ignore[attr-defined]
    raise AssertionError(f"the server did not start: {log.read()}")  # type: ignore[attr-defined]
