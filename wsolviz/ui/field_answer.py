"""A click on a map in Compare: what the value there was computed from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from wsolviz.analysis.erf import log_scaled
from wsolviz.errors import explain_error
from wsolviz.explain import Inspection, display_grid, inspect_photo
from wsolviz.facts import Fact
from wsolviz.fields.asked import AskedField, field_at
from wsolviz.fields.request import SIZE_WARNING
from wsolviz.photo import read_photo
from wsolviz.ui.address import Choices
from wsolviz.ui.viewer import JSON, data_url
from wsolviz.zero_gpu import on_gpu

OF_A_CLASS = "cam"  # the method whose values belong to a class's CAM and to nothing else

# The body of js_on_load of the hidden component through which answers reach the viewer.
HAND_OVER = 'watch("value", () => window.wsolvizField(props.value));'


def ask_field(shown: JSON | None, event: gr.EventData) -> Any:
    """The field of the place that was clicked, as the viewer's `showField` takes it."""
    asked = {"row": str(event.row), "token": event.token}
    if shown is None:
        return {**asked, "message": "Explain a photo first."}
    try:
        choices = Choices.model_validate(shown["choices"])
        point = int(event.x), int(event.y)
        told = answer_field(shown["photo"], choices, str(event.row), str(event.method), point)
    except Exception as error:  # whatever it is, it is told in the row that asked
        told = {"message": explain_error(error, f"{event.row}: the field").public}
    return {**asked, **told}


@on_gpu
def answer_field(
    photo: str, choices: Choices, row: str, method: str, point: tuple[int, int]
) -> JSON:
    """The field, with what to know about it.

    Args:
        photo: the file.
        choices: what the grid shows.
        row: the backbone's title.
        method: whose map was clicked: CAM asks about the explained class, the others about all
            channels.
        point: (x, y) in the photo's pixels.

    Raises:
        ValueError: a row that is not shown, a point outside, or a photo that cannot be read.
    """
    request = choices.request()
    names = dict(zip(request.titles, request.backbones, strict=True))
    if row not in names:
        raise ValueError(f"{row} is no longer compared; explain the photo again.")
    options = request.options
    backbone = options.load(names[row])
    inspection = inspect_photo(read_photo(photo), backbone, options.space, options.views)
    class_index = inspection.resolve(request.class_choice) if method == OF_A_CLASS else None
    asked = field_at(inspection, point, class_index)
    of = "all channels" if class_index is None else f"CAM of {inspection.score(class_index).name}"
    notes = ["Of several inputs the first: not averaged."] if options.views.many else []
    return {
        "levels": _levels(asked, inspection.photo.size),
        "cell": _cell(asked),
        "title": "Field of row {}, column {}".format(*asked.erf.position),
        "of": of,
        "facts": [asdict(fact) for fact in _facts(asked, inspection)],
        "notes": notes,
    }


def _levels(asked: AskedField, image_size: tuple[int, int]) -> str:
    """log₁₀(contribution + 1) over its maximum as a grey PNG, on the viewer's display grid."""
    height, width = display_grid(image_size)
    grey = np.floor(255 * log_scaled(asked.erf.contribution) + 0.5).astype(np.uint8)
    return data_url(Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR), "PNG")


def _cell(asked: AskedField) -> list[float]:
    """The cell's x0, y0, x1, y1 in shares of the photo."""
    (row, column), (h, w) = asked.erf.position, asked.erf.grid
    return [column / w, row / h, (column + 1) / w, (row + 1) / h]


def _facts(asked: AskedField, inspection: Inspection) -> list[Fact]:
    height, width = inspection.input_size
    areas = [
        Fact(
            f"area {area.threshold:.0%}",
            "none" if np.isnan(area.share) else f"{100 * area.share:.1f} %",
            "Share of the image that the smallest square about the cell covers which holds more "
            f"than {area.threshold:.0%} of log₁₀(contribution + 1).",
        )
        for area in asked.areas
    ]
    return [
        Fact("input", f"{width}×{height} px", SIZE_WARNING),
        *areas,
        Fact("took", f"{asked.milliseconds:.0f} ms", "When it was measured; it is kept."),
    ]


def build_field_answer(viewer: gr.HTML, shown: gr.State) -> None:
    """Have clicks on the viewer's maps answered, through a component that nobody sees.

    Args:
        viewer: triggers `select` with the question.
        shown: what the viewer shows.
    """
    answer = gr.HTML(None, js_on_load=HAND_OVER, visible="hidden", elem_id="field-answer")
    viewer.select(
        ask_field,
        shown,
        answer,
        show_progress="hidden",
        trigger_mode="multiple",  # several rows may be asked at once
        concurrency_limit=2,
        api_visibility="private",
    )
