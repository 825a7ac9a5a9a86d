"""What all tests share: one Chromium, the app served once, a data set, a weights file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import pytest

import wsolviz
from benchmarks.processes import make_dataset
from wsolviz.backends.own_format import WeightsHeader, save_checkpoint
from wsolviz.fields.store import FOLDER_VARIABLE
from wsolviz.ui.app import launch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SMALL = "timm/mobilenetv3_small_050"
CROPS = 12
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium on the PATH; without one the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no Chromium on the PATH: the browser tests need the package chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests that are marked browser."""
    with chromium() as started:
        yield started


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
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of crops of the example photos, with random boxes and classes."""
    folder = tmp_path_factory.mktemp("data") / "crops"
    make_dataset(folder, CROPS)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of this project for a small network of timm with 7 classes."""
    path = tmp_path_factory.mktemp("sent") / "mine.safetensors"
    module = wsolviz.load_backbone(SMALL, weights=None, num_classes=7).module
    save_checkpoint(module.state_dict(), path, WeightsHeader(backbone=SMALL, num_classes=7))
    return path


@pytest.fixture(scope="session", autouse=True)
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds what earlier runs kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("kept")))
        yield


@pytest.fixture(scope="session")
def address(crops: Path) -> Iterator[str]:
    """Where the app is served, with one data set that may be measured; weights may be sent."""
    yield launch(host="127.0.0.1", data_roots=[crops], allow_upload_weights=True, block=False)
    gr.close_all()
