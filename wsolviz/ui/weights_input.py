"""Sending a weights file of one's own to the Compare tab, where the server's owner allows it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from wsolviz.backends.uploads import SUFFIX, Upload, find_upload, gone, take_upload
from wsolviz.ui.backbones import add_backbone, menu_with
from wsolviz.ui.status import plain_message, say
from wsolviz.ui.viewer import JSON

VARIABLE = "WSOLVIZ_ALLOW_UPLOAD_WEIGHTS"  # for a Space, which has no command
ANSWERS = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}
FIRST = "Files are deleted after some hours, and nobody else can use yours."
MAX_MEGABYTES = 500  # RepLKNet-31B and ConvNeXt-Base have 320 and 350


def allowed_by_environment() -> bool:
    """Whether the environment says that visitors may send weights files.

    Raises:
        ValueError: it says neither yes nor no.
    """
    said = os.environ.get(VARIABLE, "")
    if said.lower() not in ANSWERS:
        raise ValueError(f"{VARIABLE} is {said!r}; 1 allows uploads of weights, 0 does not.")
    return ANSWERS[said.lower()]


@dataclass(frozen=True)
class WeightsInput:
    """The components.

    Attributes:
        file: what is sent.
        network: the choice where a file fits several networks.
        told: a line on what became of the file.
        sent: names of the backbones that this visitor's files are.
    """

    file: gr.File
    network: gr.Radio
    told: gr.HTML
    sent: gr.State


def build_weights() -> WeightsInput:
    """Lay out the components."""
    sent = gr.State([])
    with gr.Accordion("A checkpoint of your own", open=False, elem_id="weights"):
        # Other endings are taken, too, to say what to do with them.
        file = gr.File(
            label=f"{SUFFIX}, up to {MAX_MEGABYTES} MB", height=130, elem_id="weights-file"
        )
        network = gr.Radio([], visible=False, elem_id="weights-network")
        told = gr.HTML(say(FIRST), apply_default_css=False, elem_id="weights-told")
    return WeightsInput(file, network, told, sent)


def take_file(
    file: str,
    chosen: list[str],
    sent: list[str],
    progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
) -> tuple[Any, Any, Any, str]:
    """Find out what a file is that was sent.

    Returns:
        The backbones' menu, the choice of a network, what was sent so far, and a line on the file.
        What is wrong with it is said in that line, and what was chosen stays.
    """
    path = Path(file)
    progress(0.1, f"{path.name}: comparing it with every known network; the first takes a minute")
    try:
        uploads = take_upload(path)
    except (ValueError, OSError) as error:
        told = say(plain_message(error), problem=True)
        return gr.skip(), gr.Radio(visible=False), gr.skip(), told
    if len(uploads) == 1:
        return _offer(uploads[0], chosen, sent)
    asked = gr.Radio(
        [(upload.network, upload.name) for upload in uploads],
        value=None,
        label="Which network is it for?",
        info="All of these have its tensors, and compute different things with them.",
        visible=True,
    )
    return gr.skip(), asked, gr.skip(), say(f"{path.name} fits several networks: choose one.")


def take_network(name: str, chosen: list[str], sent: list[str]) -> tuple[Any, Any, Any, str]:
    """Take a file as the network that was chosen; returns the same as `take_file`."""
    upload = find_upload(name)
    if upload is None:
        return gr.skip(), gr.skip(), gr.skip(), say(gone(name), problem=True)
    return _offer(upload, chosen, sent)


def _offer(upload: Upload, chosen: list[str], sent: list[str]) -> tuple[Any, Any, Any, str]:
    """Add a file to the visitor's menu, and to what is compared if there is room."""
    more = list(dict.fromkeys((*sent, upload.name)))
    menu = menu_with(add_backbone(upload.name, chosen), more)
    found = upload.found
    told = f"{found.path.name}: {upload.network}, {found.num_classes} classes, {found.form}."
    return menu, gr.Radio(visible=len(found.backbones) > 1), more, say(told)


def wire_weights(weights: WeightsInput, backbones: gr.Dropdown, explaining: JSON) -> None:
    """Identify what is sent, offer it, and explain the photo with it.

    Args:
        weights: the components.
        backbones: the menu that files are added to.
        explaining: see `CompareTab`.
    """
    for event, handler, given in (
        (weights.file.upload, take_file, weights.file),
        (weights.network.input, take_network, weights.network),
    ):
        event(
            handler,
            [given, backbones, weights.sent],
            [backbones, weights.network, weights.sent, weights.told],
            show_progress_on=weights.told,
            concurrency_limit=1,  # whole files in memory
            api_visibility="private",
        ).success(**explaining)
