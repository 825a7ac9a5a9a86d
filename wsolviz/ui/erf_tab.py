"""The ERF tab: handlers first, then the layout, then the chain of events."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from wsolviz.fields.figures import MapLook, Scale
from wsolviz.fields.request import FieldRequest, Fields
from wsolviz.fields.run import measure_fields
from wsolviz.fields.step import Step
from wsolviz.progress import Progress, StoppedError, SupersededError
from wsolviz.render import SEQUENTIAL
from wsolviz.ui.controls import add_timm
from wsolviz.ui.erf_controls import build_choices, offer_backbones, offer_source
from wsolviz.ui.erf_localization import (
    LocalizationPart,
    build_localization,
    draw_scatter_if_open,
    measure_localization,
    offer_data,
)
from wsolviz.ui.erf_question import note_on_photos, read_field_question
from wsolviz.ui.erf_results import (
    draw_curves,
    draw_maps,
    head_html,
    look_of,
    maps_html,
    numbers_html,
    save_report,
    save_zip,
)
from wsolviz.ui.jobs import Jobs
from wsolviz.ui.question import without_paths
from wsolviz.ui.status import plain_message, say
from wsolviz.zero_gpu import can_stop, on_gpu, passable

FIRST = "Press Measure: which pixels does the middle of the feature map look at?"
SAVE_FILE = "() => setTimeout(() => document.querySelector('#erf-file').click(), 100)"

jobs = Jobs()


def measure(
    backbones: list[str],
    weights: list[str],
    size: float | None,
    source: str,
    sent: list[str] | None,
    number: float | None,
    seed: float | None,
    scale: Scale,
    own_maximum: bool,
    colormap: str,
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
) -> tuple[Any, ...]:
    """Measure the fields of some backbones.

    Returns:
        The fields, which are kept, a heading, the maps, the numbers, two plots and a status line.
        What went wrong is said in that line, and what was shown before stays.
    """
    nothing = (gr.skip(),) * 6
    start = time.perf_counter()
    try:
        asked = read_field_question(backbones, weights, size, source, sent, number, seed)
        with jobs.running(str(request.session_hash), asked, progress) as checked:
            fields = measure_request(asked, passable(checked)).for_visitors()
    except SupersededError:
        return *nothing, gr.skip()
    except StoppedError:
        return *nothing, say("Stopped. What was measured is kept: Measure goes on from there.")
    except (ValueError, OSError) as error:
        return *nothing, say(without_paths(plain_message(error)), problem=True)
    if not fields.rows:
        return *nothing, say(*dict.fromkeys(row.notice for row in fields.missing), problem=True)
    look = look_of(scale, own_maximum, colormap)
    shown = head_html(fields), maps_html(fields, look), numbers_html(fields)
    told = describe(fields, time.perf_counter() - start, note_on_photos(asked, source, number))
    return fields, *shown, *draw_curves(fields), told


@on_gpu
def measure_request(asked: FieldRequest, progress: Progress) -> Fields:
    """Measure, and tell how far it is."""

    def tell(step: Step) -> None:
        progress(step.share, step.text)

    return measure_fields(asked, tell)


def describe(fields: Fields, seconds: float, note: str) -> str:
    """The status line: what was measured, and what to know about its photos."""
    count, passes = len(fields.rows), len(fields.rows) * len(fields.request.photos)
    reused = sum(row.num_reused for row in fields.rows)
    told = f"{count} field{'s' if count > 1 else ''} of {fields.photos} in {seconds:.1f} s"
    told += f"; {reused} of {passes} passes were measured before." if reused else "."
    notes = [note] if note else []
    return say(told, *notes, *(f"Missing: {row.label}." for row in fields.missing))


def stop(request: gr.Request) -> str:
    """Stop the visitor's measurement."""
    if not can_stop():
        return say("On this Space's shared GPU a job cannot be stopped; it ends by itself.")
    running = jobs.stop(str(request.session_hash))
    return say("Stopping …" if running else "Nothing is running.")


def show_panel(kept: Fields | None) -> Any:
    """The results appear with the first of them."""
    return gr.Column(visible=kept is not None)


def evaluate_here(
    kept: Fields | None,
    data: str | None,
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
) -> str:
    """Measure the backbones of the fields on a data set, under this tab's Stop."""
    return measure_localization(kept, data, jobs, str(request.session_hash), progress)


def build_erf_tab(demo: gr.Blocks, roots: Iterable[Path]) -> None:
    """Lay out the tab and wire it.

    Args:
        demo: the page.
        roots: the folders that the server's owner allows.
    """
    with gr.Row(elem_id="erf"):
        with gr.Column(scale=0, min_width=300, elem_classes="choices"):
            inputs, timm_name = build_choices()
            with gr.Row():
                go = gr.Button("Measure", variant="primary", min_width=80, elem_id="erf-go")
                halt = gr.Button("Stop", min_width=80, elem_id="erf-stop")
            status = gr.HTML(say(FIRST), apply_default_css=False, elem_id="erf-status")
        with gr.Column(scale=1, min_width=320):
            results = _build_results(roots)
    outputs = [results.kept, results.head, results.maps, results.numbers, *results.curves, status]
    measured = go.click(
        measure,
        [*inputs, *results.look],
        outputs,
        show_progress_on=status,
        trigger_mode="multiple",  # a new one ends the visitor's job before it, see `Jobs`
        concurrency_limit=1,
        api_visibility="private",
    )
    measured.success(show_panel, results.kept, results.panel, api_visibility="private")
    halt.click(stop, None, status, queue=False, api_visibility="private")
    backbones, _, _, source, *of_source = inputs
    timm_name.submit(
        add_timm, [timm_name, backbones], [timm_name, backbones], api_visibility="private"
    )
    source.input(offer_source, source, of_source, api_visibility="private")
    demo.load(offer_backbones, None, backbones, show_progress="hidden", api_visibility="private")
    _wire_results(results)
    _wire_localization(results, measured)


@dataclass(frozen=True)
class _Results:
    """The components that show results, all in a panel that appears with the first of them."""

    panel: gr.Column
    kept: gr.State
    head: gr.HTML
    look: list[Any]
    maps: gr.HTML
    numbers: gr.HTML
    curves: list[gr.Plot]
    localization: LocalizationPart
    savers: list[gr.Button]
    file: gr.DownloadButton


def _build_results(roots: Iterable[Path]) -> _Results:
    kept, usual = gr.State(None), MapLook()
    with gr.Column(visible=False, elem_id="erf-results") as panel:
        head = gr.HTML(apply_default_css=False, elem_id="erf-head")
        with gr.Row(elem_id="erf-look"):
            scale = gr.Radio(list(get_args(Scale)), value=usual.scale, label="Scale")
            colormap = gr.Dropdown(list(SEQUENTIAL), value=usual.colormap, label="Colours")
            own = gr.Checkbox(value=usual.own_maximum, label="Each map up to its own maximum")
        maps = gr.HTML(apply_default_css=False, elem_id="erf-maps")
        numbers = gr.HTML(apply_default_css=False, elem_id="erf-numbers")
        curves = [gr.Plot(show_label=False), gr.Plot(show_label=False)]
        part = build_localization(roots)
        with gr.Row(elem_id="erf-downloads"):
            labels = ("ZIP: NPZ, PNG, JSON, CSV, report", "Offline HTML report")
            savers = [gr.Button(label, size="sm") for label in labels]
    file = gr.DownloadButton(visible="hidden", elem_id="erf-file")
    look = [scale, own, colormap]
    return _Results(panel, kept, head, look, maps, numbers, curves, part, savers, file)


def _wire_results(results: _Results) -> None:
    drawn = [results.kept, *results.look]
    gr.on(
        [control.input for control in results.look],
        draw_maps,
        drawn,
        results.maps,
        api_visibility="private",
    )
    for button, save in zip(results.savers, (save_zip, save_report), strict=True):
        button.click(save, drawn, results.file, api_visibility="private").success(
            None, js=SAVE_FILE
        )


def _wire_localization(results: _Results, measured: Any) -> None:
    """Draw after every measurement, and where another data set or share is chosen."""
    part = results.localization
    drawing: dict[str, Any] = {
        "fn": draw_scatter_if_open,
        "inputs": [part.is_open, results.kept, part.data, part.threshold],
        "outputs": [part.plot, part.told],
        "api_visibility": "private",
    }
    offered = measured.success(offer_data, None, part.data, api_visibility="private")
    offered.success(**drawing)
    gr.on([part.is_open.change, part.data.input, part.threshold.input], **drawing)
    part.go.click(
        evaluate_here,
        [results.kept, part.data],
        part.status,
        show_progress_on=part.status,
        concurrency_limit=1,  # one journal, one writer
        api_visibility="private",
    ).success(**drawing)
