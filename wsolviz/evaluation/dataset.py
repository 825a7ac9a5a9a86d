"""A data set on disk: metadata, photos (in folders or zip archives), masks and class names."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from wsolviz.evaluation.metadata import Metadata, join, read_metadata
from wsolviz.photo import Photo, read_encoded, read_photo

# A damaged member; RuntimeError: one that is encrypted.
DAMAGED = (BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)
WORDNET_ID = re.compile(r"n\d{8}")


class ImageFiles:
    """Photos by image id, out of folders and zip archives; archives are read without unpacking.

    Args:
        places: folders that ids are relative to, and .zip files that hold them as names.

    Raises:
        ValueError: a file that is no archive.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = tuple(places)
        self.folders = [place for place in places if place.is_dir()]
        self._archives = [_open_archive(place) for place in places if place.is_file()]
        self._in_archives = {
            name: archive for archive in reversed(self._archives) for name in archive.namelist()
        }

    def __reduce__(self) -> tuple[type[ImageFiles], tuple[Sequence[Path]]]:
        """An archive is no value that can be sent to another process: it is opened there again."""
        return ImageFiles, (self._places,)

    def reopen(self) -> None:
        """Open the archives' files anew, as a forked process must before it reads.

        What it inherited shares its place in the file with the other processes. The lists of names
        are kept, which for a million photos is what takes long.
        """
        for archive in self._archives:
            assert archive.filename is not None, "it was opened by its path"
            archive.fp = Path(archive.filename).open("rb")  # noqa: SIM115

    def __contains__(self, image_id: str) -> bool:
        return self._path(image_id) is not None or image_id in self._in_archives

    def _path(self, image_id: str) -> Path | None:
        paths = (folder / image_id for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    def stamp(self, image_id: str) -> int:
        """By which a photo that was replaced is known: its size, or its checksum in an archive.

        The same on every machine; -1 where there is no such photo.
        """
        path = self._path(image_id)
        if path is not None:
            return path.stat().st_size
        archive = self._in_archives.get(image_id)
        return archive.getinfo(image_id).CRC if archive else -1

    def read(self, image_id: str) -> Photo:
        """Read one photo; may be called from several threads.

        Raises:
            FileNotFoundError: no place has it.
            ValueError: it cannot be read.
        """
        path = self._path(image_id)
        if path is not None:
            return read_photo(path)
        if image_id not in self._in_archives:
            raise FileNotFoundError(f"There is no photo {image_id}.")
        try:
            content = self._in_archives[image_id].read(image_id)
        except DAMAGED as error:
            raise ValueError(f"{image_id} cannot be taken out of its archive: {error}.") from error
        return read_encoded(content, image_id)


def _open_archive(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except BadZipFile as error:
        raise ValueError(f"{path} is not a .zip archive, or is damaged: {error}.") from error


@dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Attributes:
        root: its folder.
        split: the split's name.
        metadata: ground truth.
        images: the photos.
        mask_root: the folder that mask files are relative to.
        class_names: of its class labels, in their order; empty where no file tells them.
        wordnet_ids: likewise; empty where the file has none.
    """

    root: Path
    split: str
    metadata: Metadata
    images: ImageFiles = field(repr=False)
    mask_root: Path
    class_names: tuple[str, ...] = ()
    wordnet_ids: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name and the split's."""
        return f"{self.root.resolve().name}/{self.split}"

    @cached_property
    def digest(self) -> str:
        """sha256 of the ground truth, by which an interrupted run knows that it is still the same.

        Photos are not read for it.
        """
        truth = self.metadata
        boxes = {image: box.tolist() for image, box in truth.boxes.items()}
        parts = (truth.class_labels, truth.image_sizes, boxes, truth.masks)
        text = repr([truth.image_ids, *(sorted(part.items()) for part in parts)])
        return hashlib.sha256(text.encode()).hexdigest()


def open_dataset(
    root: str | Path,
    split: str,
    *,
    metadata: str | Path | None = None,
    images: str | Path | None = None,
    localized: bool = True,
) -> Dataset:
    """Open one split of a data set, and check that it is complete.

    Args:
        root: the data set's folder.
        split: name of the split, or several joined by "+", which are measured as one; a split's
            metadata lie in metadata/SPLIT, in SPLIT, or in the folder itself.
        metadata: the folder that is searched for them instead.
        images: folder or .zip that image ids are relative to; else images/, the folder itself and
            its .zip files are searched.
        localized: False reads the labels alone, see `read_metadata`.

    Raises:
        FileNotFoundError: no such folder, no metadata, masks that are not there, or not one of the
            photos.
        ValueError: metadata that are not as they should be.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no data folder {root}.")
    searched = Path(metadata) if metadata else root
    folders = [metadata_folder(searched, name, localized=localized) for name in split.split("+")]
    truth = join([read_metadata(folder, localized=localized) for folder in folders])
    places = [Path(images)] if images else [root / "images", root, *sorted(root.glob("*.zip"))]
    files = ImageFiles(places)
    if not any(image in files for image in truth.image_ids):
        raise FileNotFoundError(
            f"Not one of the {len(truth.image_ids)} photos of {root.name}/{split} is there, such "
            f"as {truth.image_ids[0]}; searched: {', '.join(map(str, places))}. Say where they are "
            "with images (on the command line --images)."
        )
    masks = root / "masks" if (root / "masks").is_dir() else root
    _check_masks(masks, truth)
    names = _read_class_names(root / "class_names.txt")
    return Dataset(root, split, truth, files, masks, *names)


def _check_masks(root: Path, truth: Metadata) -> None:
    names = [name for files in truth.masks.values() for name in (*files.instances, files.ignored)]
    missing = [name for name in names if name and not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(names)} masks are not in {root}, such as {missing[0]}."
        )


def splits_of(root: Path, *, localized: bool = True) -> list[str]:
    """Names of the splits that can be measured: those with true boxes or masks.

    Args:
        root: the data set's folder.
        localized: False for all splits.
    """
    known_by = "localization.txt" if localized else "image_ids.txt"
    return [path.parent.name for path in sorted(root.glob(f"metadata/*/{known_by}"))]


def metadata_folder(root: Path, split: str, *, localized: bool = True) -> Path:
    """Where one split's metadata lie: metadata/SPLIT, SPLIT or the folder itself.

    Args:
        root: where they are searched.
        split: the split's name.
        localized: whether an error names only those splits that can be measured.

    Raises:
        FileNotFoundError: in none of them.
    """
    candidates = (root / "metadata" / split, root / split, root)
    for folder in candidates:
        if (folder / "image_ids.txt").is_file():
            return folder
    known = splits_of(root, localized=localized)
    hint = f" Splits here: {', '.join(known)}." if known else ""
    searched = ", ".join(str(folder) for folder in candidates)
    raise FileNotFoundError(
        f"There are no metadata of {split!r} in {root}: no image_ids.txt in {searched}.{hint}"
    )


def _read_class_names(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and WordNet ids of lines INDEX,NAME or INDEX,WORDNET_ID,NAME; names may hold commas."""
    if not path.is_file():
        return (), ()
    names, ids = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines()):
        index, _, rest = line.partition(",")
        if index.strip() != str(number):
            raise ValueError(f"{path}, line {number + 1}: it should begin with {number},")
        first, _, others = rest.partition(",")
        if others and WORDNET_ID.fullmatch(first.strip()):
            ids.append(first.strip())
            rest = others
        names.append(rest.strip())
    return tuple(names), tuple(ids) if len(ids) == len(names) else ()
