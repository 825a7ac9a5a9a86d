"""The app, served once for all tests that talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from benchmarks.processes import make_dataset
from wsolviz.ui.app import launch

CROPS = 12


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of crops of the example photos, with random boxes and classes."""
    folder = tmp_path_factory.mktemp("data") / "crops"
    make_dataset(folder, CROPS)
    return folder


@pytest.fixture(scope="session")
def address(crops: Path) -> Iterator[str]:
    """Where the app is served, with one data set that may be measured."""
    yield launch(host="127.0.0.1", data_roots=[crops], block=False)
    gr.close_all()
