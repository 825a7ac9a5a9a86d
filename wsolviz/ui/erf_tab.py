"""The ERF tab: handlers first, then the layout, then the chain of events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from wsolviz.defaults import DEFAULTS
from wsolviz.fields.figures import MapLook, Scale
from wsolviz.fields.request import FieldRequest, Fields, Step, WeightsKind
from wsolviz.fields.run import measure_fields
from wsolviz.progress import Progress, StoppedError, SupersededError
from wsolviz.render import SEQUENTIAL
from wsolviz.ui.backbones import backbone_menu, menu_with
from wsolviz.ui.controls import SIZE_LABEL, add_timm
from wsolviz.ui.erf_question import (
    BUNDLED,
    CHOICE_LABEL,
    MAX_PHOTOS,
    NUMBER_LABEL,
    OWN,
    photo_sources,
    read_field_question,
)
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

SIDE, PHOTOS = 224, 3  # at first: an answer within seconds
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
    return fields, *shown, *draw_curves(fields), describe(fields, time.perf_counter() - start)


@on_gpu
def measure_request(asked: FieldRequest, progress: Progress) -> Fields:
    """Measure, and tell how far it is."""

    def tell(step: Step) -> None:
        progress(step.share, step.text)

    return measure_fields(asked, tell)


def describe(fields: Fields, seconds: float) -> str:
    """The status line: what was measured."""
    count, photos = len(fields.rows), len(fields.request.photos)
    reused = sum(row.num_reused for row in fields.rows)
    told = f"{count} field{'s' if count > 1 else ''} of {photos} photos in {seconds:.1f} s"
    told += f"; {reused} of {count * photos} passes were measured before." if reused else "."
    return say(told, *(f"Missing: {row.label}." for row in fields.missing))


def stop(request: gr.Request) -> str:
    """Stop the visitor's measurement."""
    if not can_stop():
        return say("On this Space's shared GPU a job cannot be stopped; it ends by itself.")
    running = jobs.stop(str(request.session_hash))
    return say("Stopping …" if running else "Nothing is running.")


def offer_source(source: str) -> tuple[Any, Any, Any]:
    """The fields that belong to a source of photos: the upload, or the number and the choice."""
    own = source == OWN
    return gr.File(visible=own), gr.Slider(visible=not own), gr.Number(visible=not own)


def offer_backbones() -> Any:
    """On a visit: what is here now, which may have changed since the page was laid out."""
    return menu_with(DEFAULTS.backbones)


def show_panel(kept: Fields | None) -> Any:
    """The results appear with the first of them."""
    return gr.Column(visible=kept is not None)


@dataclass(frozen=True)
class ErfTab:
    """The components that later parts of the tab stand on.

    Attributes:
        kept: the fields that are shown.
        measured: the event after which they are.
        panel: where results stand.
    """

    kept: gr.State
    measured: Any
    panel: gr.Column


def build_erf_tab(demo: gr.Blocks) -> ErfTab:
    """Lay out the tab and wire it.

    Args:
        demo: the page.
    """
    with gr.Row(elem_id="erf"):
        with gr.Column(scale=0, min_width=300, elem_classes="choices"):
            inputs, timm_name = _build_choices()
            with gr.Row():
                go = gr.Button("Measure", variant="primary", min_width=80, elem_id="erf-go")
                halt = gr.Button("Stop", min_width=80, elem_id="erf-stop")
            status = gr.HTML(say(FIRST), apply_default_css=False, elem_id="erf-status")
        with gr.Column(scale=1, min_width=320):
            results = _build_results()
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
    return ErfTab(results.kept, measured, results.panel)


def _build_choices() -> tuple[list[Any], gr.Textbox]:
    """The components of `read_field_question`, in its order, and one that adds to the first."""
    backbones = gr.Dropdown(
        backbone_menu(),
        value=list(DEFAULTS.backbones),
        multiselect=True,
        max_choices=DEFAULTS.max_backbones,
        allow_custom_value=True,
        label="Backbones",
        info=f"Up to {DEFAULTS.max_backbones}. What is not here yet stands under Compare.",
        elem_id="erf-backbones",
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
    savers: list[gr.Button]
    file: gr.DownloadButton


def _build_results() -> _Results:
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
        with gr.Row(elem_id="erf-downloads"):
            labels = ("ZIP: NPZ, PNG, JSON, CSV, report", "Offline HTML report")
            savers = [gr.Button(label, size="sm") for label in labels]
    file = gr.DownloadButton(visible="hidden", elem_id="erf-file")
    look = [scale, own, colormap]
    return _Results(panel, kept, head, look, maps, numbers, curves, savers, file)


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
