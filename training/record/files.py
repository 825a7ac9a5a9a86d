"""A run's folder: what lies where, and files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

JOURNAL, GALLERY, TENSORBOARD = "journal.jsonl", "gallery", "tensorboard"
VALIDATION, CONFIG, REPORT = "validation", "config.yaml", "report.html"


def epoch_folder(parent: Path, epochs_done: int) -> Path:
    """Where something of one epoch lies.

    >>> epoch_folder(Path("gallery"), 3).as_posix()
    'gallery/epoch-0003'
    """
    return parent / f"epoch-{epochs_done:04d}"


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place once it is complete.

    A kill or a full disk leaves the one that was there before.

    Args:
        path: in a folder that exists.

    Raises:
        OSError: it cannot be written; names the file.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises a RuntimeError on a full disk
        raise OSError(
            f"{path} cannot be written: {error}. The file before it is still there."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text, as UTF-8, or bytes into a file; see `whole`."""
    with whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
