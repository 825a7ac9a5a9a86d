"""The controls of the ERF tab."""

from __future__ import annotations

from typing import Any, get_args

import gradio as gr

from wsolviz.defaults import DEFAULTS
from wsolviz.fields.request import WeightsKind
from wsolviz.ui.backbones import backbone_choice, menu_with
from wsolviz.ui.controls import SIZE_LABEL
from wsolviz.ui.erf_question import (
    BUNDLED,
    CHOICE_LABEL,
    MAX_PHOTOS,
    NUMBER_LABEL,
    OWN,
    photo_sources,
)

SIDE, PHOTOS = 224, 3  # at first: an answer within seconds


def build_choices() -> tuple[list[Any], gr.Textbox]:
    """The components of `read_field_question`, in its order, and one that adds to the first."""
    backbones = backbone_choice(
        f"Up to {DEFAULTS.max_backbones}. What is not here yet stands under Compare.",
        "erf-backbones",
    )
    timm_name = gr.Textbox(
        label="Any timm model",
        placeholder="resnet50.a1_in1k",
        info="Enter adds it to the backbones.",
        elem_id="erf-timm-name",
    )
    weights = gr.CheckboxGroup(
        list(get_args(WeightsKind)),
        value=list(get_args(WeightsKind)),
        label="Weights",
        info="Random ones show what the architecture does by itself.",
        elem_id="erf-weights",
    )
    size = gr.Number(
        value=SIDE,
        precision=None,
        label=SIZE_LABEL,
        info="Side in pixels. The papers took 1024, which takes minutes without a GPU.",
        elem_id="erf-size",
    )
    return [backbones, weights, size, *_build_photos()], timm_name


def _build_photos() -> tuple[gr.Dropdown, gr.File, gr.Slider, gr.Number]:
    source = gr.Dropdown(
        photo_sources(), value=BUNDLED, label="Take photos from", elem_id="erf-source"
    )
    sent = gr.File(
        file_count="multiple", label="Your photos", visible=False, height=130, elem_id="erf-photos"
    )
    number = gr.Slider(
        1, MAX_PHOTOS, value=PHOTOS, step=1, label=NUMBER_LABEL, elem_id="erf-number"
    )
    seed = gr.Number(
        value=0, label=CHOICE_LABEL, info="Another number takes others.", elem_id="erf-seed"
    )
    return source, sent, number, seed


def offer_source(source: str) -> tuple[Any, Any, Any]:
    """The fields that belong to a source of photos: the upload, or the number and the choice."""
    own = source == OWN
    return gr.File(visible=own), gr.Slider(visible=not own), gr.Number(visible=not own)


def offer_backbones() -> Any:
    """On a visit: what is here now, which may have changed since the page was laid out."""
    return menu_with(DEFAULTS.backbones[:1])
