"""Random numbers that depend on what is drawn for, and on nothing that was drawn before.

So a run gives the same pixels with any number of worker processes, and after a resumption.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What is drawn; numbers for one purpose say nothing about those for another."""

    ORDER = 1
    PHOTO = 2
    MIXING = 3
    SHARDS = 4


def seed_of(purpose: Purpose, *numbers: int) -> int:
    """A seed of 64 bits that every one of the numbers changes; they are at least 0."""
    words = (purpose, len(numbers), *numbers)  # entropy is padded with zeros: 1 would equal 1, 0
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


@contextmanager
def seeded(purpose: Purpose, *numbers: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU follow from these; outside, nothing has changed."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs as well, which nobody restores.
        torch.default_generator.manual_seed(seed_of(purpose, *numbers))
        yield
