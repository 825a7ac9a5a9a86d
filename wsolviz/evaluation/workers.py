"""Threads that each do a piece of work from its beginning to its end, on one core."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from wsolviz.panel_workers import keep_to_one_core

Item = TypeVar("Item")
Value = TypeVar("Value")


def in_order(function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """function(item) for every item in order, computed in as many threads as torch may use.

    Each thread keeps to one core. That many images side by side take less time than one after the
    other with every small operation spread over all cores, whose threads then wait for each other.
    Where torch has only one thread, the caller's own does the work.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads, "evaluation", initializer=keep_to_one_core)
    begun: deque[Future[Value]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > 2 * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
