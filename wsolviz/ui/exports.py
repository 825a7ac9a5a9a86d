"""Files that are made for a download, and taken away again."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

KEEP_SECONDS = 3600


def exports_folder() -> Path:
    """Where files for downloads are made."""
    return Path(tempfile.gettempdir()) / "wsolviz-exports"


def new_file(name: str) -> Path:
    """A path of that name in a new folder; folders older than an hour are deleted."""
    root = exports_folder()
    root.mkdir(exist_ok=True)
    for folder in root.iterdir():
        if folder.stat().st_mtime < time.time() - KEEP_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root)) / name
