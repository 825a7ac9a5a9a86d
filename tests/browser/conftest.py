"""Chromium for the browser tests, and one result for the viewer's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
    from playwright.sync_api import Browser, Page

CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium on the PATH."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no Chromium on the PATH: the browser tests need the package chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page 1280 pixels wide; a script that throws fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    thrown: list[str] = []
    opened.on("pageerror", lambda error: thrown.append(str(error)))
    yield opened
    context.close()
    assert thrown == []


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
