"""What a loader gives at each step, and how it is put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch

from training.data.augmentation import Augmentation
from training.data.randomness import Purpose, seeded
from training.methods import Batch

Broken: TypeAlias = tuple[tuple[str, str], ...]
"""(image id, why it cannot be read) of photos that others stand in for."""


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process has: the `rank`-th of `processes` equal ones."""

    rank: int = 0
    processes: int = 1


@dataclass(frozen=True)
class Loaded:
    """One process's part of one batch.

    Attributes:
        batch: what is learned from, b photos.
        image_ids: (b,), of the photos that were read.
        broken: photos that were to be read, and could not be.
    """

    batch: Batch
    image_ids: tuple[str, ...]
    broken: Broken = ()

    def pin_memory(self) -> Loaded:
        """The same in page-locked memory, from which a GPU copies while it computes."""
        tensors = {
            name: value.pin_memory()
            for name, value in vars(self.batch).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, batch=replace(self.batch, **tensors))


class Item(NamedTuple):
    """One photo of a batch; see `Batch`."""

    image_id: str
    image: torch.Tensor
    target: int
    target_map: torch.Tensor | None = None


def stack(items: Sequence[Item], broken: Broken) -> Loaded:
    """Photos as a batch, not mixed yet."""
    maps = [item.target_map for item in items if item.target_map is not None]
    batch = Batch(
        torch.stack([item.image for item in items]),
        torch.tensor([item.target for item in items], dtype=torch.int64),
        maps=torch.stack(maps) if maps else None,
    )
    return Loaded(batch, tuple(item.image_id for item in items), broken)


def mixed(loaded: Loaded, augmentation: Augmentation, *drawn_for: int) -> Loaded:
    """A batch after mixup or cutmix, where they are asked for, drawn for these numbers."""
    if not augmentation.mixes:
        return loaded
    batch = loaded.batch
    with seeded(Purpose.MIXING, *drawn_for):
        images, soft_target = augmentation.mix(batch.images, batch.target)
    return replace(loaded, batch=replace(batch, images=images, soft_target=soft_target))


def as_it_is(loaded: Any) -> Any:
    """For a DataLoader, which would convert what it is given."""
    return loaded


def nothing_readable(broken: Broken, number: int) -> ValueError:
    """The error of a data set of which not one photo can be read, or of shards without any."""
    if not broken:
        return ValueError(f"There is not one of the {number} photos of data.train in its shards.")
    image_id, reason = broken[0]
    return ValueError(
        f"Not one of the {number} photos of data.train can be read, such as {image_id}: {reason}"
    )


class Loader(ABC):
    """Gives batches, epoch by epoch.

    Attributes:
        steps: in an epoch, on every process; what is left over after the last whole batch is not
            seen in that epoch.
    """

    steps: int

    @abstractmethod
    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Loaded]:
        """This process's parts of an epoch's batches, from a step on.

        Args:
            epoch: counts from 0; another one gives another order and other random numbers.
            first_step: in [0,steps], where a resumed run goes on.

        Raises:
            ValueError: not one photo can be read.
        """
