"""Stopping work from another request of the same visitor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from wsolviz.progress import Progress, StoppedError, SupersededError


@dataclass
class _Job:
    """A running job: what it works on, and what is to be raised at its next report."""

    work: object
    ended_by: type[StoppedError] | None = None


class Jobs:
    """One running job for each visitor; a new one stops the one before it."""

    def __init__(self) -> None:
        self._running: dict[str, _Job] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, visitor: str, work: object, progress: Progress) -> Iterator[Progress]:
        """Give a progress function that raises `StoppedError` once the visitor asks for it.

        Args:
            visitor: whose job it is.
            work: what is asked for, see `is_running`.
            progress: what the given function passes its reports on to.
        """
        job = _Job(work)
        self.stop(visitor, SupersededError)
        with self._lock:
            self._running[visitor] = job

        def checked(share: float, text: str) -> None:
            if job.ended_by is not None:
                raise job.ended_by(text)
            progress(share, text)

        try:
            yield checked
        finally:
            with self._lock:
                if self._running.get(visitor) is job:
                    del self._running[visitor]

    def is_running(self, visitor: str, work: object) -> bool:
        """Whether the visitor's job is at work on just this, and nobody has stopped it."""
        with self._lock:
            job = self._running.get(visitor)
        return job is not None and job.work == work and job.ended_by is None

    def stop(self, visitor: str, reason: type[StoppedError] = StoppedError) -> bool:
        """Have a visitor's job stop at its next report; False if none is running."""
        with self._lock:
            job = self._running.get(visitor)
            if job is not None:
                job.ended_by = reason
        return job is not None
