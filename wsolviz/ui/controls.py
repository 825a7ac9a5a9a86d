"""The controls of the Compare tab, and what they hold."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from wsolviz.backends.loading import BACKBONES, OUTPUT_STRIDES
from wsolviz.backends.timm_models import check_name
from wsolviz.compare import Comparison
from wsolviz.defaults import DEFAULTS
from wsolviz.errors import public_text
from wsolviz.methods import METHODS, PICTURES, Panel
from wsolviz.preprocess import MAX_INPUT, MIN_INPUT
from wsolviz.types import Precision, Space
from wsolviz.ui.address import Choices
from wsolviz.ui.backbones import absent_list, add_backbone, backbone_choice, check_allowed
from wsolviz.ui.photo_input import PhotoInput
from wsolviz.ui.viewer import ASSETS
from wsolviz.ui.weights_input import WeightsInput, build_weights

EXAMPLES = tuple(
    str(ASSETS / "examples" / name)
    for name in ("chelsea.png", "coffee.png", "rocket.jpg", "flower.jpg")
)

OWN_TOP = ("each backbone's own top-1", "")
STRIDES = [("the backbone's own", 0), *((str(s), s) for s in reversed(OUTPUT_STRIDES))]
SIZE_LABEL, SCALES_LABEL = "Input size", "Several input sizes"
SLOW_NOTE = {"free": "", "gradient": "", "slow": " (slow)"}


@dataclass(frozen=True)
class Controls:
    """The components that say what to compute, in the order of a handler's arguments.

    The last three say nothing by themselves: `absent` lists backbones that are not here, and what
    is entered or sent in `timm_name` and `weights` is added to the backbones. `weights` is None
    where no files may be sent.
    """

    photo: gr.Image
    backbones: gr.Dropdown
    methods: gr.CheckboxGroup
    class_choice: gr.Dropdown
    space: gr.Radio
    image_size: gr.Number
    output_stride: gr.Dropdown
    precision: gr.Radio
    scales: gr.Textbox
    flip: gr.Checkbox
    absent: gr.HTML
    timm_name: gr.Textbox
    weights: WeightsInput | None

    def as_list(self) -> list[Any]:
        """Every control that says what to compute, in order."""
        names = list(self.__dataclass_fields__)
        return [getattr(self, name) for name in names[: names.index("absent")]]


def build_controls(*, uploads: bool = False) -> Controls:
    """Lay out the controls.

    Args:
        uploads: whether visitors may send weights files.
    """
    photo = _build_photo()
    with gr.Accordion("Backbones, methods, class", elem_id="choices"):
        backbones, absent, timm_name = _build_backbones()
        weights = build_weights() if uploads else None
        methods, class_choice = _build_choices()
    advanced = _build_advanced()
    said = (photo, backbones, methods, class_choice, *advanced)
    return Controls(*said, absent, timm_name, weights)


def _build_photo() -> gr.Image:
    photo = PhotoInput(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard", "webcam"],
        label="Your photo",
        height=200,
        buttons=[],
        elem_id="photo",
    )
    gr.Examples([[path] for path in EXAMPLES], [photo], label="Examples", api_visibility="private")
    return photo


def _build_backbones() -> tuple[gr.Dropdown, gr.HTML, gr.Textbox]:
    backbones = backbone_choice(f"Up to {DEFAULTS.max_backbones}, one row each.", "backbones")
    absent = gr.HTML(absent_list(), apply_default_css=False, elem_id="absent")
    timm_name = gr.Textbox(
        label="Any timm model",
        placeholder="resnet50.a1_in1k",
        info="Enter adds it to the backbones.",
        elem_id="timm-name",
    )
    return backbones, absent, timm_name


def _build_choices() -> tuple[gr.CheckboxGroup, gr.Dropdown]:
    methods = gr.CheckboxGroup(
        [(_label(panel), name) for name, panel in (*METHODS.items(), *PICTURES.items())],
        value=list(DEFAULTS.methods),
        label="Methods",
        elem_id="methods",
    )
    class_choice = gr.Dropdown(
        [OWN_TOP],
        value="",
        allow_custom_value=True,
        label="Class",
        info="The top-1, one of the top-5, or any name or index.",
        elem_id="class",
    )
    return methods, class_choice


def _build_advanced() -> tuple[gr.Radio, gr.Number, gr.Dropdown, gr.Radio, gr.Textbox, gr.Checkbox]:
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        space = gr.Radio(
            list(get_args(Space)),
            value=DEFAULTS.space,
            label="Feature space",
            info="pre_norm is the map before the head's norm: the papers' number.",
        )
        image_size = gr.Number(
            value=None, label=SIZE_LABEL, info="Side in pixels; empty: each network's own."
        )
        output_stride = gr.Dropdown(
            STRIDES, value=0, label="Output stride", info="A finer map without training."
        )
        precision = gr.Radio(
            list(get_args(Precision)),
            value=DEFAULTS.precision,
            label="Precision",
            info="Half precision is for GPUs.",
        )
        scales = gr.Textbox(
            label=SCALES_LABEL,
            placeholder="224, 320, 416",
            info="In place of one: their maps are averaged.",
        )
        flip = gr.Checkbox(label="Average with the mirrored photo")
    return space, image_size, output_stride, precision, scales, flip


def _label(panel: Panel) -> str:
    return panel.title + SLOW_NOTE[panel.cost]


def add_timm(name: str, chosen: list[str]) -> tuple[str, list[str]]:
    """Add a timm model to the chosen backbones, and empty the field."""
    bare = name.strip().removeprefix("hf_hub:").removeprefix("hf-hub:").removeprefix("timm/")
    if not bare:
        return "", chosen
    full = bare if bare in BACKBONES else f"timm/{bare}"
    if full not in BACKBONES:
        try:
            check_allowed(bare)
            check_name(bare)
        except ValueError as error:
            gr.Warning(html.escape(public_text(error)))
            return name, chosen
    more = add_backbone(full, chosen)
    return "" if full in more else name, more


def read_controls(
    backbones: list[str],
    methods: list[str],
    class_choice: str | None,
    space: str,
    image_size: float | None,
    output_stride: int | None,
    precision: str,
    scales: str,
    flip: bool,
) -> Choices:
    """The controls' values as choices; nothing chosen in an optional field is None.

    Raises:
        ValueError: what no control offers, or sizes that are none; the message names the field.
    """
    side, sides = _read_sizes(image_size, scales)
    return Choices.model_validate(
        {
            "backbones": tuple(backbones),
            "methods": tuple(methods),
            "class_choice": class_choice or None,
            "space": space,
            "image_size": side,
            "output_stride": output_stride or None,
            "precision": precision,
            "scales": sides,
            "flip": flip,
        }
    )


def _read_sizes(image_size: float | None, scales: str) -> tuple[int | None, tuple[int, ...]]:
    given = [text for text in re.split(r"[\s,;]+", scales) if text]
    sides = tuple(read_side(text, SCALES_LABEL) for text in given)
    if image_size is None:
        return None, sides
    if sides:
        raise ValueError(f"Fill in either {SIZE_LABEL} or {SCALES_LABEL}, not both.")
    return read_side(f"{image_size:.10g}", SIZE_LABEL), ()


def read_side(text: str, label: str, largest: int = MAX_INPUT) -> int:
    """The side of a network's input in pixels, from a field of that label.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch("[0-9]{1,6}", text) or not MIN_INPUT <= int(text) <= largest:
        raise ValueError(
            f"{label}: {text} is not a whole number of pixels from {MIN_INPUT} to {largest}."
        )
    return int(text)


def class_choices(comparison: Comparison) -> list[tuple[str, str]]:
    """The class menu: own top-1, the top-5 of the rows with probabilities, then every class.

    A class is kept by its name, which means the same in every backbone; by its index where the
    network has no names, or where two classes have the same (ImageNet has two cranes).
    """
    choices = {"": OWN_TOP[0]}
    rows = [row.inspection for row in comparison.rows if row.inspection]
    for inspection in rows:
        for score in inspection.top():
            value = class_value(score.index, inspection.backbone.class_names)
            choices.setdefault(value, f"{score.index} {score.name}  {score.probability:.3f}")
    for inspection in rows:
        for index, name in enumerate(inspection.backbone.class_names):
            value = class_value(index, inspection.backbone.class_names)
            choices.setdefault(value, f"{index} {name}")
    return [(label, value) for value, label in choices.items()]


def class_value(index: int, names: Sequence[str]) -> str:
    """How the class menu keeps a class: by its name, or by its index where that is not unique."""
    unique = bool(names) and names.count(names[index]) == 1
    return names[index] if unique else str(index)
