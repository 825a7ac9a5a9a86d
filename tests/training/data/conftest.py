"""A small data set of made photos: labels alone to train on, boxes on what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import DataConfig, MetadataSource
from training.data import Augmentation, make_loader, open_sources
from wsolviz.preprocess import Preprocessing

CLASS_NAMES = ("ash", "birch", "cedar")
NUMBER = 13
SIDE = 32
PREPROCESSING = Preprocessing(size=(SIDE, SIDE))


def picture(seed: int) -> Image.Image:
    """Smooth noise, each time of another size and content."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    return coarse.resize((int(rng.integers(40, 90)), int(rng.integers(40, 90))))


def write_split(root: Path, split: str, image_ids: list[str], boxes: bool = False) -> None:
    folder = root / "metadata" / split
    folder.mkdir(parents=True)
    labels = {image: number % len(CLASS_NAMES) for number, image in enumerate(image_ids)}
    (folder / "image_ids.txt").write_text("\n".join(image_ids))
    (folder / "class_labels.txt").write_text("\n".join(f"{i},{k}" for i, k in labels.items()))
    if boxes:
        (folder / "image_sizes.txt").write_text("\n".join(f"{i},40,40" for i in image_ids))
        (folder / "localization.txt").write_text("\n".join(f"{i},1,1,30,30" for i in image_ids))


def write_photos(folder: Path, image_ids: list[str]) -> None:
    for image_id in image_ids:
        path = folder / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(sum(image_id.encode())).save(path)


TRAIN = [f"train/{number:02d}.png" for number in range(NUMBER)]
VAL = ["val/a.png", "val/b.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set's folder; tests may change it."""
    root = tmp_path / "trees"
    write_photos(root / "images", TRAIN + VAL)
    write_split(root, "train", TRAIN)
    write_split(root, "val", VAL, boxes=True)
    lines = [f"{number},{name}" for number, name in enumerate(CLASS_NAMES)]
    (root / "class_names.txt").write_text("\n".join(lines))
    return root


def photos_of(root: Path, **source):
    """The training photos, with the data's own classes."""
    data = DataConfig(train=(MetadataSource(root=str(root), **source),))
    return open_sources(data).with_own_classes()


def loader_of(photos, config, *, target_maps=None, map_size=None, **options):
    augmentation = Augmentation(config, PREPROCESSING, photos.num_classes, target_maps, map_size)
    return make_loader(photos, augmentation, **{"batch_size": 4, "seed": 5} | options)
