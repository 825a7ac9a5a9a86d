"""Threads that make the panels of a photo side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

A = TypeVar("A")
B = TypeVar("B")


class Workers:
    """Threads for heatmaps, score maps and boxes, which leave the interpreter's lock.

    Each keeps to one core: that many panels side by side take less time than one after the other
    with every small operation spread over all cores, whose threads then wait for each other.

    A forked process (ZeroGPU forks) inherits a pool without its threads, so it gets a new one.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.pool = ThreadPoolExecutor(
            os.cpu_count(), thread_name_prefix="panels", initializer=keep_to_one_core
        )

    def both(self, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
        """The results of two functions; a thread that is idle takes the second one.

        Where none is by the time that the first has run, the calling thread runs the second, too:
        nothing waits in a thread for what only that thread could do.
        """
        taken = self.pool.submit(second)
        result = first()
        return result, second() if taken.cancel() else taken.result()


def keep_to_one_core() -> None:
    """Let torch's operations in the calling thread use no other thread."""
    torch.get_num_threads()  # sets up torch in this thread, which would undo the next line later
    threadpool_limits(1, user_api="openmp")


workers = Workers()
