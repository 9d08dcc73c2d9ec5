"""Where what was made for visitors lies: folders with names that nobody can guess, of which the newest are kept."""

from __future__ import annotations

import secrets
import shutil
import threading
from pathlib import Path

MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".json": "application/json",
    ".npz": "application/octet-stream",
    ".zip": "application/zip",
}


class Results:
    """Folders of results under `root`, the newest `keep` of them."""

    def __init__(self, root: Path, *, keep: int = 16) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root, self._keep = root, keep
        self._folders: dict[str, Path] = {}  # oldest first
        self._lock = threading.Lock()

    def new(self) -> tuple[str, Path]:
        """A new folder, and the token that it is asked for by; the oldest may go for it."""
        token = secrets.token_urlsafe(18)
        folder = self._root / token
        folder.mkdir()
        with self._lock:
            self._folders[token] = folder
            gone = [self._folders.pop(key) for key in list(self._folders)[: -self._keep]]
        for old in gone:
            shutil.rmtree(old, ignore_errors=True)
        return token, folder

    def drop(self, token: str) -> None:
        """Delete a folder, of a job that came to nothing."""
        with self._lock:
            folder = self._folders.pop(token, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def folder(self, token: str) -> Path | None:
        """The folder of a token; None where there is none, or none any more."""
        with self._lock:
            return self._folders.get(token)

    def find(self, token: str, name: str) -> Path | None:
        """A file of a folder: one that is listed in it and of a kind that is served, never a path."""
        folder = self.folder(token)
        if folder is None or not folder.is_dir():
            return None
        listed = {path.name: path for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
        path = listed.get(name)
        return path if path is not None and path.suffix in MEDIA_TYPES and not name.startswith(".") else None
