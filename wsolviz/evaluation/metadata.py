"""The WSOL benchmark's metadata files: which images, which classes, which true boxes or masks.

The format is that of wsolevaluation (Choe et al., CVPR 2020, metadata/): one line an image or a
box, fields parted by commas.

    image_ids.txt      IMAGE
    class_labels.txt   IMAGE,CLASS
    image_sizes.txt    IMAGE,WIDTH,HEIGHT        pixels that the boxes are in
    localization.txt   IMAGE,X0,Y0,X1,Y1         a line a box
                       IMAGE,MASK,IGNORE         or, for sets with masks, a line an instance
    masks.txt          IMAGE,MASK,IGNORE         masks beside boxes; a set may have both

IGNORE is empty on all lines of an image but its first.
"""

from __future__ import annotations

import re
from collections import ChainMap, Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BOX_FIELDS, MASK_FIELDS = 5, 3
SHOWN = 3  # names in an error
NUMBER = re.compile(r"-?\d{1,9}")


@dataclass(frozen=True)
class MaskFiles:
    """One image's mask files, relative to the masks' folder: an instance each, and the ignored."""

    instances: tuple[str, ...]
    ignored: str = ""


@dataclass(frozen=True)
class Metadata:
    """One split's ground truth.

    Attributes:
        image_ids: in the order of image_ids.txt.
        class_labels: class index of each image.
        image_sizes: (width, height) of each image with boxes, the pixels that they are in.
        boxes: (n,4) int64 of each image with boxes, x0,y0,x1,y1, corners included.
        masks: of each image with masks.
    """

    image_ids: tuple[str, ...]
    class_labels: Mapping[str, int]
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    boxes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    masks: Mapping[str, MaskFiles] = field(default_factory=dict)

    def resized_boxes(self, image_id: str, size: tuple[int, int]) -> NDArray[np.int64]:
        """An image's boxes in the pixels of a (height, width) score map.

        Corners are cut off to whole pixels, not rounded (wsolevaluation, util.py, resize_bbox), so
        that counts equal the benchmark's.
        """
        to_size, from_size = np.array(size[::-1] * 2), np.array(self.image_sizes[image_id] * 2)
        return (self.boxes[image_id] * to_size / from_size).astype(np.int64)


def read_metadata(folder: str | Path, *, localized: bool = True) -> Metadata:
    """Read one split's metadata, and check that it is complete.

    Args:
        folder: holds the files that the head of this module lists.
        localized: whether every image must have a box or a mask; False reads the labels alone, as
            training wants them.

    Raises:
        FileNotFoundError: no such folder, or a file that must be there is not.
        ValueError: a line that is not as it should be, named by file and number; an image without
            a class, a size, or a box or mask.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no metadata folder {folder}.")
    image_ids = tuple(_once(folder / "image_ids.txt", 1))
    if not image_ids:
        raise ValueError(f"{folder / 'image_ids.txt'} names no image.")
    labels = _once(folder / "class_labels.txt", 2)
    class_labels = {image: line.number_at(1) for image, line in labels.items()}
    for image, label in class_labels.items():
        if label < 0:
            raise labels[image].error("a class is an index from 0")
    _check_complete(folder, "class label", image_ids, class_labels)
    if not localized:
        return Metadata(image_ids, class_labels)
    boxes, masks = _read_localization(folder)
    sizes = _read_sizes(folder / "image_sizes.txt") if boxes else {}
    _check_inside(folder / "localization.txt", boxes, sizes)
    _check_complete(folder, "box or mask", image_ids, boxes.keys() | masks.keys())
    if boxes:
        _check_complete(folder, "size", boxes, sizes)
    return Metadata(image_ids, class_labels, sizes, boxes, masks)


def join(parts: Sequence[Metadata]) -> Metadata:
    """Several splits as one.

    Raises:
        ValueError: an image that is in two of them.
    """
    image_ids = tuple(image for part in parts for image in part.image_ids)
    if len(set(image_ids)) < len(image_ids):
        twice = next(image for image, count in Counter(image_ids).items() if count > 1)
        raise ValueError(f"{twice} is in two of the splits, or twice in one.")
    return Metadata(
        image_ids,
        dict(ChainMap(*(dict(part.class_labels) for part in parts))),
        dict(ChainMap(*(dict(part.image_sizes) for part in parts))),
        dict(ChainMap(*(dict(part.boxes) for part in parts))),
        dict(ChainMap(*(dict(part.masks) for part in parts))),
    )


@dataclass(frozen=True)
class _Line:
    """One line of a file, and how to complain about it."""

    path: Path
    number: int
    fields: list[str]

    def error(self, why: str) -> ValueError:
        return ValueError(f"{self.path}, line {self.number} ({','.join(self.fields)}): {why}.")

    def number_at(self, index: int) -> int:
        field = self.fields[index]
        if not NUMBER.fullmatch(field):
            raise self.error(f"{field!r} is not a whole number")
        return int(field)


def _lines(path: Path, *counts: int) -> Iterator[_Line]:
    """The lines of a file, each with one of the allowed numbers of fields."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path.name} in {path.parent}; a split's metadata are image_ids.txt, "
            "class_labels.txt, image_sizes.txt and localization.txt in the WSOL benchmark's format."
        )
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}.") from error
    for number, text in enumerate(content.splitlines(), start=1):
        if text.strip():
            line = _Line(path, number, [field.strip() for field in text.split(",")])
            if len(line.fields) not in counts:
                allowed = " or ".join(map(str, counts))
                raise line.error(f"it has {len(line.fields)} fields instead of {allowed}")
            yield line


def _once(path: Path, count: int) -> dict[str, _Line]:
    """The lines of a file that has one for each image."""
    lines: dict[str, _Line] = {}
    for line in _lines(path, count):
        before = lines.setdefault(line.fields[0], line)
        if before is not line:
            raise line.error(f"the image is on line {before.number} already")
    return lines


def _read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    sizes = {}
    for image, line in _once(path, 3).items():
        width, height = line.number_at(1), line.number_at(2)
        if width < 1 or height < 1:
            raise line.error("a size is WIDTH,HEIGHT, at least 1 each")
        sizes[image] = (width, height)
    return sizes


def _read_localization(
    folder: Path,
) -> tuple[dict[str, NDArray[np.int64]], dict[str, MaskFiles]]:
    """Boxes and masks, of localization.txt and of masks.txt where there is one."""
    boxes: dict[str, list[list[int]]] = {}
    masks: dict[str, MaskFiles] = {}
    for line in _lines(folder / "localization.txt", BOX_FIELDS, MASK_FIELDS):
        if len(line.fields) == MASK_FIELDS:
            _add_mask(masks, line)
            continue
        box = [line.number_at(i) for i in range(1, BOX_FIELDS)]
        if box[2] < box[0] or box[3] < box[1]:
            raise line.error("a box is X0,Y0,X1,Y1 with X0 <= X1 and Y0 <= Y1")
        boxes.setdefault(line.fields[0], []).append(box)
    if (folder / "masks.txt").is_file():
        for line in _lines(folder / "masks.txt", MASK_FIELDS):
            _add_mask(masks, line)
    return {image: np.array(rows, np.int64) for image, rows in boxes.items()}, masks


def _check_inside(
    path: Path,
    boxes: Mapping[str, NDArray[np.int64]],
    sizes: Mapping[str, tuple[int, int]],
) -> None:
    """A box that lies outside its image tells of a wrong size; it may end at the size itself."""
    for image, rows in boxes.items():
        width, height = sizes.get(image, (np.inf, np.inf))
        begins, ends = rows[:, :2], rows[:, 2:]
        outside = (begins < 0).any() or (begins >= (width, height)).any()
        if outside or (ends > (width, height)).any():
            raise ValueError(
                f"{path}: a box of {image} ({rows.tolist()}) lies outside its {width}×{height} "
                "pixels of image_sizes.txt."
            )


def _add_mask(masks: dict[str, MaskFiles], line: _Line) -> None:
    """Add one instance; the file of ignored regions stands on an image's first line."""
    image, mask, ignored = line.fields
    if not mask:
        raise line.error("it names no mask")
    before = masks.get(image, MaskFiles(()))
    if before.instances and ignored:
        raise line.error("the ignored regions stand on the first line of an image alone")
    masks[image] = MaskFiles((*before.instances, mask), before.ignored or ignored)


def _check_complete(
    folder: Path, what: str, wanted: Collection[str], found: Container[str]
) -> None:
    missing = [image for image in wanted if image not in found]
    if missing:
        more = ", …" if len(missing) > SHOWN else ""
        raise ValueError(
            f"{len(missing)} of {len(wanted)} images in {folder} have no {what}: "
            f"{', '.join(missing[:SHOWN])}{more}."
        )
