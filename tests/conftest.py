"""The app, served once for all tests that talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
import pytest

from wsolviz.ui.app import launch


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the app is served."""
    yield launch(host="127.0.0.1", block=False)
    gr.close_all()
