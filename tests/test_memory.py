"""A process's size, as the system sees it, while large blocks are taken and freed.

Each test has a fresh process: what others have left in the heap would take the blocks otherwise.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import pytest
import torch

from wsolviz import memory
from wsolviz.memory import keeping_freed_memory

BLOCK = 2**28  # bytes
STATM = Path("/proc/self/statm")

pytestmark = pytest.mark.skipif(not STATM.exists(), reason="no /proc to read the size from")


def size() -> int:
    """Bytes of this process in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def take_and_free() -> None:
    torch.ones(BLOCK // 4)


def grown(before: int) -> bool:
    """Whether most of the block is still there."""
    change = size() - before
    assert change < BLOCK / 4 or change > BLOCK * 3 / 4, "neither kept nor given back"
    return change > BLOCK / 2


def assert_given_back(before: int) -> None:
    """In the end, however slow the machine is."""
    deadline = time.monotonic() + 30
    while size() - before >= BLOCK / 4:
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.01)


def freed_blocks_stay_within_and_go_behind() -> None:
    memory.PAUSE = 0.0
    before = size()
    take_and_free()
    assert not grown(before), "what glibc does by itself"
    with keeping_freed_memory():
        take_and_free()
        assert grown(before)
        for _ in range(5):
            take_and_free()
        # Twice, not six times: what was allocated meanwhile may lie in the first one's way.
        assert size() - before < 2.5 * BLOCK, "taken again, not beside"
    assert_given_back(before)


def behind_it_glibc_does_as_before() -> None:
    # Nothing large is taken within, so that the heap has no empty addresses that would fit.
    memory.PAUSE = 0.0
    with keeping_freed_memory():
        pass
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(30)
    before = size()
    take_and_free()
    assert not grown(before)


def what_the_user_has_set_stays() -> None:
    before = size()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "1000000"
    with keeping_freed_memory():
        take_and_free()
        assert not grown(before)
    del os.environ["MALLOC_MMAP_THRESHOLD_"]
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.trim_threshold=1000000"
    with keeping_freed_memory():
        take_and_free()
        assert not grown(before)
    del os.environ["GLIBC_TUNABLES"]
    with keeping_freed_memory():
        take_and_free()
        assert grown(before)


def in_the_pause_they_stay() -> None:
    memory.PAUSE = 3600.0
    before = size()
    for _ in range(3):
        with keeping_freed_memory():
            take_and_free()
        assert grown(before)


def the_end_of_a_pause_takes_nothing_from_who_came_back() -> None:
    memory.PAUSE = 0.05
    before = size()
    with keeping_freed_memory():
        take_and_free()
    with keeping_freed_memory():
        take_and_free()
        time.sleep(0.5)
        assert grown(before)
    assert_given_back(before)


def it_is_given_back_when_an_error_leaves() -> None:
    memory.PAUSE = 0.0
    before = size()
    with pytest.raises(RuntimeError, match="stopped"), keeping_freed_memory():
        take_and_free()
        raise RuntimeError("stopped")
    assert_given_back(before)


def it_holds_until_the_last_has_left() -> None:
    memory.PAUSE = 0.0
    before = size()
    both_in, one_out = Barrier(2), Barrier(2)

    def first() -> None:
        with keeping_freed_memory():
            both_in.wait(10)
        one_out.wait(10)

    with ThreadPoolExecutor(1) as pool, keeping_freed_memory():
        other = pool.submit(first)
        both_in.wait(10)
        one_out.wait(10)
        other.result(10)
        take_and_free()
        assert grown(before)
    assert_given_back(before)


@pytest.mark.parametrize(
    "what",
    [
        freed_blocks_stay_within_and_go_behind,
        behind_it_glibc_does_as_before,
        what_the_user_has_set_stays,
        in_the_pause_they_stay,
        the_end_of_a_pause_takes_nothing_from_who_came_back,
        it_is_given_back_when_an_error_leaves,
        it_holds_until_the_last_has_left,
    ],
)
def test_in_a_fresh_process(what: Callable[[], None]) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        fresh.submit(what).result()
