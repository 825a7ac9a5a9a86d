"""A run's folder: what lies where, and files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

JOURNAL, GALLERY, TENSORBOARD = "journal.jsonl", "gallery", "tensorboard"
VALIDATION, CONFIG, REPORT = "validation", "config.yaml", "report.html"


def epoch_folder(parent: Path, epochs_done: int) -> Path:
    """Where something of one epoch lies.

    >>> epoch_folder(Path("gallery"), 3).as_posix()
    'gallery/epoch-0003'
    """
    return parent / f"epoch-{epochs_done:04d}"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file; a kill or a full disk leaves the one that was there before.

    Args:
        path: in a folder that exists.
        content: bytes, or text that becomes UTF-8.

    Raises:
        OSError: it cannot be written; names the file.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:  # a full disk's own message names no file
        raise OSError(f"{path} cannot be written: {error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
