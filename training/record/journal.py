"""The journal of a run: a line of JSON an epoch, in a file that outlives the process."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from training.record.epoch import EpochRecord
from training.record.files import write_whole


class Journal:
    """The epochs of one run, by rising `epochs_done`; only the leading process writes.

    A process that is killed leaves whole lines and perhaps a last one that was not finished, which
    does not count.

    Args:
        path: of the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[EpochRecord]:
        """All epochs so far.

        Raises:
            ValueError: a line that is no epoch's, by its number.
        """
        records = []
        for number, line in enumerate(self._whole_lines().splitlines(), start=1):
            try:
                records.append(EpochRecord.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "the whole"
                raise ValueError(
                    f"{self.path}, line {number} is no epoch of a run: {where}: {first['msg']}. "
                    "Take the line away, or move the file aside to begin a new one."
                ) from error
        return records

    def record(self, epochs_done: int) -> EpochRecord:
        """One epoch.

        Raises:
            ValueError: the journal does not hold it.
        """
        for record in self.records():
            if record.epochs_done == epochs_done:
                return record
        raise ValueError(f"{self.path} holds no epoch {epochs_done}; was it changed by hand?")

    def append(self, record: EpochRecord) -> None:
        """Write one epoch down, so that it outlives this process and this machine's power.

        Raises:
            OSError: it cannot be written; what was there before still counts.
        """
        before = self.records()
        assert not before or before[-1].epochs_done < record.epochs_done, "see `resume`"
        self._cut_torn_line()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(record.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def resume(self, epochs_done: int | None) -> list[EpochRecord]:
        """Forget the epochs behind a checkpoint, which are run again; gives those that stay.

        Args:
            epochs_done: how many epochs the checkpoint has behind it; None where there is no
                checkpoint, so that nothing stays.
        """
        records = self.records()
        last = -1 if epochs_done is None else epochs_done
        stay = [record for record in records if record.epochs_done <= last]
        if len(stay) < len(records):
            lines = [record.model_dump_json() + "\n" for record in stay]
            write_whole(self.path, "".join(lines))
        return stay

    def _whole_lines(self) -> bytes:
        content = self.path.read_bytes() if self.path.is_file() else b""
        return content[: content.rfind(b"\n") + 1]

    def _cut_torn_line(self) -> None:
        whole = self._whole_lines()
        if self.path.is_file() and self.path.stat().st_size > len(whole):
            os.truncate(self.path, len(whole))
