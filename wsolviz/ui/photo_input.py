"""An image input for Gradio that leaves reading the photo to `wsolviz.photo`."""

from __future__ import annotations

import gradio as gr
from gradio.data_classes import ImageData


class PhotoInput(gr.Image):
    """An image input that hands on the file as it came, so that one place reads all photos.

    Gradio would open and convert the file itself, and answer a broken one with its own error.
    """

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path of the uploaded file."""
        if payload is None or payload.path is not None:
            return None if payload is None else payload.path
        return super().preprocess(payload)  # a data: address

    def get_block_name(self) -> str:
        """Which of Gradio's browser components shows it."""
        return "image"
