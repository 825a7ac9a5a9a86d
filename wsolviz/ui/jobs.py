"""Stopping work from another request of the same visitor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from wsolviz.progress import Progress, StoppedError


class Jobs:
    """One running job for each visitor; a new one stops the one before it."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, visitor: str, progress: Progress) -> Iterator[Progress]:
        """Give a progress function that raises `StoppedError` once the visitor asks for it."""
        event = threading.Event()
        with self._lock:
            if visitor in self._events:
                self._events[visitor].set()
            self._events[visitor] = event

        def checked(share: float, text: str) -> None:
            if event.is_set():
                raise StoppedError(text)
            progress(share, text)

        try:
            yield checked
        finally:
            with self._lock:
                if self._events.get(visitor) is event:
                    del self._events[visitor]

    def stop(self, visitor: str) -> bool:
        """Ask a visitor's job to stop at its next report; False if none is running."""
        with self._lock:
            event = self._events.get(visitor)
        if event is None:
            return False
        event.set()
        return True
