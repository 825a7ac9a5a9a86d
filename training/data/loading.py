"""Loading batches of photos that are read by name, in worker processes.

Which photo stands where, and every random number, follows from the seed, the epoch and the place in
the epoch: with any number of processes and workers, and from any step on, a run sees the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from training.data.augmentation import Augmentation
from training.data.batches import (
    Broken,
    Item,
    Loaded,
    Loader,
    Share,
    as_it_is,
    mixed,
    nothing_readable,
    stack,
)
from training.data.randomness import Purpose, seed_of, seeded
from training.data.shards import ShardLoader
from training.data.sources import PhotoSet, TrainingSet

Place = tuple[int, int]
"""(epoch, step)"""

ONE_PROCESS = Share()


def make_loader(
    photos: TrainingSet,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    accumulate: int = 1,
    share: Share = ONE_PROCESS,
    device: torch.device | str = "cpu",
) -> Loader:
    """A loader of one process's part of every batch.

    Args:
        photos: what is trained on.
        augmentation: what is done to them.
        batch_size: photos a step, over all processes and accumulated parts.
        seed: of the order and of every random number.
        workers: processes that read; 0 reads in this one.
        accumulate: parts that the process will run its part of a batch in.
        share: which part that is.
        device: where the batches go; for "cuda" they lie in page-locked memory.

    Raises:
        ValueError: a batch that cannot be divided, fewer photos than one batch, no map for a photo,
            or fewer shards than processes.
    """
    parts = share.processes * accumulate
    if batch_size % parts:
        above = -(-batch_size // parts) * parts
        raise ValueError(
            f"batch_size is {batch_size}, which {share.processes} processes × {accumulate} "
            f"accumulated parts cannot divide equally; take a multiple of {parts}, such as {above}."
        )
    if len(photos) < batch_size:
        raise ValueError(
            f"data.train holds {len(photos)} photos, fewer than one batch of {batch_size}; lower "
            "batch_size."
        )
    if augmentation.mixes and batch_size == share.processes:
        raise ValueError(
            "mixup and cutmix mix the photos of one process's part of a batch, which is one photo "
            f"here; raise batch_size to {2 * parts} or more, or leave them out."
        )
    pin = torch.device(device).type == "cuda"
    if isinstance(photos, PhotoSet):
        reader = _Reader(photos, augmentation, seed, batch_size, share)
        return PhotoLoader(reader, workers, pin)
    return ShardLoader(photos, augmentation, seed, batch_size, share, workers, pin)


class PhotoLoader(Loader):
    """A loader of photos that are read by name; its workers live as long as it does."""

    def __init__(self, reader: _Reader, workers: int, pin_memory: bool) -> None:
        self.steps = reader.steps
        self._number = len(reader.photos)
        self._places = _Places(self.steps)
        self._loader: DataLoader[Loaded | _Unreadable] = DataLoader(
            reader,
            batch_size=None,
            sampler=self._places,
            num_workers=workers,
            collate_fn=as_it_is,
            pin_memory=pin_memory,
            worker_init_fn=_own_files,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # so that no number of the run's own is used up
        )

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Loaded]:
        """See `Loader.epoch`; what lies before `first_step` is not read."""
        assert 0 <= first_step <= self.steps, (first_step, self.steps)
        self._places.epoch, self._places.first_step = epoch, first_step
        for loaded in self._loader:
            if isinstance(loaded, _Unreadable):
                raise nothing_readable(loaded.broken, self._number)
            yield loaded


class _Places(Sampler[Place]):
    """The steps of one epoch."""

    def __init__(self, steps: int) -> None:
        self.steps, self.epoch, self.first_step = steps, 0, 0

    def __iter__(self) -> Iterator[Place]:
        epoch = self.epoch
        return ((epoch, step) for step in range(self.first_step, self.steps))


@dataclass(frozen=True)
class _Unreadable:
    """In place of a batch; of an exception, the training process would see a worker's traceback."""

    broken: Broken


class _Reader(Dataset[Loaded | _Unreadable]):
    """One process's part of each batch, by (epoch, step)."""

    def __init__(
        self,
        photos: PhotoSet,
        augmentation: Augmentation,
        seed: int,
        batch_size: int,
        share: Share,
    ) -> None:
        _check_maps(photos, augmentation)
        self.photos, self._augmentation, self._seed = photos, augmentation, seed
        self._batch_size, self._share = batch_size, share
        self._last_order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self.steps = len(photos) // batch_size

    def __getitem__(self, place: Place) -> Loaded | _Unreadable:
        epoch, step = place
        part = self._batch_size // self._share.processes
        first = step * self._batch_size + self._share.rank * part
        items, broken = [], dict[str, str]()
        for position in range(first, first + part):
            item, failed = self._read(epoch, position)
            broken |= failed
            if item is None:
                return _Unreadable(tuple(broken.items()))
            items.append(item)
        loaded = stack(items, tuple(broken.items()))
        return mixed(loaded, self._augmentation, self._seed, epoch, step, self._share.rank)

    def _read(self, epoch: int, position: int) -> tuple[Item | None, dict[str, str]]:
        """The photo at a place in the order, or the next that can be read; and those that cannot.

        What is drawn is the place's, whichever photo it is.
        """
        order, broken = self._order(epoch), dict[str, str]()
        for offset in range(len(order)):
            index = int(order[(position + offset) % len(order)])
            image_id = self.photos.image_ids[index]
            try:
                photo = self.photos.read(index)
            except (ValueError, OSError) as error:
                broken[image_id] = str(error)
                continue
            with seeded(Purpose.PHOTO, self._seed, epoch, position):
                image, target_map = self._augmentation(photo, image_id)
            return Item(image_id, image, int(self.photos.labels[index]), target_map), broken
        return None, broken

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._last_order[0] != epoch:
            drawn = torch.Generator().manual_seed(seed_of(Purpose.ORDER, self._seed, epoch))
            order = torch.randperm(len(self.photos), generator=drawn).numpy()
            self._last_order = (epoch, order)
        return self._last_order[1]


def _check_maps(photos: PhotoSet, augmentation: Augmentation) -> None:
    maps = augmentation.target_maps
    missing = [] if maps is None else [image for image in photos.image_ids if image not in maps]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(photos)} photos have no target map, such as {missing[0]}."
        )


def _own_files(_worker: int) -> None:
    """Begin a worker; torch has set it to one thread already."""
    info = get_worker_info()
    assert info is not None and isinstance(info.dataset, _Reader), "it is called in a worker"
    info.dataset.photos.reopen()
