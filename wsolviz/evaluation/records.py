"""What a run keeps of each image, and the journal that it is written to as the run goes on.

A journal is a file of JSON lines: the run's settings, then a line an image. All results are
computed from it, so memory does not grow with the images, and a run that was cut off goes on where
it stopped: a last line that was not finished is taken away.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsolviz.analysis.boxes import LevelBoxes
from wsolviz.evaluation.box_metrics import POLICIES, IouCurves

Settings: TypeAlias = dict[str, Any]

JOURNAL = "records-{}.jsonl"  # by the rank of the process that writes it
INDEX = re.compile(rb'{"index": (\d+), "stamp": (-?\d+),')
NO_FAILURE = b'"failure": ""}\n'  # the last thing in it
ABSENT = -1
TAIL = 1 << 16  # bytes of a journal that are searched for its last line at a time


@dataclass(frozen=True)
class MethodRecord:
    """What one method's score map gave on one image.

    Attributes:
        curves: IoU by level; None for an image without boxes.
        largest: the boxes of the largest contour, in the score map's pixels; None likewise.
        histograms: (2,N) of scores outside and inside the masks; None for an image without masks.
    """

    curves: IouCurves | None = None
    largest: LevelBoxes | None = None
    histograms: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ImageRecord:
    """What a run found on one image.

    Attributes:
        index: its place in the metadata.
        image_id: its name there.
        label: the network's class that the true label means; None where it has none.
        explained: the class whose maps were measured; None for maps that were read from files.
        top: the network's best classes, best first; empty for maps that were read.
        probability: of the explained class.
        methods: by name.
        failure: why the image was skipped; empty otherwise.
    """

    index: int
    image_id: str
    label: int | None = None
    explained: int | None = None
    top: tuple[int, ...] = ()
    probability: float = 0.0
    methods: Mapping[str, MethodRecord] = field(default_factory=dict)
    failure: str = ""

    def is_among(self, count: int) -> bool:
        """Whether the label is among the network's best `count` classes."""
        return self.label is not None and self.label in self.top[:count]

    def to_json(self) -> Settings:
        """Plain values; arrays as compressed bytes."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["methods"] = {k: _pack_method(m) for k, m in self.methods.items()}
        return plain

    @classmethod
    def from_json(cls, plain: Settings) -> ImageRecord:
        """The record of `to_json`."""
        methods = {name: _unpack_method(m) for name, m in plain["methods"].items()}
        return cls(**{**plain, "top": tuple(plain["top"]), "methods": methods})


def _pack_method(record: MethodRecord) -> Settings:
    packed: Settings = {}
    if record.curves is not None and record.largest is not None:
        packed["max_level"] = record.curves.max_level
        packed |= {policy: _pack(record.curves.best[policy]) for policy in POLICIES}
        packed["boxes"] = _pack(record.largest.intervals.astype(np.int32))
    if record.histograms is not None:
        packed["histograms"] = _pack(record.histograms.astype(np.int64))
    return packed


def _unpack_method(packed: Settings) -> MethodRecord:
    histograms = packed.get("histograms")
    counts = None if histograms is None else _unpack(histograms, np.int64).reshape(2, -1)
    if "max_level" not in packed:
        return MethodRecord(histograms=counts)
    best = {policy: _unpack(packed[policy], np.float64) for policy in POLICIES}
    boxes = LevelBoxes(_unpack(packed["boxes"], np.int32).reshape(-1, 6))
    return MethodRecord(IouCurves(packed["max_level"], best), boxes, counts)


def _pack(values: NDArray[Any]) -> str:
    """Level 1: the arrays are runs of equal values, and are small at any level."""
    return base64.b64encode(zlib.compress(values.tobytes(), 1)).decode()


def _unpack(text: str, dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def conflict(folder: Path, settings: Settings) -> str:
    """Why a run with these settings cannot go on in a folder; empty where it can."""
    wanted = json.loads(json.dumps(settings))
    for path in sorted(folder.glob(JOURNAL.format("*"))):
        with path.open(encoding="utf-8") as lines:
            first = lines.readline()
        if not first.endswith("\n"):
            continue  # killed before it had written anything
        found = json.loads(first)
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                return (
                    f"{folder} holds a run with other settings ({name}: {found.get(name)!r} there, "
                    f"{wanted.get(name)!r} now). Choose another --out, or start anew with --force."
                )
    return ""


class Journal:
    """The records of one process, in a file that outlives it; see `conflict` before making one."""

    def __init__(self, folder: Path, rank: int, settings: Settings) -> None:
        self.path = path = folder / JOURNAL.format(rank)
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut_torn_line(path)
        if not path.exists() or path.stat().st_size == 0:
            path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def write(self, record: ImageRecord, stamp: int = 0) -> None:
        """Add a record.

        Args:
            record: of one image.
            stamp: of the file that was measured, see `Source.stamp`.
        """
        plain = record.to_json()
        # What `Records` looks for stands at the ends of the line.
        line = {"index": plain.pop("index"), "stamp": stamp, **plain, "failure": record.failure}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Hand everything to the system, after which it outlives this process."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class Records:
    """The records of some images, out of all journals in a folder; may be read again and again.

    Only where each record stands is kept in memory. Of a skipped image that was measured in a later
    run the later record counts.
    """

    def __init__(
        self, folder: Path, wanted: NDArray[np.bool_], stamps: NDArray[np.int64] | None = None
    ) -> None:
        """Find the records.

        Args:
            folder: where the journals are; other processes may be writing to theirs.
            wanted: (N,) bool, which images by their index.
            stamps: (N,) the files' stamps now: records of another stamp are left out. None takes
                all.
        """
        self._paths = sorted(folder.glob(JOURNAL.format("*")))
        self._path_of = np.full(len(wanted), ABSENT, np.int32)
        self._offsets = np.zeros(len(wanted), np.int64)
        self._failed = np.zeros(len(wanted), np.bool_)
        for number, path in enumerate(self._paths):
            with path.open("rb") as file:
                offset = len(file.readline())  # behind the settings
                for line in file:
                    if line.endswith(b"\n"):
                        index, stamp = _ends_of(line)
                        stale = stamps is not None and stamps[index] != stamp
                        measured = self._path_of[index] != ABSENT and not self._failed[index]
                        if wanted[index] and not stale and not measured:
                            self._path_of[index], self._offsets[index] = number, offset
                            self._failed[index] = not line.endswith(NO_FAILURE)
                    offset += len(line)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Of the images that have a record, rising."""
        return np.flatnonzero(self._path_of != ABSENT)

    @property
    def measured(self) -> NDArray[np.int64]:
        """Of those, the ones that were not skipped, rising."""
        return np.flatnonzero((self._path_of != ABSENT) & ~self._failed)

    def __iter__(self) -> Iterator[ImageRecord]:
        """Every record, by rising index."""
        return self.between(0, len(self._path_of))

    def between(self, start: int, stop: int) -> Iterator[ImageRecord]:
        """The records of the images from `start` to before `stop`."""
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self._paths]
            for index in self.indices:
                if start <= index < stop:
                    file = files[self._path_of[index]]
                    file.seek(self._offsets[index])
                    line = json.loads(file.readline())
                    del line["stamp"]
                    yield ImageRecord.from_json(line)


def _ends_of(line: bytes) -> tuple[int, int]:
    """Index and stamp of a journal's line, the first things in it."""
    found = INDEX.match(line)
    assert found is not None, line[:60]
    return int(found[1]), int(found[2])


def _cut_torn_line(path: Path) -> None:
    """Take away what stands behind the last line's end: a process was killed while writing it."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - TAIL)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
