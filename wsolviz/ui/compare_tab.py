"""The Compare tab: handlers first, then the layout, then the chain of events."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from wsolviz.compare import NOTHING_CHOSEN
from wsolviz.defaults import DEFAULTS
from wsolviz.methods import find_panel
from wsolviz.progress import StoppedError, SupersededError
from wsolviz.ui.address import Choices, read_address
from wsolviz.ui.answers import Answer, answer, answer_address
from wsolviz.ui.backbones import absent_list, menu_with
from wsolviz.ui.controls import EXAMPLES, Controls, add_timm, build_controls, read_controls
from wsolviz.ui.downloads import build_downloads, told_in_page
from wsolviz.ui.field_answer import build_field_answer
from wsolviz.ui.jobs import Jobs
from wsolviz.ui.plots_panel import build_plots
from wsolviz.ui.status import plain_message, say
from wsolviz.ui.viewer import ASSETS, JSON, viewer_script, viewer_style
from wsolviz.ui.viewer_state import FILL_STATE, read_look
from wsolviz.ui.weights_input import wire_weights
from wsolviz.zero_gpu import can_stop, passable

jobs = Jobs()


def explain_photo(
    photo: str | None,
    backbones: list[str],
    methods: list[str],
    class_choice: str | None,
    space: str,
    image_size: float | None,
    output_stride: int | None,
    precision: str,
    scales: str,
    flip: bool,
    shown: JSON | None,
    state: str,
    event: gr.EventData,
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
) -> tuple[Any, Any, Any, Any]:
    """Explain a photo; returns the payload, the class menu, a status line, and what is shown.

    Without a photo of the visitor's own, the one that is shown is meant. What the visitor did wrong
    is said in the status line, and what was shown before stays.
    """
    nothing = gr.skip(), gr.skip(), gr.skip(), gr.skip()
    source = photo or (shown or {}).get("photo", EXAMPLES[0])
    try:
        choices = read_controls(
            backbones,
            methods,
            class_choice,
            space,
            image_size,
            output_stride,
            precision,
            scales,
            flip,
        )
        now = {"photo": source, "choices": choices.model_dump(mode="json")}
        visitor = str(request.session_hash)
        if not isinstance(event.target, gr.Button):
            past = shown or {}
            if now.items() <= past.items():  # back at it, or a field was only passed through
                jobs.stop(visitor, SupersededError)
                return nothing
            if jobs.is_running(visitor, now) or now == past.get("stopped"):
                return nothing
        with jobs.running(visitor, now, progress) as checked:
            told = answer(source, choices, read_look(state), passable(checked))
    except StoppedError as stopped_by:
        if isinstance(stopped_by, SupersededError):
            return nothing
        stopped = say("Stopped; what was shown stays. Explain starts again.")
        return gr.skip(), gr.skip(), stopped, {**(shown or {}), "stopped": now}
    except (ValueError, OSError) as error:
        return gr.skip(), gr.skip(), say(plain_message(error), problem=True), gr.skip()
    menu = gr.Dropdown(choices=told.classes, value=class_choice or "")
    return told.payload, menu, told.status, now


def restore(request: gr.Request) -> tuple[Any, ...]:
    """On a visit: the choices in the address, applied to the first example."""
    choices, problems = read_address(dict(request.query_params))
    quick = tuple(name for name in choices.methods if find_panel(name).cost != "slow")
    if quick != choices.methods:
        problems.append("The slow methods of the address were left out; tick them to run them.")
        choices = choices.model_copy(update={"methods": quick or DEFAULTS.methods})
    told, choices, more = answer_address(EXAMPLES[0], choices)
    for problem in problems + more:
        gr.Warning(html.escape(problem))
    _, *others = page_values(EXAMPLES[0], choices, told)
    # What is here may have changed since the page was laid out.
    return menu_with(choices.backbones), *others


def reset(shown: JSON | None, request: gr.Request) -> tuple[Any, ...]:
    """Back to the defaults of everything but the photo."""
    jobs.stop(str(request.session_hash), SupersededError)
    photo = (shown or {}).get("photo", EXAMPLES[0])
    with told_in_page():
        told, choices, _ = answer_address(photo, Choices())
    return page_values(photo, choices, replace(told, payload={**told.payload, "resets": True}))


def page_values(photo: str, choices: Choices, told: Answer) -> tuple[Any, ...]:
    """Values for `CompareTab.page`: the controls, the grid, the status line, and what is shown."""
    return (
        list(choices.backbones),
        list(choices.methods),
        gr.Dropdown(choices=told.classes, value=choices.class_choice or ""),
        choices.space,
        choices.image_size,
        choices.output_stride or 0,
        choices.precision,
        ", ".join(map(str, choices.scales)),
        choices.flip,
        told.payload,
        told.status,
        {"photo": photo, "choices": choices.without_look().model_dump(mode="json")},
    )


def tell_if_none(backbones: list[str], request: gr.Request) -> Any:
    """What to say once every backbone was taken away, which Gradio does not report as an input."""
    if backbones:
        return gr.skip()
    jobs.stop(str(request.session_hash), SupersededError)
    return say(NOTHING_CHOSEN, problem=True)


def stop(request: gr.Request) -> str:
    """Stop the visitor's job."""
    if not can_stop():
        return say("On this Space's shared GPU a job cannot be stopped; it ends by itself.")
    running = jobs.stop(str(request.session_hash))
    return say("Stopping …" if running else "Nothing is running.")


@dataclass(frozen=True)
class CompareTab:
    """The tab's components.

    Attributes:
        controls: what says what to compute.
        explain: the button.
        stop: likewise.
        reset: likewise.
        status: one line on what was done.
        viewer: the grid.
        shown: what the grid shows, the photo and the choices.
        state: filled by the page with the viewer's state.
    """

    controls: Controls
    explain: gr.Button
    stop: gr.Button
    reset: gr.Button
    status: gr.HTML
    viewer: gr.HTML
    shown: gr.State
    state: gr.Textbox

    @property
    def page(self) -> list[Any]:
        """Everything but the visitor's photo, in the order of `page_values`."""
        return [*self.controls.as_list()[1:], self.viewer, self.status, self.shown]

    @property
    def explaining(self) -> JSON:
        """What an event is given to explain what is chosen."""
        return {
            "fn": explain_photo,
            "inputs": [*self.controls.as_list(), self.shown, self.state],
            "outputs": [self.viewer, self.controls.class_choice, self.status, self.shown],
            "js": FILL_STATE,
            "show_progress_on": self.status,
            "trigger_mode": "multiple",  # a new choice ends the visitor's job before it, see `Jobs`
            "concurrency_limit": 4,
            "api_visibility": "private",
        }


def build_compare_tab(demo: gr.Blocks, *, uploads: bool = False) -> CompareTab:
    """Lay out the tab and wire its events.

    Args:
        demo: the page.
        uploads: whether visitors may send weights files.
    """
    tab = _lay_out(uploads=uploads)
    _wire_explaining(tab)
    if tab.controls.weights is not None:
        wire_weights(tab.controls.weights, tab.controls.backbones, tab.explaining)
    tab.controls.backbones.change(
        tell_if_none, tab.controls.backbones, tab.status, queue=False, api_visibility="private"
    )
    tab.stop.click(stop, None, tab.status, queue=False, api_visibility="private")
    tab.reset.click(
        reset,
        tab.shown,
        tab.page,
        show_progress_on=tab.status,
        concurrency_limit=4,
        api_visibility="private",
    )
    demo.load(
        restore,
        None,
        tab.page,
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )
    demo.load(
        absent_list, None, tab.controls.absent, show_progress="hidden", api_visibility="private"
    )
    demo.load(None, js=(ASSETS / "choices.js").read_text(encoding="utf-8"))
    return tab


def _lay_out(*, uploads: bool) -> CompareTab:
    shown = gr.State(None)
    state = gr.Textbox("", visible="hidden", elem_id="viewer-state")
    with gr.Row(elem_id="compare"):
        with gr.Column(scale=0, min_width=300, elem_id="controls"):
            controls = build_controls(uploads=uploads)
            with gr.Column(elem_id="run"):
                with gr.Row():
                    explain = gr.Button(
                        "Explain", variant="primary", size="md", min_width=80, elem_id="explain"
                    )
                    halt = gr.Button("Stop", size="md", min_width=60, elem_id="stop")
                    back = gr.Button("Reset", size="md", min_width=60, elem_id="reset")
                status = gr.HTML(apply_default_css=False, elem_id="status")
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
            build_field_answer(viewer, shown)
            build_plots(shown, state)
            build_downloads(shown, state)
    return CompareTab(controls, explain, halt, back, status, viewer, shown, state)


def _wire_explaining(tab: CompareTab) -> None:
    """Every choice explains the photo anew, at once."""
    controls = tab.controls
    gr.on(
        [
            tab.explain.click,
            controls.photo.change,
            controls.backbones.input,
            controls.methods.input,
            controls.class_choice.input,
            controls.space.input,
            controls.image_size.submit,
            controls.image_size.blur,
            controls.output_stride.input,
            controls.precision.input,
            controls.scales.submit,
            controls.scales.blur,
            controls.flip.input,
        ],
        **tab.explaining,
    )
    added = controls.timm_name.submit(
        add_timm,
        [controls.timm_name, controls.backbones],
        [controls.timm_name, controls.backbones],
        api_visibility="private",
    )
    added.success(**tab.explaining)
