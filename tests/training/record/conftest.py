"""A run's records, and a small network that is trained for nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import wsolviz
from training.record.epoch import EpochRecord, Figure, Loss, Validation
from training.record.gallery import GalleryPhoto
from wsolviz.backends.base import Backbone
from wsolviz.photo import read_photo

SMALL = "timm/test_resnet"
EXAMPLES = Path(wsolviz.__file__).parents[1] / "assets" / "examples"


def figure(value: float, cam_threshold: float | None = None) -> Figure:
    return Figure(value=value, interval=(value - 2, value + 3), cam_threshold=cam_threshold)


def validation_of(v2: float) -> Validation:
    cam = {
        "MaxBoxAccV2": figure(v2),
        "BoxAccV2@30": figure(v2 + 20, 0.2),
        "BoxAccV2@50": figure(v2 + 1, 0.3),
        "BoxAccV2@70": figure(v2 - 21, 0.35),
        "MaxBoxAcc": figure(v2 - 1, 0.25),
    }
    centre = {"MaxBoxAccV2": figure(41.5), "MaxBoxAcc": figure(40, 0.1)}
    return Validation(
        data="shots/val",
        num_images=5,
        methods={"cam": cam, "centre_box": centre},
        classification={"top-1": figure(80.5)},
    )


def record_of(epochs_done: int, v2: float | None) -> EpochRecord:
    validation = None if v2 is None else validation_of(v2)
    if epochs_done == 0:
        return EpochRecord(epochs_done=0, steps=0, validation=validation)
    return EpochRecord(
        epochs_done=epochs_done,
        steps=7 * epochs_done,
        losses={
            "classification": Loss(value=3 / epochs_done),
            "sim": Loss(value=-0.25 * epochs_done, weight=0.5),
        },
        lr=0.01 / epochs_done,
        top1=50 + epochs_done,
        seconds=12.5,
        images_per_second=20.25,
        waiting=0.125,
        broken_images=1,
        peak_memory=3 << 29,
        validation=validation,
    )


@pytest.fixture
def records() -> list[EpochRecord]:
    """Before training, and four epochs; the second was not measured, the third is best."""
    scores = (60.25, 61.5, None, 66.75, 64.0)
    return [record_of(epoch, v2) for epoch, v2 in enumerate(scores)]


def make_network() -> Backbone:
    torch.manual_seed(0)
    return wsolviz.load_backbone(SMALL, weights=None, num_classes=5)


@pytest.fixture
def network() -> Backbone:
    """Random weights, of its own for each test."""
    return make_network()


@pytest.fixture(scope="session")
def photos() -> list[GalleryPhoto]:
    """A cat with its box in other pixels than the photo's, and a cup whose box nobody knows."""
    cat, cup = read_photo(EXAMPLES / "chelsea.png"), read_photo(EXAMPLES / "coffee.png")
    box = np.array([[10, 20, 180, 199]])
    return [GalleryPhoto(cat, 2, box, (200, 200)), GalleryPhoto(cup, 4)]
