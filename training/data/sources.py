"""Where photos to train on come from: opened, checked, and their labels made the network's classes.

Every source becomes a `Dataset` of labels alone, so that photos are found and read, and classes
matched, as they are when a network is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdataset.shardlists import expand_urls

from training.config import DataConfig, MetadataSource, ShardSource, TrainingSource
from training.data.folders import open_folders
from training.data.refusals import difference, refuse_measured, refuse_truth, refuse_twice
from wsolviz.evaluation.classes import match_classes
from wsolviz.evaluation.dataset import Dataset, ImageFiles, open_dataset
from wsolviz.evaluation.metadata import Metadata

ADVICE = (
    "Train a new classifier on the data's own classes, or take a network or photos whose classes "
    "have the same names."
)
MEASURED_ADVICE = "Take for data.validation photos of the classes that are trained on."


@dataclass(frozen=True)
class PhotoSet:
    """Photos that are read by their index in [0,N).

    Attributes:
        datasets: where they lie; the photos of the first come first.
        labels: (N,) int64, the network's class of each.
        num_classes: K.
        class_names: K names, or none.
    """

    datasets: tuple[Dataset, ...]
    labels: NDArray[np.int64]
    num_classes: int
    class_names: tuple[str, ...]

    @cached_property
    def _photos(self) -> list[tuple[Dataset, str]]:
        return [(data, image) for data in self.datasets for image in data.metadata.image_ids]

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """A text for each photo that names it; with several data sets, the folder's name first."""
        several = len(self.datasets) > 1
        return tuple(
            f"{data.root.resolve().name}/{image}" if several else image
            for data, image in self._photos
        )

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """One photo, upright RGB.

        Raises:
            ValueError: it cannot be read.
            OSError: likewise, or it is not there.
        """
        data, image = self._photos[index]
        return data.images.read(image).image

    def reopen(self) -> None:
        """See `ImageFiles.reopen`."""
        for data in self.datasets:
            data.images.reopen()


@dataclass(frozen=True)
class Shards:
    """Shards of one source, and the network's class for each label in them."""

    urls: tuple[str, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class ShardSet:
    """Photos that come in a stream.

    Attributes:
        sources: where from.
        num_images: in all shards together.
        shuffle: photos from which the next one is drawn.
        num_classes: K.
        class_names: K names, or none.
    """

    sources: tuple[Shards, ...]
    num_images: int
    shuffle: int
    num_classes: int
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return self.num_images


TrainingSet = PhotoSet | ShardSet


@dataclass(frozen=True)
class Sources:
    """What `DataConfig` names, opened; labels are still each source's own.

    Attributes:
        configs: the sources to train on, all of them shards or none.
        datasets: likewise.
        validation: what is measured on.
    """

    configs: tuple[TrainingSource, ...]
    datasets: tuple[Dataset, ...]
    validation: Dataset | None

    def with_own_classes(self) -> TrainingSet:
        """To train a new classifier: the network's classes are the data's.

        Raises:
            ValueError: sources whose classes differ.
        """
        first = self.datasets[0]
        for other in self.datasets[1:]:
            if other.class_names != first.class_names:
                raise ValueError(difference(first, other))
        labels = [max(data.metadata.class_labels.values(), default=-1) for data in self.datasets]
        return self.for_network(len(first.class_names) or max(labels) + 1, first.class_names)

    def for_network(self, num_classes: int, class_names: Sequence[str]) -> TrainingSet:
        """To train on with a network that knows its classes; see `match_classes`.

        Args:
            num_classes: the network's K.
            class_names: its K names, or none.

        Raises:
            ValueError: a source, or what is measured on, with classes that the network does not
                have.
        """
        names = tuple(class_names)
        if self.validation is not None:
            match_classes(self.validation, num_classes, names, MEASURED_ADVICE)
        classes = [match_classes(data, num_classes, names, ADVICE) for data in self.datasets]
        streams = [config for config in self.configs if isinstance(config, ShardSource)]
        if streams:
            shards = [
                Shards(shard_urls(config.shards), tuple(of_labels))
                for config, of_labels in zip(streams, classes, strict=True)
            ]
            number = sum(config.num_images for config in streams)
            shuffle = max(config.shuffle for config in streams)
            return ShardSet(tuple(shards), number, shuffle, num_classes, names)
        labels = [
            of_labels[data.metadata.class_labels[image]]
            for data, of_labels in zip(self.datasets, classes, strict=True)
            for image in data.metadata.image_ids
        ]
        return PhotoSet(self.datasets, np.array(labels, np.int64), num_classes, names)


def open_sources(data: DataConfig) -> Sources:
    """Open what is trained and measured on, and refuse what must not be trained on.

    Raises:
        FileNotFoundError: a folder, its metadata or all of its photos are not there.
        ValueError: metadata or class folders that are not as they should be; a split with boxes or
            masks to train on; a photo that is named twice, or is measured on as well; photos and
            shards together.
    """
    streams = [isinstance(source, ShardSource) for source in data.train]
    if any(streams) and not all(streams):
        raise ValueError(
            "data.train joins webdataset shards with photos that are read by name; take one kind, "
            "such as all photos in shards."
        )
    datasets = tuple(_open(source) for source in data.train)
    refuse_twice(datasets)
    measured = data.validation
    validation = None
    if measured is not None:
        validation = open_dataset(
            measured.root, measured.split, metadata=measured.metadata, images=measured.images
        )
        refuse_measured(datasets, validation)
    return Sources(data.train, datasets, validation)


def _open(source: TrainingSource) -> Dataset:
    if isinstance(source, MetadataSource):
        opened = open_dataset(
            source.root,
            source.split,
            metadata=source.metadata,
            images=source.images,
            localized=False,
        )
        refuse_truth(source)
        return opened
    if isinstance(source, ShardSource):
        pattern = Path(source.shards)
        nothing = Metadata((), {})
        return Dataset(
            pattern.parent, pattern.name, nothing, ImageFiles([]), Path(), source.class_names
        )
    return open_folders(source.root)


def shard_urls(pattern: str) -> tuple[str, ...]:
    """Paths or URLs of a pattern with braces for numbers or words.

    Raises:
        FileNotFoundError: a path at which there is no file.
    """
    urls = tuple(expand_urls(pattern))
    paths = [url for url in urls if ":" not in url]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(urls)} shards of {pattern} are not there, such as "
            f"{missing[0]}."
        )
    return urls
