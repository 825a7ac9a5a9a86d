"""What an error says to those who run the program, and what to those who only see its page.

Who runs it can give a file, look into a folder and read a log; a visitor can only choose otherwise,
and is not to learn the server's paths.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

Error = TypeVar("Error", bound=Exception)

_logger = logging.getLogger(__name__)


class Reason(NamedTuple):
    """Why a result is missing.

    Attributes:
        full: for those who run the program.
        public: for visitors.
    """

    full: str
    public: str


def with_public_text(error: Error, text: str) -> Error:
    """The same error, with what a visitor is to be told in its place."""
    error.__dict__["public_text"] = text
    return error


def public_text(error: Exception) -> str:
    """What a visitor is told of an error that users can cause.

    >>> public_text(ValueError("The threshold is 2; it lies between 0 and 1."))
    'The threshold is 2; it lies between 0 and 1.'
    >>> public_text(with_public_text(OSError("no /srv/weights/a.pth"), "The weights are missing."))
    'The weights are missing.'
    """
    if "public_text" in error.__dict__:
        return str(error.__dict__["public_text"])
    if isinstance(error, OSError):
        return "The server could not read or write a file; try again later."
    return str(error)


@contextmanager
def without_path(path: Path) -> Iterator[None]:
    """Have what is raised inside tell visitors the file's name in place of its path."""
    try:
        yield
    except (ValueError, OSError) as error:
        with_public_text(error, public_text(error).replace(str(path), path.name))
        raise


def explain_error(error: Exception, what: str) -> Reason:
    """Sentences for the place where a result is missing; a bug's traceback goes to the log.

    Args:
        error: whatever was raised.
        what: the work that failed.
    """
    if isinstance(error, (ValueError, OSError)):
        return Reason(str(error), public_text(error))
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "alloc" in str(error):
        text = f"{what}: not enough memory; take a smaller input size or fewer backbones."
        return Reason(text, text)
    _logger.exception("%s failed", what, exc_info=error)
    return Reason(
        f"{what} failed: {type(error).__name__}: {error}",
        f"{what} failed ({type(error).__name__}): that is a bug, and the server's log tells more.",
    )
