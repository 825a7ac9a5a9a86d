"""The photos that receptive fields are measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsolviz.backends.checkpoints import sha256_of
from wsolviz.evaluation.dataset import Dataset, ImageFiles
from wsolviz.photo import SUFFIXES, Photo, read_photo
from wsolviz.ui.viewer import ASSETS

EXAMPLES = ASSETS / "examples"
EXAMPLES_NAME = "the set of examples"


@dataclass(frozen=True)
class NamedPhoto:
    """A photo to be read when its turn comes.

    Attributes:
        name: as it is told to people; in a folder, the path below it.
        source: a file, a photo that was read already, or the photos of a data set, one of which
            has this name.
    """

    name: str
    source: Path | Photo | ImageFiles

    def read(self) -> Photo:
        """The photo.

        Raises:
            ValueError: it cannot be read; the message tells its name and not the folder.
        """
        try:
            if isinstance(self.source, ImageFiles):
                return self.source.read(self.name)
            return read_photo(self.source)
        except (ValueError, OSError) as error:
            raise ValueError(str(error).replace(str(self.source), self.name)) from error

    @property
    def digest(self) -> str:
        """Changes with what the photo shows: of the file's bytes, or of the pixels."""
        try:
            if isinstance(self.source, Path):
                return f"file {sha256_of(self.source)}"
            return f"pixels {self.read().digest}"
        except (ValueError, OSError):
            return f"unreadable {self.name}"  # which the run will say of it


def choose_photos(folder: Path, number: int | None = None, seed: int = 0) -> tuple[NamedPhoto, ...]:
    """Some photos of a folder and those below it, the same ones in every run; see `shuffled`.

    Args:
        folder: where they lie.
        number: how many; None, or more than there are, for all.
        seed: another one gives another choice.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no photo, or less than one is asked for.
    """
    _check_number(number)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; give one that holds photos.")
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }
    if not found:
        raise ValueError(f"{folder} holds no photo ({', '.join(sorted(SUFFIXES))}).")
    return tuple(NamedPhoto(name, found[name]) for name in shuffled(found, seed)[:number])


def choose_of_set(dataset: Dataset, number: int, seed: int = 0) -> tuple[NamedPhoto, ...]:
    """Some photos of a data set's split, in folders or in archives; see `shuffled`.

    Raises:
        ValueError: less than one is asked for.
    """
    _check_number(number)
    names = shuffled(dataset.metadata.image_ids, seed)[:number]
    return tuple(NamedPhoto(name, dataset.images) for name in names)


def tell_fewer(asked: int, found: int, where: str) -> str:
    """A sentence where fewer photos were found than were asked for; empty where there were enough.

    >>> tell_fewer(50, 4, "crops/test")
    'Up to 50 photos are measured; crops/test holds 4, and all are taken.'
    """
    if found >= asked:
        return ""
    return f"Up to {asked} photos are measured; {where} holds {found}, and all are taken."


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Names in the order of the hashes of seed and name, the same in every run.

    The first 10 are also among the first 50, and a name that is added or taken away moves no other.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())


def _check_number(number: int | None) -> None:
    if number is not None and number < 1:
        raise ValueError(f"The number of photos is {number}; it is at least 1.")
