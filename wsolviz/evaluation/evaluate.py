"""The loop over a data set's images: what each gives is written down as the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from wsolviz.evaluation.records import (
    JOURNAL,
    ImageRecord,
    Journal,
    Records,
    Settings,
    conflict,
)
from wsolviz.evaluation.sources import Source
from wsolviz.evaluation.team import ALONE, Team
from wsolviz.evaluation.workers import in_order
from wsolviz.export import versions

Progress: TypeAlias = Callable[[int, int, int], None]

# Photos a forward pass. On a CPU more gain nothing.
BATCH_SIZE = 4
# What is made of a run's records, in the same folder.
RESULTS, TABLE, REPORT = WRITTEN = ("results.json", "images.csv", "report.html")
LOCK = "records-{}.lock"
NOBODY = np.iinfo(np.int64).max  # larger than every rank, so that the smallest of several tells


def ignore(done: int, total: int, skipped: int) -> None:
    """Take no notice."""


@dataclass(frozen=True)
class Run:
    """A measurement of one data set, kept in one folder, that can be gone on with.

    Attributes:
        source: of the score maps.
        folder: where the journals lie.
        team: the processes at work.
        batch_size: photos a forward pass; it decides the figures' last bits, so it is a setting.
    """

    source: Source
    folder: Path
    team: Team = ALONE
    batch_size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1.")

    def clear(self) -> None:
        """Forget what was measured in this folder; returns once every process has done so."""
        with self._alone():
            for pattern in (JOURNAL.format("*"), *WRITTEN):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
        self.team.wait()

    def refuse_others(self) -> None:
        """Refuse a folder that holds a run with other settings, in every process at once.

        Raises:
            ValueError: it does.
        """
        refusal = self.team.first(conflict(self.folder, self.settings))
        if refusal:
            raise ValueError(refusal)

    @property
    def settings(self) -> Settings:
        """Everything that the figures depend on."""
        dataset = self.source.dataset
        return {
            "data": dataset.name,
            "ground_truth_sha256": dataset.digest,
            "methods": list(self.source.methods),
            **self.source.settings,
            "batch_size": self.batch_size,
            "versions": versions(),
        }

    def measure(self, progress: Progress = ignore) -> Records:
        """Measure the images that were not measured before; skipped ones are tried again.

        Args:
            progress: called with images done and images in all of this process's share, and how
                many were skipped; what it raises ends the run, which can be gone on with.

        Returns:
            The records that this process is to count, old ones and new.

        Raises:
            ValueError: the folder holds a run with other settings; nothing was written.
        """
        num_images = len(self.source.dataset.metadata.image_ids)
        self.refuse_others()
        with self._alone():
            stamps = np.array([self.source.stamp(i) for i in range(num_images)])
            mine = self._measure(stamps, progress)
            records = Records(self.folder, mine, stamps)
        if len(records.indices) < mine.sum():
            raise ValueError(f"Records are missing in {self.folder}: did another run clear it?")
        return records

    def _measure(self, stamps: NDArray[np.int64], progress: Progress) -> NDArray[np.bool_]:
        """Measure this process's share; returns which images it is to count."""
        before = self._seen(stamps)
        owners, batches = self._share_out(before)
        mine = owners == self.team.rank
        fresh = mine & (before == NOBODY)
        done = skipped = 0
        progress(done, int(fresh.sum()), skipped)
        with closing(Journal(self.folder, self.team.rank, self.settings)) as journal:
            for records in in_order(self._records_of, batches):
                for record in records:
                    if fresh[record.index]:
                        journal.write(record, int(stamps[record.index]))
                        done, skipped = done + 1, skipped + bool(record.failure)
                journal.flush()
                progress(done, int(fresh.sum()), skipped)
        return mine

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other runs out of this process's journal; a lock of a killed process is free."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK.format(self.team.rank), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise ValueError(f"Another run is at work in {self.folder}.") from error
        try:
            yield
        finally:
            lock.release()

    def _seen(self, stamps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Who counts each image that was measured before: the first process that sees its record.

        Processes may share a disk or not, and may be more or fewer than last time.
        """
        seen = np.full(len(stamps), NOBODY)
        every = np.ones(len(stamps), dtype=np.bool_)
        seen[Records(self.folder, every, stamps).measured] = self.team.rank
        return self.team.minimum(seen)

    def _share_out(self, before: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[range]]:
        """Who counts each image, and the batches that this process is to run.

        A batch is of the same images in every run, whoever runs it and however often it was cut
        off, because a photo's heatmap may depend on the batch in its last bits.
        """
        size, owners = self.batch_size, before.copy()
        starts = np.unique(np.flatnonzero(before == NOBODY) // size) * size
        batches = [range(start, min(start + size, len(before))) for start in starts.tolist()]
        for k, batch in enumerate(batches):
            for index in batch:
                if owners[index] == NOBODY:
                    owners[index] = k % self.team.size
        return owners, batches[self.team.rank :: self.team.size]

    def _records_of(self, batch: range) -> list[ImageRecord]:
        """Read, measure and compare one batch; an image that fails becomes a skipped one."""
        read: list[tuple[int, Any]] = []
        records = []
        for index in batch:
            try:
                read.append((index, self.source.load(index)))
            except (ValueError, OSError) as error:
                records.append(self._skipped(index, error))
        tasks = self.source.measure(read) if read else []
        for (index, _), task in zip(read, tasks, strict=True):
            try:
                records.append(task())
            except (ValueError, OSError) as error:
                records.append(self._skipped(index, error))
        return records

    def _skipped(self, index: int, error: Exception) -> ImageRecord:
        image_id = self.source.dataset.metadata.image_ids[index]
        return ImageRecord(index, image_id, failure=str(error))
