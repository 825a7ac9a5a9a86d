"""What must not be trained on, or not together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.config import MetadataSource
from wsolviz.evaluation.dataset import Dataset, metadata_folder

TRUTH = ("localization.txt", "masks.txt")
# The benchmark's own metadata hold boxes for CUB's training photos, too, beside the labels that
# alone are read; such splits are known by their folder's name.
FOR_TRAINING = ("train", "train-weaksup")


def refuse_truth(source: MetadataSource) -> None:
    """Refuse a split with true boxes or masks, which are for evaluation only.

    A split for training, `FOR_TRAINING`, may hold them: they are not read.

    Raises:
        ValueError: it does; the message names the split.
        FileNotFoundError: there are no metadata.
    """
    searched = Path(source.metadata or source.root)
    for split in source.split.split("+"):
        folder = metadata_folder(searched, split)
        if split in FOR_TRAINING and folder.absolute().name == split:
            continue
        found = [name for name in TRUTH if (folder / name).is_file()]
        if found:
            raise ValueError(
                f"The split {split!r} of {source.root} has true boxes or masks "
                f"({folder / found[0]}), which are for evaluation only: what is trained on has "
                "labels alone. Take another split for data.train; or, if its photos are meant for "
                "training, copy image_ids.txt and class_labels.txt into a folder of their own and "
                "give that as the source's metadata. Only in folders named "
                f"{' or '.join(FOR_TRAINING)} are boxes passed over."
            )


def _names(data: Dataset) -> list[tuple[Path, str]]:
    root = data.root.resolve()
    return [(root, image) for image in data.metadata.image_ids]


def refuse_twice(datasets: Sequence[Dataset]) -> None:
    """Refuse a photo that two sources name, by its id and the folder's name.

    Raises:
        ValueError: there is one.
    """
    seen: set[tuple[str, str]] = set()
    for data in datasets:
        names = {(root.name, image) for root, image in _names(data)}
        twice = sorted(names & seen)
        if twice:
            raise ValueError(
                f"{len(twice)} photos of {data.name}, such as {twice[0][1]}, are in another source "
                "of data.train, too; name each photo once, or rename one of two folders that have "
                "the same name."
            )
        seen |= names


def refuse_measured(datasets: Sequence[Dataset], validation: Dataset) -> None:
    """Refuse a photo to train on that is measured on, by its id and the data's folder.

    Raises:
        ValueError: there is one.
    """
    measured = set(_names(validation))
    for data in datasets:
        both = [image for root, image in _names(data) if (root, image) in measured]
        if both:
            raise ValueError(
                f"{len(both)} photos of {data.name}, such as {both[0]}, are in data.validation "
                f"({validation.name}), too; a network is measured on photos that it never saw. "
                "Take them out of one of the two."
            )


def difference(first: Dataset, other: Dataset) -> str:
    """Sentences on where the class names of two sources differ."""
    pairs = zip(first.class_names, other.class_names, strict=False)
    number = next((i for i, (one, two) in enumerate(pairs) if one != two), None)
    what = (
        f"{len(first.class_names)} class names against {len(other.class_names)}"
        if number is None
        else f"class {number} is {first.class_names[number]!r} there, "
        f"and {other.class_names[number]!r} here"
    )
    return (
        f"The classes of {other.name} are not those of {first.name}: {what}. Sources that train a "
        "new classifier together name their classes alike, in the same order."
    )
