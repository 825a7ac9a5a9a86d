"""Downloads of what is shown: handlers, buttons, and the files that are taken away again."""

from __future__ import annotations

import html
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import gradio as gr

from wsolviz.compare import Comparison, compare
from wsolviz.export import write_zip
from wsolviz.grid import grid_image
from wsolviz.report import report_html
from wsolviz.ui.address import Choices
from wsolviz.ui.status import plain_message
from wsolviz.ui.viewer import JSON
from wsolviz.ui.viewer_state import FILL_STATE, read_look
from wsolviz.zero_gpu import on_gpu

KEEP_SECONDS = 3600
SAVE_FILE = "() => setTimeout(() => document.querySelector('#file-to-save').click(), 100)"


def exports_folder() -> Path:
    """Where files for downloads are made."""
    return Path(tempfile.gettempdir()) / "wsolviz-exports"


def new_file(name: str) -> Path:
    """A path of that name in a new folder; folders older than an hour are deleted."""
    root = exports_folder()
    root.mkdir(exist_ok=True)
    for folder in root.iterdir():
        with suppress(FileNotFoundError):  # another request may be deleting it, too
            if folder.stat().st_mtime < time.time() - KEEP_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root)) / name


@contextmanager
def told_in_page() -> Iterator[None]:
    """What goes wrong inside is said in the page as a sentence."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(html.escape(plain_message(error)), print_exception=False) from error


def again(shown: JSON | None) -> Comparison:
    """What is shown, put together again from features and panels that are kept.

    Only what has been given up since, to make room for other photos, is computed again.
    """
    if shown is None:
        raise gr.Error(
            "There is nothing to save yet: explain a photo first.", print_exception=False
        )
    return compare(shown["photo"], Choices.model_validate(shown["choices"]).request())


@on_gpu
@told_in_page()
def save_grid(shown: JSON | None, state: str) -> str:
    """The grid as PNG."""
    comparison, path = again(shown), new_file("wsolviz-grid.png")
    grid_image(comparison, read_look(state)).save(path)
    return str(path)


@on_gpu
@told_in_page()
def save_zip(shown: JSON | None, state: str) -> str:
    """Every file of the export in a ZIP."""
    return str(write_zip(again(shown), read_look(state), new_file("wsolviz.zip")))


@on_gpu
@told_in_page()
def save_report(shown: JSON | None, state: str) -> str:
    """The offline report."""
    path = new_file("wsolviz-report.html")
    path.write_text(report_html(again(shown), read_look(state)), encoding="utf-8")
    return str(path)


def build_downloads(shown: gr.State, state: gr.Textbox) -> None:
    """Lay out the buttons and wire them."""
    savers: tuple[tuple[str, Callable[[JSON | None, str], str]], ...] = (
        ("Grid as PNG", save_grid),
        ("ZIP: PNG, NPZ, manifest", save_zip),
        ("Offline HTML report", save_report),
    )
    with gr.Row(elem_id="downloads"):
        buttons = [gr.Button(label, size="sm") for label, _ in savers]
    file = gr.DownloadButton(visible="hidden", elem_id="file-to-save")
    for button, (_, save) in zip(buttons, savers, strict=True):
        button.click(save, [shown, state], file, js=FILL_STATE, api_visibility="private").success(
            None, js=SAVE_FILE
        )
