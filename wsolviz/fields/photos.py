"""The photos that receptive fields are measured on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from wsolviz.backends.checkpoints import sha256_of
from wsolviz.photo import SUFFIXES, Photo
from wsolviz.ui.viewer import ASSETS

EXAMPLES = ASSETS / "examples"


@dataclass(frozen=True)
class NamedPhoto:
    """A photo to be read when its turn comes.

    Attributes:
        name: as it is told to people; in a folder, the path below it.
        source: a file, or a photo that was read already.
    """

    name: str
    source: Path | Photo

    @property
    def digest(self) -> str:
        """Changes with what the photo shows: of the file's bytes, or of the pixels."""
        if isinstance(self.source, Photo):
            return f"pixels {self.source.digest}"
        try:
            return f"file {sha256_of(self.source)}"
        except OSError:
            return f"unreadable {self.name}"  # which the run will say of it


def choose_photos(folder: Path, number: int | None = None, seed: int = 0) -> tuple[NamedPhoto, ...]:
    """Some photos of a folder and those below it, the same ones in every run.

    They are ordered by the hash of seed and name, so that the first 10 are also among the first 50,
    and a photo that is added or taken away moves no other.

    Args:
        folder: where they lie.
        number: how many; None, or more than there are, for all.
        seed: another one gives another choice.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no photo, or less than one is asked for.
    """
    if number is not None and number < 1:
        raise ValueError(f"The number of photos is {number}; it is at least 1.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; give one that holds photos.")
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }
    if not found:
        raise ValueError(f"{folder} holds no photo ({', '.join(sorted(SUFFIXES))}).")
    ordered = sorted(found, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return tuple(NamedPhoto(name, found[name]) for name in ordered[:number])
