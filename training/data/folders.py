"""Photos in one folder a class."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import is_image_file

from wsolviz.evaluation.dataset import WORDNET_ID, Dataset, ImageFiles
from wsolviz.evaluation.metadata import Metadata


def open_folders(root: str | Path) -> Dataset:
    """Class folders as a data set; its classes are numbered in the order of their names.

    Which files are photos is torchvision's rule (`ImageFolder`), by their suffix, in the class
    folders and below them. Image ids begin with the root's own name. Folders named by WordNet ids
    are matched with ImageNet's classes.

    Raises:
        FileNotFoundError: no such folder, no class folder in it, or one without photos.
        ValueError: photos outside the class folders, or a single class.
    """
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {root}; give one that holds class folders.")
    loose = sorted(path.name for path in folder.iterdir() if is_image_file(path.name))
    if loose:
        raise ValueError(
            f"{root} holds {len(loose)} photos outside its class folders, such as {loose[0]}; a "
            "photo's class is the folder that it lies in."
        )
    found = ImageFolder(folder)
    if len(found.classes) < 2:
        raise ValueError(
            f"{root} holds one class folder, {found.classes[0]}; a classifier needs two. Give the "
            "folder whose folders are the classes."
        )
    labels = {
        Path(path).relative_to(folder.parent).as_posix(): label for path, label in found.samples
    }
    names = tuple(found.classes)
    wordnet_ids = names if all(WORDNET_ID.fullmatch(name) for name in names) else ()
    return Dataset(
        folder.parent,
        folder.name,
        Metadata(tuple(labels), labels),
        ImageFiles([folder.parent]),
        folder.parent,
        names,
        wordnet_ids,
    )
