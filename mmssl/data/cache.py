"""Where mmssl keeps what it can make again: manifests of folders that it was given, rendered toy worlds."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """`$MMSSL_CACHE`, else `mmssl` under the platform's folder for caches. It need not exist yet."""
    chosen = os.environ.get("MMSSL_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmssl"
