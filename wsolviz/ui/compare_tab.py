"""The Compare tab: handlers first, then the layout, then the chain of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from wsolviz.compare import Comparison, Row, compare
from wsolviz.defaults import DEFAULTS
from wsolviz.export import write_zip
from wsolviz.grid import grid_image
from wsolviz.methods import find_panel
from wsolviz.progress import Progress, StoppedError, ignore_progress
from wsolviz.render import Look
from wsolviz.report import report_html
from wsolviz.types import Explanation
from wsolviz.ui.address import Choices, read_address
from wsolviz.ui.controls import (
    EXAMPLES,
    add_timm,
    build_controls,
    class_choices,
    read_controls,
)
from wsolviz.ui.exports import new_file
from wsolviz.ui.jobs import Jobs
from wsolviz.ui.plots import decomposition_figure
from wsolviz.ui.viewer import ASSETS, JSON, viewer_payload, viewer_script, viewer_style
from wsolviz.zero_gpu import on_gpu, passable

jobs = Jobs()

# Filled in by the browser when an event starts: the viewer's threshold, overrides, true box …
FILL_STATE = "(...inputs) => { inputs[inputs.length - 1] = window.wsolvizState(); return inputs; }"
# On a phone the choices fold away above the grid.
FOLD_CHOICES = """() => {
  if (window.innerWidth < 768) document.querySelector("#choices > button.open")?.click();
}"""
SAVE_FILE = "() => setTimeout(() => document.querySelector('#file-to-save').click(), 100)"


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


def read_look(state: str) -> Look:
    """The viewer's state, as the browser tells it, as a look."""
    told = json.loads(state) if state else {}
    overrides = {
        tuple(key.rsplit("/", 1)): value for key, value in told.get("overrides", {}).items()
    }
    box = told.get("true_box")
    return Look(
        cam_threshold=told.get("threshold", DEFAULTS.cam_threshold),
        overrides=overrides,
        contours=told.get("contours", DEFAULTS.contours),
        opacity=told.get("opacity", DEFAULTS.opacity),
        colormap=told.get("colormap", DEFAULTS.colormap),
        true_box=tuple(box) if box else None,
    )


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


def again(shown: JSON | None) -> Comparison:
    """What is shown, computed again; the features are still kept, so that this costs little."""
    if shown is None:
        raise gr.Error("There is nothing to save yet: explain a photo first.")
    return compare(shown["photo"], Choices.model_validate(shown["choices"]).request())


@on_gpu
def save_grid(shown: JSON | None, state: str) -> str:
    """The grid as PNG."""
    comparison, path = again(shown), new_file("wsolviz-grid.png")
    grid_image(comparison, read_look(state)).save(path)
    return str(path)


@on_gpu
def save_zip(shown: JSON | None, state: str) -> str:
    """Every file of the export in a ZIP."""
    return str(write_zip(again(shown), read_look(state), new_file("wsolviz.zip")))


@on_gpu
def save_report(shown: JSON | None, state: str) -> str:
    """The offline report."""
    path = new_file("wsolviz-report.html")
    path.write_text(report_html(again(shown), read_look(state)), encoding="utf-8")
    return str(path)


@on_gpu
def draw_plots(shown: JSON | None, state: str) -> list[Any]:
    """One figure a row, inside or outside the true box, or the first heatmap's box where none."""
    look = read_look(state)
    figures = [
        gr.Plot(decomposition_figure(row, *_plot_box(row, look)), visible=True)
        for row in (again(shown).rows if shown else ())
        if row.inspection is not None
    ]
    empty = [gr.Plot(visible=False)] * (DEFAULTS.max_backbones - len(figures))
    return [*figures, *empty]


def _plot_box(row: Row, look: Look) -> tuple[tuple[int, int, int, int], str]:
    assert row.inspection is not None, "failed rows have no plots"
    if look.true_box is not None:
        return look.true_box, "the true box"
    for cell in row.cells:
        if isinstance(cell, Explanation):
            threshold = look.threshold_of(cell.backbone, cell.method)
            x0, y0, x1, y1 = (int(side) for side in cell.boxes_at(threshold)[0])
            title = find_panel(cell.method).title
            return (x0, y0, x1, y1), f"the box of {title} at threshold {threshold:.2f}"
    width, height = row.inspection.photo.size
    return (0, 0, width - 1, height - 1), "the photo"


def build_compare_tab(demo: gr.Blocks) -> None:
    """Lay out the tab and wire its events."""
    shown = gr.State(None)
    state = gr.Textbox("", visible="hidden", elem_id="viewer-state")
    with gr.Row(elem_id="compare"):
        with gr.Column(scale=0, min_width=300, elem_id="controls"):
            controls, timm_name = build_controls()
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
            _build_plots(shown, state)
            _build_downloads(shown, state)
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
    timm_name.submit(
        add_timm,
        [timm_name, controls.backbones],
        [timm_name, controls.backbones],
        api_visibility="private",
    )
    demo.load(
        restore,
        None,
        [*controls.as_list(), *outputs[:1], status, shown],
        show_progress="hidden",
        api_visibility="private",
    )
    demo.load(None, js=FOLD_CHOICES)


def _build_plots(shown: gr.State, state: gr.Textbox) -> None:
    with gr.Accordion("Plots: ‖F‖ against cosine", open=False, elem_id="plots") as accordion:
        refresh = gr.Button("Redraw for the boxes as they are now", size="sm")
        plots = [gr.Plot(visible=False, show_label=False) for _ in range(DEFAULTS.max_backbones)]
    gr.on(
        [accordion.expand, refresh.click],
        draw_plots,
        [shown, state],
        plots,
        js=FILL_STATE,
        api_visibility="private",
    )


def _build_downloads(shown: gr.State, state: gr.Textbox) -> None:
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
