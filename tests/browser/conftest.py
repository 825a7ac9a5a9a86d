"""One result for the viewer's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.payloads import (
    IMAGE_SIZE,
    SIZE,
    Map,
    heatmap_cell,
    make_map,
    make_payload,
    noise_map,
)

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="session")
def maps() -> list[Map]:
    """Four maps of one photo: two plain, one signed, one constant."""
    constant = make_map(np.full((5, 7), 2.5), SIZE)
    return [
        noise_map(1, (14, 11), SIZE),
        noise_map(2, (9, 7), SIZE),
        noise_map(3, (14, 11), SIZE, signed=True),
        constant,
    ]


@pytest.fixture(scope="session")
def payload(maps: list[Map]) -> dict[str, Any]:
    """Two rows of two maps."""
    cells = [heatmap_cell(of) for of in maps]
    return make_payload([cells[:2], cells[2:]], SIZE, IMAGE_SIZE)
