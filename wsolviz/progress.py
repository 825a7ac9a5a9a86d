"""Progress of long work, told to whoever listens, who may also stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, str], None]


class StoppedError(Exception):
    """Raised by a listener to end the work that reports to it."""


class SupersededError(StoppedError):
    """Raised where newer work of the same visitor takes the place of this."""


def ignore_progress(share: float, text: str) -> None:
    """Take no notice."""


_listener: ContextVar[Progress] = ContextVar("listener", default=ignore_progress)


@contextmanager
def listening(listener: Progress) -> Iterator[None]:
    """Let everything inside report to `listener`, with a share in [0,1] of the step at hand."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(share: float, text: str = "") -> None:
    """Tell the current listener; raises whatever it raises.

    >>> with listening(lambda share, text: print(f"{share:.0%} {text}")):
    ...     report(0.5, "channels")
    50% channels
    """
    _listener.get()(share, text)
