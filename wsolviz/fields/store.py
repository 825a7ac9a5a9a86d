"""Receptive fields on disk, finished ones and those that are still being measured.

A file an entry, under a name that follows from everything that the field depends on. Files are
written beside their place and then moved there, so another process sees the old one or the new one
and never a part. What cannot be read is no entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import zipfile
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsolviz.defaults import DEFAULTS
from wsolviz.receptive_field import FieldSum

FOLDER_VARIABLE = "WSOLVIZ_CACHE"
SUFFIX, WRITING = ".npz", ".part"
METHOD = 1  # counts up when the same question gets another answer
# What NumPy and zipfile raise on damaged files.
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, AssertionError),
    *(zipfile.BadZipFile, zlib.error),
)

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where results are kept between runs: $WSOLVIZ_CACHE, else .cache/wsolviz at home."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "wsolviz")


@dataclass(frozen=True)
class FieldKey:
    """Everything that a field depends on.

    Attributes:
        backbone: the name that was asked for.
        weights: what names them, see `weights_digest`.
        seed: of random weights; None for trained ones.
        output_stride: that was asked for.
        precision: of the forward pass.
        size: side of the network's input in pixels.
        position: (row, column) that was asked for.
        class_index: whose CAM was asked about.
        photos: SHA-256 of the photos' digests, in their order.
        num_photos: how many they are.
        device: kind of processor, whose arithmetic shows in the last digits.
        method: see METHOD.
    """

    backbone: str
    weights: str
    seed: int | None
    output_stride: int | None
    precision: str
    size: int
    position: tuple[int, int] | None
    class_index: int | None
    photos: str
    num_photos: int
    device: str
    method: int = METHOD

    @property
    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def file_name(self) -> str:
        """Of the entry."""
        return hashlib.sha256(self.text.encode()).hexdigest() + SUFFIX


@dataclass(frozen=True)
class FieldState:
    """How far the measurement of a field is.

    Attributes:
        done: photos that were taken, the first ones of the key's.
        summed: the contributions so far; None before the first photo that could be read.
        broken: index and reason of each photo that could not be read.
        seconds: that it took so far.
    """

    done: int = 0
    summed: FieldSum | None = None
    broken: tuple[tuple[int, str], ...] = ()
    seconds: float = 0.0


class FieldStore:
    """A folder of fields, bounded in bytes: those that were not used for longest go first."""

    def __init__(self, folder: Path | None = None, max_bytes: int | None = None) -> None:
        """A store.

        Args:
            folder: where; None for "erf" in `cache_folder`. It is made when something is kept.
            max_bytes: None for the default. The entry written last always stays.
        """
        self.folder = cache_folder() / "erf" if folder is None else folder
        self.max_bytes = DEFAULTS.erf_cache_bytes if max_bytes is None else max_bytes

    def load(self, key: FieldKey) -> FieldState:
        """How far a field is; a state with nothing done where nothing is there that can be read."""
        path = self.folder / key.file_name
        try:
            state = _read(path, key)
        except FileNotFoundError:
            return FieldState()
        except DAMAGED as error:
            _logger.warning("%s is damaged and is measured anew: %r", path, error)
            return FieldState()
        with suppress(OSError):  # evicted by another process, or a folder that may only be read
            os.utime(path)  # it was used now
        return state

    def save(self, key: FieldKey, state: FieldState) -> None:
        """Keep how far a field is; a full or closed disk is told in the log and ends nothing."""
        path = self.folder / key.file_name
        writing = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{WRITING}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with writing.open("wb") as file:
                _write(file, key, state)
            writing.replace(path)
            self._evict(path)
        except OSError as error:
            _logger.warning("The receptive field is not kept in %s: %s", self.folder, error)
            with suppress(OSError):
                writing.unlink()

    def _evict(self, newest: Path) -> None:
        files = []
        for path in self.folder.iterdir():
            if path.suffix in (SUFFIX, WRITING):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue  # another process was faster
                files.append((path == newest, stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for *_, size, _ in files)
        for is_newest, _, size, path in sorted(files):
            if total <= self.max_bytes or is_newest:
                return
            path.unlink(missing_ok=True)
            total -= size


def _write(file: Any, key: FieldKey, state: FieldState) -> None:
    facts: dict[str, Any] = {"done": state.done, "broken": state.broken, "seconds": state.seconds}
    arrays = {}
    if state.summed is not None:
        facts["summed"] = {k: v for k, v in vars(state.summed).items() if k != "total"}
        arrays["total"] = state.summed.total
    np.savez(
        file,
        allow_pickle=False,
        key=np.array(key.text),
        facts=np.array(json.dumps(facts)),
        **arrays,
    )


def _read(path: Path, key: FieldKey) -> FieldState:
    """An entry's state.

    Raises:
        one of DAMAGED: there is none, or one that cannot be as it was written.
    """
    with np.load(path, allow_pickle=False) as entry:
        assert str(entry["key"]) == key.text, "another field's entry"
        facts = json.loads(str(entry["facts"]))
        broken = tuple((int(index), str(reason)) for index, reason in facts["broken"])
        state = FieldState(int(facts["done"]), None, broken, float(facts["seconds"]))
        assert 0 <= state.done <= key.num_photos
        if "summed" not in facts:
            return state
        told: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in facts["summed"].items()
        }
        summed = FieldSum(total=np.array(entry["total"], dtype=np.float64), **told)
    assert summed.total.shape == (key.size, key.size)
    return replace(state, summed=summed)
