"""A small data set of real photos, and what a network makes of it by the plainest loop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import wsolviz
from wsolviz.cli import main
from wsolviz.evaluation.dataset import open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource

ROOT = Path(wsolviz.__file__).parents[1]
BACKBONE = "efficientnet_lite0"
SIZE = 224
BATCH = 4


@dataclass(frozen=True)
class Subject:
    """A photo of the examples, or two side by side; boxes are shares of width and height."""

    file: str
    label: int
    boxes: tuple[tuple[float, float, float, float], ...]
    beside: str = ""

    def photo(self) -> Image.Image:
        whole = self._read(self.file)
        if not self.beside:
            return whole
        pair = Image.new("RGB", (2 * whole.width, whole.height))
        pair.paste(whole)
        pair.paste(self._read(self.beside).resize(whole.size), (whole.width, 0))
        return pair

    @staticmethod
    def _read(file: str) -> Image.Image:
        return Image.open(ROOT / "assets" / "examples" / file).convert("RGB")


CAT = Subject("chelsea.png", 285, ((0, 0, 0.84, 0.99),))
CUP = Subject("coffee.png", 967, ((0.13, 0.04, 0.8, 0.96), (0.29, 0.04, 0.68, 0.77)))
MUG = Subject("coffee.png", 504, CUP.boxes)  # not the network's best class, but among its best 5
FLOWER = Subject("flower.jpg", 985, ((0.265, 0.2, 0.695, 0.84), (0.45, 0.86, 0.73, 1)))
ROCKET = Subject("rocket.jpg", 657, ((0.47, 0.3, 0.53, 0.98),))
# Maps with several contours, of which the largest is not the best.
TWO_CUPS = Subject("coffee.png", 967, ((0.645, 0.04, 0.84, 0.77),), "coffee.png")
CUP_AND_CAT = Subject("coffee.png", 285, ((0.5, 0, 0.92, 0.99),), "chelsea.png")

WHOLE = (0, 0, 1, 1)
# split, name, subject, part of the photo (shares of its sides), mirrored, masks
SHOTS = (
    ("test", "cat_whole.png", CAT, WHOLE, False, 1),
    ("test", "cup_whole.jpg", CUP, WHOLE, False, 2),
    ("test", "cup_right.jpg", MUG, (0.25, 0, 1, 1), True, 0),
    ("test", "flower_whole.jpg", FLOWER, WHOLE, False, 2),
    ("test", "rocket_whole.jpg", ROCKET, WHOLE, False, 0),
    ("test", "cat_eyes.png", CAT, (0.2, 0.1, 0.9, 0.9), True, 0),
    ("test", "flower_low.jpg", FLOWER, (0, 0.35, 0.8, 1), False, 1),
    ("test", "rocket_near.png", ROCKET, (0.35, 0.25, 0.65, 1), True, 1),
    ("test", "flower_right.png", FLOWER, (0.2, 0.05, 0.9, 0.95), True, 0),
    ("test", "two_cups.png", TWO_CUPS, WHOLE, False, 0),
    ("test", "cup_and_cat.png", CUP_AND_CAT, WHOLE, False, 1),
    ("val", "cat_mirrored.png", CAT, WHOLE, True, 1),
    ("val", "cup_near.jpg", CUP, (0.1, 0, 0.85, 1), False, 0),
    ("val", "flower_left.jpg", FLOWER, (0.1, 0.1, 0.8, 0.9), False, 1),
    ("val", "rocket_left.jpg", ROCKET, (0.2, 0.1, 0.7, 1), False, 0),
    ("val", "cup_mirrored.jpg", CUP, WHOLE, True, 0),
)
ONLY_MASKS = "test/rocket_near.png"


def write_split(root: Path, split: str) -> None:
    """Photos of one split, their metadata and masks; boxes are in pixels of larger originals."""
    lines: dict[str, list[str]] = {
        f"{name}.txt": []
        for name in ("image_ids", "class_labels", "image_sizes", "localization", "masks")
    }
    (root / "images" / split).mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    for of_split, name, subject, part, mirrored, num_masks in SHOTS:
        if of_split != split:
            continue
        image_id = f"{split}/{name}"
        photo = subject.photo()
        edges = np.multiply(part, [*photo.size, *photo.size]).round().astype(int).tolist()
        photo = photo.crop(edges)
        if mirrored:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        width, height = photo.size
        small = Image.fromarray(
            np.asarray(photo.resize((240 * photo.width // photo.height * 2 // 3, 160)))
        )  # without a colour profile
        small.save(root / "images" / image_id)
        boxes = [placed(box, part, mirrored, photo.size) for box in subject.boxes]
        boxes = [box for box in boxes if box[0] < box[2] and box[1] < box[3]]
        lines["image_ids.txt"].append(image_id)
        lines["class_labels.txt"].append(f"{image_id},{subject.label}")
        lines["image_sizes.txt"].append(f"{image_id},{width},{height}")
        if image_id != ONLY_MASKS:
            lines["localization.txt"] += [f"{image_id},{x},{y},{z},{w}" for x, y, z, w in boxes]
        for number, box in enumerate(boxes[:num_masks]):
            mask = f"{split}_{Path(name).stem}_{number}.png"
            ignored = "" if number else mask.replace(".png", "_ignored.png")
            lines["masks.txt"].append(f"{image_id},{mask},{ignored}")
            write_mask(root / "masks" / mask, box, photo.size)
            if ignored:
                write_mask(root / "masks" / ignored, box, photo.size, thickness=12)
    folder = root / "metadata" / split
    folder.mkdir(parents=True)
    for file, texts in lines.items():
        (folder / file).write_text("\n".join(texts) + "\n")


def placed(box, part, mirrored: bool, size: tuple[int, int]) -> list[int]:
    """A box of the whole photo in the pixels of a part of it."""
    x0, x1 = ((box[i] - part[0]) / (part[2] - part[0]) for i in (0, 2))
    y0, y1 = ((box[i] - part[1]) / (part[3] - part[1]) for i in (1, 3))
    if mirrored:
        x0, x1 = 1 - x1, 1 - x0
    width, height = size
    corners = np.clip([x0, y0, x1, y1], 0, 1) * [width, height, width, height]
    return np.minimum(corners.astype(int), [width - 1, height - 1] * 2).tolist()


def write_mask(path: Path, box: list[int], size: tuple[int, int], thickness: int = -1) -> None:
    """An ellipse within a box, filled or as a ring."""
    mask = np.zeros(size[::-1], np.uint8)
    x0, y0, x1, y1 = box
    cv2.ellipse(
        mask, ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2), 0, 0, 360, 255,
        thickness,
    )  # fmt: skip
    Image.fromarray(mask).save(path)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The data set's folder, to be read only: 11 test and 5 val photos with ImageNet's labels."""
    root = tmp_path_factory.mktemp("data") / "shots"
    for split in ("test", "val"):
        write_split(root, split)
    return root


@pytest.fixture(scope="session")
def backbone():
    return wsolviz.load_backbone(BACKBONE)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Seen:
    """One image as the plain loop saw it."""

    image_id: str
    label: int
    logits: NDArray[np.float32]
    scoremaps: dict[str, NDArray[np.float64]]
    boxes: list[list[int]]
    size: tuple[int, int]

    def ranks(self, count: int) -> bool:
        """Whether fewer than `count` classes have a higher logit than the label's."""
        return int((self.logits > self.logits[self.label]).sum()) < count


def table_of(folder: Path, name: str) -> list[list[str]]:
    """The fields of a metadata file's lines."""
    return [line.split(",") for line in (folder / f"{name}.txt").read_text().splitlines()]


def look(root: Path, split: str, backbone, methods, class_from="label") -> list[Seen]:
    """Every image of a split, by wsolviz.METHODS and scoremap alone."""
    folder = root / "metadata" / split
    labels = {image: int(label) for image, label in table_of(folder, "class_labels")}
    sizes = {image: (int(w), int(h)) for image, w, h in table_of(folder, "image_sizes")}
    boxes = {image: [] for image in labels}
    for image, *box in table_of(folder, "localization"):
        boxes[image].append([int(corner) for corner in box])
    image_ids = [image for (image,) in table_of(folder, "image_ids")]
    seen = []
    with threads(1):
        for start in range(0, len(image_ids), BATCH):
            batch = image_ids[start : start + BATCH]
            photos = [Image.open(root / "images" / image).convert("RGB") for image in batch]
            features = backbone.extract(torch.stack([backbone.preprocess(p) for p in photos]))
            classes = [labels[image] for image in batch]
            if class_from == "prediction":
                classes = features.logits.argmax(dim=1).tolist()
            maps = {name: wsolviz.METHODS[name](features, classes) for name in methods}
            for i, image in enumerate(batch):
                scoremaps = {name: wsolviz.scoremap(maps[name][i], SIZE) for name in methods}
                logits = features.logits[i].numpy()
                seen.append(
                    Seen(image, labels[image], logits, scoremaps, boxes[image], sizes[image])
                )
    return seen


METHODS = ("cam", "feature_norm")


@pytest.fixture(scope="session")
def seen(data, backbone) -> list[Seen]:
    """The test split by the plain loop."""
    return look(data, "test", backbone, METHODS)


def network_run(data: Path, folder: Path, backbone, split="test", methods=METHODS, **options):
    """A run of a network over a split."""
    batch_size = options.pop("batch_size", BATCH)
    source = NetworkSource(open_dataset(data, split), backbone, methods, **options)
    return Run(source, folder, batch_size=batch_size)


@dataclass(frozen=True)
class Measured:
    """A run, and what it gave."""

    run: Run
    results: dict

    @property
    def table(self) -> bytes:
        return (self.run.folder / "images.csv").read_bytes()


@pytest.fixture(scope="session")
def measured(data, backbone, tmp_path_factory) -> Measured:
    """An unbroken run over the test split."""
    run = network_run(data, tmp_path_factory.mktemp("unbroken"), backbone)
    return Measured(run, evaluate_run(run))


def results_in(folder: Path) -> dict:
    """results.json."""
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def kept(folder: Path) -> dict:
    """results.json without the time."""
    results = results_in(folder)
    assert results.pop("created")
    return results


# What processes of their own measure; large, so that there is time to stop them in the middle.
COMMAND = (
    *("--backbone", BACKBONE, "--method", "cam", "pc1"),
    *("--batch-size", "2", "--image-size", "352"),
)


def command_of(data: Path, out: Path, *more) -> list[str]:
    """The command line behind `python -m`, the same for one process and several."""
    return ["wsolviz", "evaluate", "--data", str(data), "--out", str(out), *COMMAND, *more]


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run `evaluate` in this process; gives its exit status and what it said."""

    def run_here(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsolviz", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().err

    return run_here


@pytest.fixture(scope="session")
def unbroken(data, tmp_path_factory) -> Path:
    """The folder of results of `command_of`, by one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", command_of(data, out))
        main()
    assert not ended.value.code
    return out / BACKBONE / "test"


def same_results(folder: Path, other: Path) -> bool:
    """Byte-equal tables, equal results but for the time."""
    assert (folder / "images.csv").read_bytes() == (other / "images.csv").read_bytes()
    assert kept(folder) == kept(other)
    return True
