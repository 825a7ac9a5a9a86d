"""Several processes that measure together, on one machine or many; one process is a team of one.

The processes are started by torchrun or accelerate launch, which tell each of them its rank in the
environment; torch.distributed carries the counts. What is added up are whole numbers, so that the
sum is the same in whichever order and on however many processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

Value = TypeVar("Value")


@dataclass(frozen=True)
class Team:
    """The processes at work.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
        local_rank: this process's number on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process is the one that talks and writes results."""
        return self.rank == 0

    @property
    def device(self) -> str:
        """Each process of a machine takes a GPU of its own, where there are any."""
        return f"cuda:{self.local_rank}" if torch.cuda.is_available() else "auto"

    def sum(self, counts: NDArray[Any]) -> NDArray[Any]:
        """The sum over all processes, in each of them."""
        return self._reduce(counts, dist.ReduceOp.SUM)

    def minimum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The smallest over all processes, in each of them."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def _reduce(self, values: NDArray[Any], operation: Any) -> NDArray[Any]:
        if self.size == 1:
            return values
        total = torch.from_numpy(np.ascontiguousarray(values).copy())
        dist.all_reduce(total, operation)
        return total.numpy()

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes by rank, in the leading one; nothing in the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, values)
        return values or []

    def first(self, text: str) -> str:
        """The first text that is not empty, in each of them; empty where all are."""
        if self.size == 1:
            return text
        texts: list[Any] = [None] * self.size
        dist.all_gather_object(texts, text)
        return next(filter(None, texts), "")

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def share(self, value: Value) -> Value:
        """The leading process's value, in each of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]


ALONE = Team()
# One process may wait for another's whole share.
LONGEST_WAIT = timedelta(days=14)


@contextmanager
def team() -> Iterator[Team]:
    """The team that the environment tells of, and its connection while it works."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    # gloo carries what lies in ordinary memory, and the counts do, whatever computed them.
    dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        yield Team(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
