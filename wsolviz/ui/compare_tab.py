"""The Compare tab: handlers first, then the layout, then the chain of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from wsolviz.compare import Comparison, compare
from wsolviz.progress import Progress, StoppedError, ignore_progress
from wsolviz.render import Look
from wsolviz.ui.address import Choices, read_address
from wsolviz.ui.controls import (
    EXAMPLES,
    build_controls,
    class_choices,
    read_controls,
)
from wsolviz.ui.downloads import build_downloads
from wsolviz.ui.jobs import Jobs
from wsolviz.ui.plots_panel import build_plots
from wsolviz.ui.viewer import ASSETS, JSON, viewer_payload, viewer_script, viewer_style
from wsolviz.ui.viewer_state import FILL_STATE, read_look
from wsolviz.zero_gpu import on_gpu, passable

jobs = Jobs()

# On a phone the choices fold away above the grid.
FOLD_CHOICES = """() => {
  if (window.innerWidth < 768) document.querySelector("#choices > button.open")?.click();
}"""


@dataclass(frozen=True)
class Answer:
    """What one run hands to the page: plain values, which pass between processes on ZeroGPU.

    Attributes:
        payload: see `show`.
        classes: the class menu, (label, value).
        status: one line on what was done.
    """

    payload: JSON
    classes: list[tuple[str, str]]
    status: str


@on_gpu
def answer(photo: str, choices: Choices, look: Look, progress: Progress) -> Answer:
    """Compute the grid and all that the page shows of it."""
    comparison = compare(photo, choices.request(), progress)
    return Answer(show(comparison, choices, look), class_choices(comparison), describe(comparison))


def show(comparison: Comparison, choices: Choices, look: Look) -> JSON:
    """The viewer's payload, and what the page's address is to say about it."""
    defaults = Choices()
    return {
        **viewer_payload(comparison, look),
        "address": choices.query(),
        "look_defaults": {
            name: getattr(defaults, name)
            for name in ("threshold", "contours", "opacity", "colormap")
        },
    }


def describe(comparison: Comparison) -> str:
    """One line on what was done, and what to know about the photo."""
    milliseconds = sum(
        row.inspection.milliseconds + sum(getattr(c, "milliseconds", 0.0) for c in row.cells)
        for row in comparison.rows
        if row.inspection
    )
    width, height = comparison.photo.size
    lines = [f"{comparison.photo.name}, {width}×{height}: computed in {milliseconds:.0f} ms."]
    lines += [*comparison.photo.notes, *(row.failure for row in comparison.rows if row.failure)]
    return "  \n".join(lines)


def explain_photo(
    photo: str | None,
    backbones: list[str],
    methods: list[str],
    class_choice: str | None,
    space: str,
    image_size: float | None,
    output_stride: int | None,
    precision: str,
    state: str,
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
) -> tuple[Any, Any, str, Any]:
    """Explain a photo; returns the payload, the class menu, a status line, and what is shown.

    What the visitor did wrong is said in the status line, and what was shown before stays.
    """
    if photo is None:
        return gr.skip(), gr.skip(), "Choose a photo: upload, paste, camera or an example.", None
    try:
        choices = read_controls(
            backbones, methods, class_choice, space, image_size, output_stride, precision
        )
        with jobs.running(str(request.session_hash), progress) as checked:
            told = answer(photo, choices, read_look(state), passable(checked))
    except StoppedError:
        return gr.skip(), gr.skip(), "Stopped.", gr.skip()
    except (ValueError, OSError) as error:
        return gr.skip(), gr.skip(), f"⚠ {plain_message(error)}", gr.skip()
    shown = {"photo": photo, "choices": choices.model_dump(mode="json")}
    menu = gr.Dropdown(choices=told.classes, value=class_choice or "")
    return told.payload, menu, told.status, shown


def plain_message(error: Exception) -> str:
    """An error as a sentence; of a list of wrong fields the first."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{first['loc'][0]}: {first['msg']}."
    return str(error)


def restore(request: gr.Request) -> tuple[Any, ...]:
    """On a visit: the choices in the address, applied to the first example."""
    choices, problems = read_address(dict(request.query_params))
    for problem in problems:
        gr.Warning(problem)
    told = answer(EXAMPLES[0], choices, choices.look(), ignore_progress)
    return (
        EXAMPLES[0],
        list(choices.backbones),
        list(choices.methods),
        gr.Dropdown(choices=told.classes, value=choices.class_choice or ""),
        choices.space,
        choices.image_size,
        choices.output_stride or 0,
        choices.precision,
        told.payload,
        told.status,
        {"photo": EXAMPLES[0], "choices": choices.model_dump(mode="json")},
    )


def stop(request: gr.Request) -> str:
    """Stop the visitor's job."""
    return "Stopping …" if jobs.stop(str(request.session_hash)) else "Nothing is running."


def build_compare_tab(demo: gr.Blocks) -> None:
    """Lay out the tab and wire its events."""
    shown = gr.State(None)
    state = gr.Textbox("", visible="hidden", elem_id="viewer-state")
    with gr.Row(elem_id="compare"):
        with gr.Column(scale=0, min_width=300, elem_id="controls"):
            controls = build_controls()
            with gr.Row(elem_id="run"):
                explain_button = gr.Button(
                    "Explain", variant="primary", min_width=80, elem_id="explain"
                )
                stop_button = gr.Button("Stop", min_width=80, elem_id="stop")
            status = gr.Markdown(elem_id="status")
        with gr.Column(scale=1, min_width=320, elem_id="result"):
            viewer = gr.HTML(
                None,
                html_template='<div class="viewer-host"></div>',
                css_template=viewer_style(),
                js_on_load="\n".join(
                    (viewer_script(), (ASSETS / "compare.js").read_text(encoding="utf-8"))
                ),
                apply_default_css=False,
                elem_id="viewer",
            )
            build_plots(shown, state)
            build_downloads(shown, state)
    inputs = [*controls.as_list(), state]
    outputs = [viewer, controls.class_choice, status, shown]
    gr.on(
        [
            explain_button.click,
            controls.photo.input,
            controls.class_choice.input,
            controls.methods.input,
            controls.space.input,
        ],
        explain_photo,
        inputs,
        outputs,
        js=FILL_STATE,
        show_progress_on=status,
        concurrency_limit=4,
        api_visibility="private",
    )
    stop_button.click(stop, None, status, queue=False, api_visibility="private")
    demo.load(
        restore,
        None,
        [*controls.as_list(), *outputs[:1], status, shown],
        show_progress="hidden",
        api_visibility="private",
    )
    demo.load(None, js=FOLD_CHOICES)
