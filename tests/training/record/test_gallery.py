"""The gallery's pictures are the project's own overlays, and follow the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wsolviz
from tests.training.record.conftest import EXAMPLES, SMALL, make_network, validation_of
from training.record.epoch import EpochRecord, Validation
from training.record.files import GALLERY, JOURNAL, epoch_folder
from training.record.gallery import (
    PANELS,
    GalleryPhoto,
    draw_gallery,
    explain_now,
    gallery_photos,
    overlay,
    read_gallery,
    spread,
)
from training.record.journal import Journal
from training.record.report import write_report
from wsolviz.backends.base import Backbone
from wsolviz.compare import CompareOptions
from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.dataset import open_dataset, splits_of
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.render import TRUE_BOX_COLOUR, Look, cell_image, draw_box


def iou_by_pixels(first: list[int], second: list[int]) -> float:
    canvas = np.zeros((2, 400, 400), bool)
    for layer, (x0, y0, x1, y1) in zip(canvas, (first, second), strict=True):
        layer[y0 : y1 + 1, x0 : x1 + 1] = True
    return float(canvas.all(axis=0).sum() / canvas.any(axis=0).sum())


def test_photos_are_spread_over_the_classes() -> None:
    labels = [7, 7, 3, 3, 3, 5, 9, 9]
    assert spread(labels, 4) == [2, 5, 0, 6]  # the first of 3, 5, 7 and 9
    assert spread(labels, 6) == [2, 5, 0, 6, 3, 1]
    assert spread(labels, 2) == [2, 0]
    assert sorted(spread(labels, 100)) == list(range(8))
    assert spread(labels, 0) == spread([], 3) == []
    assert spread(list(range(1000)), 8) == list(range(0, 1000, 125))


@pytest.mark.parametrize("name", PANELS)
def test_an_overlay_is_the_apps_cell_with_the_true_boxes(
    network: Backbone, photos: list[GalleryPhoto], name: str
) -> None:
    cat, _ = photos
    look = Look(cam_threshold=0.35)
    for shown in photos:
        image = shown.photo.image
        (cell,) = wsolviz.explain(image, network, [name], shown.class_index)
        expected = cell_image(image, cell, look)
        if shown is cat:
            height, width = cell.scoremap.shape
            begins = [10 * width // 200, 20 * height // 200]
            ends = [-(-181 * width // 200) - 1, -(-200 * height // 200) - 1]
            draw_box(expected, np.array(begins + ends), TRUE_BOX_COLOUR, dashed=True)
        drawn = {cell.method: cell for cell in explain_now(network, shown)}
        np.testing.assert_array_equal(overlay(shown, drawn[name], look), expected)


def test_files_hold_the_overlays_at_the_epochs_thresholds(
    network: Backbone, photos: list[GalleryPhoto], tmp_path: Path
) -> None:
    folder = draw_gallery(tmp_path, 3, network, photos, validation_of(60.0))
    assert folder == tmp_path / "epoch-0003"
    found = read_gallery(tmp_path, 3)
    assert [photo.name for photo in found] == ["chelsea.png", "coffee.png"]
    for shown, photo in zip(photos, found, strict=True):
        assert tuple(photo.panels) == PANELS
        for cell in explain_now(network, shown):
            drawn = photo.panels[cell.method]
            assert drawn.cam_threshold == 0.25  # MaxBoxAcc's, of cam
            pixels = np.asarray(Image.open(folder / drawn.file).convert("RGB")).astype(int)
            expected = overlay(shown, cell, Look(cam_threshold=0.25))
            assert np.abs(pixels - expected).mean() < 5
            assert (folder / drawn.file).stat().st_size < 40_000
            assert photo.probability == pytest.approx(cell.target.probability)
    assert found[1].panels["cam"].iou is None
    cell = explain_now(network, photos[0])[0]
    ((x0, y0, x1, y1),) = cell.boxes_on_map(0.25).tolist()
    (true,) = photos[0].true_boxes(cell.scoremap.shape).tolist()
    assert found[0].panels["cam"].iou == pytest.approx(iou_by_pixels([x0, y0, x1, y1], true))


def test_without_a_measured_threshold_the_apps_is_taken(
    network: Backbone, photos: list[GalleryPhoto], tmp_path: Path
) -> None:
    draw_gallery(tmp_path, 0, network, photos)
    drawn = [panel for photo in read_gallery(tmp_path, 0) for panel in photo.panels.values()]
    assert {panel.cam_threshold for panel in drawn} == {DEFAULTS.cam_threshold}


def test_the_pictures_follow_the_weights(photos: list[GalleryPhoto], tmp_path: Path) -> None:
    network = make_network()
    before = draw_gallery(tmp_path, 0, network, photos)
    again = draw_gallery(tmp_path, 1, network, photos)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    after = draw_gallery(tmp_path, 2, network, photos)
    for file in sorted(path.name for path in before.glob("*.webp")):
        assert (before / file).read_bytes() == (again / file).read_bytes()
        assert (before / file).read_bytes() != (after / file).read_bytes()


def test_an_epoch_that_was_not_drawn_to_its_end_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "epoch-0001").mkdir()
    assert read_gallery(tmp_path, 1) == read_gallery(tmp_path, 2) == []


def write_split(root: Path, rows: dict[str, tuple[int, str]]) -> None:
    folder = root / "metadata" / "val"
    folder.mkdir(parents=True)
    names = ("image_ids", "class_labels", "image_sizes", "localization")
    lines: dict[str, list[str]] = {name: [] for name in names}
    for image, (label, photo) in rows.items():
        (root / image).write_bytes((EXAMPLES / photo).read_bytes() if photo else b"no photo")
        lines["image_ids"].append(image)
        lines["class_labels"].append(f"{image},{label}")
        lines["image_sizes"].append(f"{image},100,50")
        lines["localization"].append(f"{image},10,5,99,50")
    for name, texts in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(texts) + "\n")


def test_photos_of_a_split_come_with_their_class_and_boxes(
    network: Backbone, tmp_path: Path
) -> None:
    rows = {"a.png": (0, "chelsea.png"), "b.png": (0, "coffee.png"), "c.jpg": (3, "flower.jpg")}
    write_split(tmp_path, rows | {"d.jpg": (1, "")})
    dataset = open_dataset(tmp_path, "val")
    chosen = gallery_photos(dataset, network, 3)
    assert [(shown.photo.name, shown.class_index) for shown in chosen] == [
        ("a.png", 0),
        ("c.jpg", 3),
    ]
    assert chosen[0].true_boxes((50, 100)).tolist() == [[10, 5, 99, 49]]
    assert chosen[0].true_boxes((100, 200)).tolist() == [[20, 10, 199, 99]]


def test_an_epoch_as_it_is_measured_and_drawn(crops: Path, tmp_path: Path) -> None:
    """The evaluator's results, the gallery and the report, one after the other on one data set."""
    dataset = open_dataset(crops, splits_of(crops)[0])
    network = wsolviz.load_backbone(SMALL, weights=None)
    source = NetworkSource(dataset, network, ["cam"], options=CompareOptions(image_size=96))
    results = evaluate_run(Run(source, epoch_folder(tmp_path / "validation", 1)))
    validation = Validation.of(results)
    swept = results["methods"]["cam"]["swept"]
    assert validation.score.value == swept["MaxBoxAccV2"]["value"]
    assert validation.cam_threshold("feature_norm") == swept["MaxBoxAcc"]["cam_threshold"]
    assert validation.classification["top-1"].value == results["classification"]["top-1"]["value"]
    photos = gallery_photos(dataset, network, 2)
    draw_gallery(tmp_path / GALLERY, 1, network, photos, validation)
    record = EpochRecord(epochs_done=1, steps=3, validation=validation)
    Journal(tmp_path / JOURNAL).append(record)
    assert Journal(tmp_path / JOURNAL).records() == [record]
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for photo in photos:
        assert f"{photo.photo.name}: <span" in page
    assert f"{validation.score}" in page
