"""Threads that finish the panels of a photo side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


class Workers:
    """Threads for score maps and boxes, which leave the interpreter's lock.

    A forked process (ZeroGPU forks) inherits a pool without its threads, so it gets a new one.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="panels")


workers = Workers()
