"""Stopping work from another request of the same visitor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from wsolviz.progress import Progress, StoppedError, SupersededError


@dataclass
class _Job:
    """A running job, and what is to be raised at its next report."""

    ended_by: type[StoppedError] | None = None


class Jobs:
    """One running job for each visitor; a new one stops the one before it."""

    def __init__(self) -> None:
        self._running: dict[str, _Job] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, visitor: str, progress: Progress) -> Iterator[Progress]:
        """Give a progress function that raises `StoppedError` once the visitor asks for it."""
        job = _Job()
        with self._lock:
            if visitor in self._running:
                self._running[visitor].ended_by = SupersededError
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

    def stop(self, visitor: str) -> bool:
        """Ask a visitor's job to stop at its next report; False if none is running."""
        with self._lock:
            job = self._running.get(visitor)
        if job is None:
            return False
        job.ended_by = StoppedError
        return True
