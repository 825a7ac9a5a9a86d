"""A small network that is quick at any size, photos, and a store of its own for each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsolviz.fields.photos import EXAMPLES, choose_photos
from wsolviz.fields.request import FieldRequest, FieldRow
from wsolviz.fields.store import FieldStore
from wsolviz.receptive_field import Erf

BACKBONE = "efficientnet_lite0"
SIZE = 64


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Ten crops of the example photos, half of them in a folder below."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    for i in range(10):
        with Image.open(EXAMPLES / ("chelsea.png", "coffee.png")[i % 2]) as photo:
            name = f"below/{i}.png" if i < 5 else f"{i}.png"
            photo.convert("RGB").crop((10 * i, 10 * i, 10 * i + 200, 10 * i + 200)).save(
                folder / name
            )
    return folder


@pytest.fixture
def store(tmp_path) -> FieldStore:
    return FieldStore(tmp_path / "store")


@pytest.fixture
def request_of(photos):
    """A request for few small photos; options replace the usual ones."""

    def make(number: int = 3, **options) -> FieldRequest:
        options = {"photos": choose_photos(photos, number), "size": SIZE} | options
        return FieldRequest(**{"backbones": (BACKBONE,)} | options)

    return make


def row_of(contribution, backbone="net", weights="trained", **options) -> FieldRow:
    """A row of a made-up field, whose position is the middle."""
    field = np.asarray(contribution, dtype=np.float64)
    erf = Erf(field, (2, 2), (4, 4), num_images=3, num_skipped=1)
    return FieldRow(backbone, weights, "somewhere", "abc", None, erf, **options)


def bell(side: int = 64, width: float = 6.0, height: float = 5.0) -> np.ndarray:
    """(side,side): a Gaussian about the pixel from which fields are measured."""
    distance = np.square(np.arange(side) - side // 2)
    return height * np.exp(-(distance[:, None] + distance[None]) / (2 * width**2))
