"""The app's functions as API endpoints, for gradio_client and for curl."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from wsolviz.compare import compare
from wsolviz.export import manifest, write_zip
from wsolviz.methods import METHODS, PICTURES
from wsolviz.ui.address import Choices
from wsolviz.ui.backbones import backbones_here
from wsolviz.ui.downloads import new_file
from wsolviz.ui.photo_input import PhotoInput
from wsolviz.ui.status import plain_message
from wsolviz.zero_gpu import on_gpu


@on_gpu
def explain(photo: str, choices: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Explain one photo with several backbones and methods.

    Args:
        photo: a file; with gradio_client: handle_file("photo.jpg").
        choices: any of backbones (list of names), methods (list of names), class_choice (name or
            index; null for each backbone's own top-1), space ("logit" or "pre_norm"), image_size
            (pixels), scales (list of pixels, in its place) and flip (true or false), whose maps are
            averaged, output_stride, precision, threshold (0 to 1), overrides of it
            for single cells ({"efficientnet_lite0/cam": 0.5}), contours ("largest" or "all").
            What is left out has its default; {} is allowed.

    Returns:
        The manifest (classes, numbers, boxes in the photo's pixels) and a ZIP with PNGs, raw maps
        and the offline report.
    """
    try:
        chosen = Choices.model_validate(choices, extra="forbid")
        comparison = compare(photo, chosen.request())
        if comparison.is_empty:
            raise ValueError(" ".join(comparison.notices))
    except (ValueError, OSError) as error:
        raise gr.Error(plain_message(error), print_exception=False) from error
    look = chosen.look()
    return manifest(comparison, look), str(write_zip(comparison, look, new_file("wsolviz.zip")))


def list_methods() -> dict[str, str]:
    """Every method and picture by name, with one sentence on each."""
    return {panel.name: panel.help for panel in (*METHODS.values(), *PICTURES.values())}


def list_backbones() -> list[str]:
    """Backbones that can be used now by a name of their own; besides them any timm/<name>."""
    return backbones_here()


def build_api() -> None:
    """Register the endpoints; their inputs and outputs are not shown in the page."""
    with gr.Row(visible=False):
        photo = PhotoInput(type="filepath", image_mode=None, label="photo")
        choices = gr.JSON({}, label="choices")
        result = gr.JSON(label="manifest")
        archive = gr.File(label="ZIP")
        button = gr.Button("explain")
    button.click(explain, [photo, choices], [result, archive], api_name="explain")
    api(list_methods, api_name="methods")
    api(list_backbones, api_name="backbones")
