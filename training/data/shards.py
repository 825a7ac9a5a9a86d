"""Loading batches of photos that come in WebDataset shards, .tar files that are read in one go.

Every process, and within it every worker, has shards of its own; which ones, and in which order
their photos come, follows from the seed and the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import PurePosixPath
from typing import Any

import torch
import webdataset
from torch.utils.data import DataLoader, IterableDataset

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
from training.data.sources import ShardSet
from training.methods import Batch
from wsolviz.photo import SUFFIXES, read_encoded

Sample = dict[str, Any]
"""What webdataset makes of the files of one name: bytes by suffix, and where they are from."""


class ShardLoader(Loader):
    """A loader of photos in shards.

    A process whose shards hold fewer photos than its part of an epoch begins with them again, in
    another order; one that has more leaves some out. The shards are dealt out anew in each epoch.
    """

    def __init__(
        self,
        shards: ShardSet,
        augmentation: Augmentation,
        seed: int,
        batch_size: int,
        share: Share,
        workers: int,
        pin_memory: bool,
    ) -> None:
        number = sum(len(source.urls) for source in shards.sources)
        if number < share.processes:
            raise ValueError(
                f"data.train has {number} shards for {share.processes} processes, which each need "
                "at least one; write smaller shards."
            )
        if augmentation.target_maps is not None:
            raise ValueError(
                "This method has target maps, which are made for photos that are read by name; "
                "take them from a folder or a zip in place of shards."
            )
        self.steps = shards.num_images // batch_size
        self._shards, self._augmentation, self._seed = shards, augmentation, seed
        self._part, self._share = batch_size // share.processes, share
        self._workers, self._pin_memory = min(workers, number // share.processes), pin_memory

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Loaded]:
        """See `Loader.epoch`; what lies before `first_step` is read, too, since a .tar is a stream.

        How many photos of it could be read decides where the next batch begins.
        """
        assert 0 <= first_step <= self.steps, (first_step, self.steps)
        batches = islice(self._batches(epoch), self.steps)
        for step, loaded in islice(enumerate(batches), first_step, None):
            ready = mixed(loaded, self._augmentation, self._seed, epoch, step, self._share.rank)
            yield ready.pin_memory() if self._pin_memory else ready

    def _batches(self, epoch: int) -> Iterator[Loaded]:
        """Whole batches without end: the workers' pieces, joined and cut anew."""
        rest: list[Loaded] = []
        for turn in count():
            seen = 0
            broken: list[tuple[str, str]] = []
            for piece in self._pieces(epoch, turn):
                seen += len(piece.image_ids)
                broken += piece.broken
                rest.append(piece)
                while sum(len(one.image_ids) for one in rest) >= self._part:
                    whole = _join(rest)
                    yield _cut(whole, 0, self._part)
                    rest = [_cut(whole, self._part, None)]
            if not seen:
                raise nothing_readable(tuple(broken), self._shards.num_images)

    def _pieces(self, epoch: int, turn: int) -> Iterator[Loaded]:
        """All photos of this process's shards once, in pieces of up to a batch."""
        stream = ShardStream(
            self._shards, self._augmentation, (self._seed, epoch, turn), self._part, self._share
        )
        return iter(
            DataLoader(
                stream,
                batch_size=None,
                num_workers=self._workers,
                collate_fn=as_it_is,
                generator=torch.Generator(),
            )
        )


class ShardStream(IterableDataset[Loaded]):
    """The photos of one process's, or one worker's, shards, in pieces of up to `part` photos.

    Args:
        shards: all shards.
        augmentation: what is done to the photos.
        drawn_for: seed, epoch, and how often the epoch has begun with the shards.
        part: photos a piece.
        share: which shards are this process's.
    """

    def __init__(
        self,
        shards: ShardSet,
        augmentation: Augmentation,
        drawn_for: tuple[int, int, int],
        part: int,
        share: Share,
    ) -> None:
        self._shards, self._augmentation, self._drawn_for = shards, augmentation, drawn_for
        self._part, self._share = part, share
        self._classes = {url: source.classes for source in shards.sources for url in source.urls}

    def __iter__(self) -> Iterator[Loaded]:
        items: list[Item] = []
        broken: list[tuple[str, str]] = []
        for sample in self._pipeline(broken.append):
            image_id = _id_of(sample)
            try:
                items.append(self._item(sample, image_id))
            except (ValueError, OSError) as error:
                broken.append((image_id, str(error)))
            if len(items) == self._part:
                yield stack(items, tuple(broken))
                items.clear()
                broken.clear()
        if items or broken:
            yield stack(items, tuple(broken)) if items else _only(tuple(broken))

    def _pipeline(self, report: Callable[[tuple[str, str]], None]) -> Iterator[Sample]:
        """Undecoded samples, shuffled; shards that cannot be read are reported and passed over."""
        seed = seed_of(Purpose.SHARDS, *self._drawn_for[:2])
        turn_seed = seed_of(Purpose.SHARDS, *self._drawn_for)

        def failed(error: Exception) -> bool:
            report(self._failure(error))
            return True

        pipeline = webdataset.DataPipeline(
            # Dealt out by the epoch alone, so that a second turn is over the same shards.
            webdataset.SimpleShardList(list(self._classes), seed=seed),
            partial(_every, start=self._share.rank, step=self._share.processes),
            webdataset.split_by_worker,
            webdataset.tarfile_to_samples(handler=failed),
            webdataset.detshuffle(self._shards.shuffle, self._shards.shuffle, seed=turn_seed),
        )
        return iter(pipeline)

    def _failure(self, error: Exception) -> tuple[str, str]:
        """The name of a shard that webdataset cannot read, and why; it puts the URL beside that."""
        texts = [str(part) for part in error.args if isinstance(part, str | int)]
        shard = next((text for text in texts if text in self._classes), "a shard")
        reason = ", ".join(text for text in texts if text != shard)
        return PurePosixPath(shard).name, f"{type(error).__name__}: {reason}"

    def _item(self, sample: Sample, image_id: str) -> Item:
        target = self._target(sample)
        suffix = next((name for name in sample if f".{name}" in SUFFIXES), None)
        if suffix is None:
            raise ValueError("there is no photo beside its label, such as NAME.jpg")
        photo = read_encoded(sample[suffix], image_id).image
        letters = int.from_bytes(image_id.encode())
        with seeded(Purpose.PHOTO, *self._drawn_for, letters):
            image, _ = self._augmentation(photo, image_id)
        return Item(image_id, image, target)

    def _target(self, sample: Sample) -> int:
        """The network's class of a sample."""
        text = sample.get("cls", b"").decode("ascii", "replace").strip()
        classes = self._classes[sample["__url__"]]
        if not text.isdecimal() or int(text) >= len(classes):
            raise ValueError(
                f"its label, NAME.cls, is {text!r}; it is an index from 0 to {len(classes) - 1}"
            )
        return classes[int(text)]


def _id_of(sample: Sample) -> str:
    return f"{PurePosixPath(sample['__url__']).name}/{sample['__key__']}"


def _every(shards: Iterator[Sample], start: int, step: int) -> Iterator[Sample]:
    return islice(shards, start, None, step)


def _only(broken: Broken) -> Loaded:
    """A piece without a photo."""
    return Loaded(Batch(torch.empty(0), torch.empty(0, dtype=torch.int64)), (), broken)


def _join(pieces: list[Loaded]) -> Loaded:
    """Pieces as one."""
    filled = [piece.batch for piece in pieces if piece.image_ids]
    return Loaded(
        Batch(
            torch.cat([batch.images for batch in filled]),
            torch.cat([batch.target for batch in filled]),
        ),
        tuple(image for piece in pieces for image in piece.image_ids),
        tuple(one for piece in pieces for one in piece.broken),
    )


def _cut(whole: Loaded, start: int, stop: int | None) -> Loaded:
    """Some photos of a piece; what is broken is told with the first ones."""
    kept = slice(start, stop)
    batch = Batch(whole.batch.images[kept], whole.batch.target[kept])
    return Loaded(batch, whole.image_ids[kept], whole.broken if start == 0 else ())
