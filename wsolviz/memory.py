"""Memory that is freed and at once needed again, kept by the process in between.

glibc takes every block above 32 MiB from the system and gives it back when it is freed, and the
system clears each page that it hands out. A pass over large maps with gradients frees and takes
gigabytes a second that way: a quarter of the time of an effective receptive field at 1024×1024, and
of a training step of ResNet50. `keeping_freed_memory` keeps such blocks in the heap meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# mallopt(3); the numbers are those of <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER = -1
MIB = 2**20
KEEPING = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER}
# Where glibc's own thresholds, which move with what is freed, end in a process with large blocks;
# once one has been set, they no longer move.
USUAL = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 * MIB, M_TRIM_THRESHOLD: 64 * MIB}

# What the environment may set, as MALLOC_…_.
SETTINGS = ("MMAP_MAX", "MMAP_THRESHOLD", "TOP_PAD", "TRIM_THRESHOLD")

# Seconds behind which nobody seems to go on: a click in the app comes sooner after the last one.
PAUSE = 10.0

_lock = threading.Lock()
_keepers = 0
_pause: threading.Timer | None = None


def _set(options: dict[int, int]) -> None:
    for option, value in options.items():
        _libc.mallopt(option, value)


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Within, freed blocks stay with the process; after a pause behind, they go to the system.

    For work that takes and frees the same large blocks again and again. When the last has left,
    what is free is kept for `PAUSE` seconds more: who comes back within them, with the next photo
    or the next network, finds it. It holds for the whole process and may be entered by several
    threads at once; but what other threads than the main one take in blocks above 64 MiB, glibc
    still gives back. In the end the heap may keep empty addresses (no memory) below something that
    lives on; a later block that fits there is in the heap again and goes back after the next run.
    Without glibc, or where the environment has settings of its own for it, nothing is done.
    """
    if not _has_glibc or _is_set_by_user():
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _is_set_by_user() -> bool:
    """Whether the environment says how glibc is to keep memory; see mallopt(3)."""
    tuned = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    return tuned or any(f"MALLOC_{name}_" in os.environ for name in SETTINGS)


def _enter() -> None:
    global _keepers, _pause  # noqa: PLW0603  (the allocator is the process's, too)
    with _lock:
        if _pause is not None:
            _pause.cancel()
            _pause = None
        _keepers += 1
        if _keepers == 1:
            _set(KEEPING)


def _leave() -> None:
    global _keepers, _pause  # noqa: PLW0603
    with _lock:
        _keepers -= 1
        if _keepers == 0:
            _pause = threading.Timer(PAUSE, _give_back)
            _pause.daemon = True  # a process that ends gives back everything
            _pause.start()


def _give_back() -> None:
    with _lock:
        if _keepers == 0:
            _set(USUAL)
            _libc.malloc_trim(0)


_libc: Any = ctypes.CDLL(None) if os.name == "posix" else None
_has_glibc = hasattr(_libc, "mallopt") and hasattr(_libc, "malloc_trim")
