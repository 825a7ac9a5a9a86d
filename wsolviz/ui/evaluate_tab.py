"""The Evaluate tab: handlers first, then the layout, then the chain of events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.dataset import splits_of
from wsolviz.evaluation.evaluate import RESULTS, TABLE
from wsolviz.evaluation.figures import PXAP, Figures, method_title
from wsolviz.evaluation.plots import CURVES
from wsolviz.evaluation.report import write_report
from wsolviz.evaluation.results import FixedThresholds, evaluate_run
from wsolviz.methods import METHODS
from wsolviz.progress import Progress, StoppedError
from wsolviz.ui.backbones import backbones_here
from wsolviz.ui.cases import KINDS, draw_cases, open_case
from wsolviz.ui.compare_tab import CompareTab
from wsolviz.ui.data_roots import datasets, find_datasets
from wsolviz.ui.evaluate_results import describe, draw_curves, results_table
from wsolviz.ui.jobs import Jobs
from wsolviz.ui.question import EXPLAINED, NONE, Question, without_paths
from wsolviz.ui.status import plain_message, say
from wsolviz.ui.viewer import ASSETS, JSON

DEFAULT_CURVE = "BoxAccV2@50"
FIRST = "Choose a data set and press Evaluate."
NOTHING_ALLOWED = (
    "No data set may be read here. The owner of this server allows folders at the start: "
    "`python -m wsolviz app --data-root FOLDER`, or the variable `WSOLVIZ_DATA_ROOTS`. A data set "
    "has the WSOL benchmark's files in `metadata/SPLIT/`, and photos in `images/` or in zip files."
)

jobs = Jobs()


def measure(
    dataset: str,
    split: str,
    threshold_from: str,
    backbone: str,
    methods: list[str],
    explained: str,
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio finds it by its default)
) -> tuple[Any, ...]:
    """Measure a data set.

    Returns:
        What is kept (the question and its results), the table, the method menu, the files and a
        status line. What went wrong is said in that line, and what was shown before stays.
    """
    nothing = gr.skip(), gr.skip(), gr.skip(), gr.skip()
    asked = Question(dataset, split, threshold_from, backbone, tuple(methods), EXPLAINED[explained])
    start = time.perf_counter()
    try:
        with jobs.running(str(request.session_hash), asked, progress) as checked:
            results, files = _measure(asked, checked)
    except StoppedError:
        return *nothing, say("Stopped. What was measured is kept: Evaluate goes on from there.")
    except (ValueError, OSError) as error:
        return *nothing, say(without_paths(plain_message(error)), problem=True)
    names = [name for name, cases in results["cases"].items() if cases["worst"]]
    choices = [(method_title(name), name) for name in names]
    return (
        {"question": asdict(asked), "results": results},
        results_table(results),
        gr.Radio(choices, value=names[0] if names else None, visible=bool(names)),
        [str(path) for path in files],
        describe(results, time.perf_counter() - start),
    )


def _measure(asked: Question, progress: Progress) -> tuple[Figures, list[Path]]:
    """The results of the last split, and the files that were written about it."""
    fixed, results, files = None, {}, []
    for split in asked.splits:
        progress(0.0, f"{split}: loading")
        run = asked.run(split)
        results = evaluate_run(run, fixed, _teller(split, progress))
        progress(1.0, f"{split}: drawing the report")
        files = [write_report(run, results), run.folder / RESULTS, run.folder / TABLE]
        fixed = FixedThresholds.of(results)
    return results, files


def _teller(split: str, progress: Progress) -> Callable[[int, int, int], None]:
    """A run's progress, told with its speed."""
    begun = time.perf_counter()

    def tell(done: int, total: int, skipped: int) -> None:
        speed = done / max(time.perf_counter() - begun, 1e-3)
        told = f"{split}: {done} of {total} images, {speed:.0f} images/s"
        progress(done / max(total, 1), f"{told}, {skipped} skipped" if skipped else told)

    return tell


def stop(request: gr.Request) -> str:
    """Stop the visitor's measurement."""
    running = jobs.stop(str(request.session_hash))
    return say("Stopping …" if running else "Nothing is running.")


def offer_splits(dataset: str) -> tuple[Any, Any]:
    """The two split menus of a data set: what is measured, and where thresholds may come from."""
    names = splits_of(datasets[dataset])
    return gr.Dropdown(names, value=usual(names)), gr.Dropdown([NONE, *names], value=NONE)


def usual(names: list[str]) -> str:
    """The split that is offered first."""
    return "test" if "test" in names else names[-1]


def build_evaluate_tab(roots: Iterable[Path], tabs: gr.Tabs, compare_tab: CompareTab) -> None:
    """Lay out the tab and wire it.

    Args:
        roots: the folders that the server's owner allows.
        tabs: all tabs.
        compare_tab: where images are opened.

    Raises:
        FileNotFoundError: a root that does not exist.
        ValueError: a root without a data set.
    """
    datasets.clear()
    datasets.update(find_datasets(roots))
    if not datasets:
        gr.Markdown(NOTHING_ALLOWED)
        return
    with gr.Row(elem_id="evaluate"):
        with gr.Column(scale=0, min_width=300, elem_classes="choices"):
            inputs = _build_choices()
            with gr.Row():
                go = gr.Button("Evaluate", variant="primary", min_width=80, elem_id="evaluate-go")
                halt = gr.Button("Stop", min_width=80, elem_id="evaluate-stop")
            status = gr.HTML(say(FIRST), apply_default_css=False, elem_id="evaluate-status")
        with gr.Column(scale=1, min_width=320):
            results = _build_results()
    go.click(
        measure,
        inputs,
        [results.kept, results.table, results.method, results.files, status],
        show_progress_on=status,
        concurrency_limit=1,  # one journal, one writer
        api_visibility="private",
    ).success(_show, results.kept, [results.panel], api_visibility="private")
    halt.click(stop, None, status, queue=False, api_visibility="private")
    inputs[0].input(offer_splits, inputs[0], inputs[1:3], api_visibility="private")
    gr.on(
        [results.kept.change, results.criterion.input],
        draw_curves,
        [results.kept, results.criterion],
        results.curves,
        api_visibility="private",
    )
    shown_cases = [results.kept, results.method, results.kind]
    gr.on(
        [results.kept.change, results.method.input, results.kind.input],
        draw_cases,
        shown_cases,
        results.gallery,
        api_visibility="private",
    )
    results.gallery.select(
        open_case,
        shown_cases,
        [tabs, compare_tab.controls.photo, *compare_tab.page],
        api_visibility="private",
    )


@dataclass(frozen=True)
class _Results:
    """The components that show results, all in a panel that appears with the first of them."""

    panel: gr.Column
    kept: gr.State
    table: gr.HTML
    criterion: gr.Dropdown
    curves: gr.Plot
    method: gr.Radio
    kind: gr.Radio
    gallery: gr.Gallery
    files: gr.Files


def _show(kept: JSON | None) -> Any:
    return gr.Column(visible=kept is not None)


def _build_results() -> _Results:
    kept = gr.State(None)
    with gr.Column(visible=False, elem_id="evaluate-results") as panel:
        table = gr.HTML(
            css_template=(ASSETS / "evaluate_table.css").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="evaluate-table",
        )
        criterion = gr.Dropdown(
            [*CURVES, PXAP], value=DEFAULT_CURVE, label="Curve", elem_id="evaluate-curve"
        )
        curves = gr.Plot(show_label=False, visible=False)
        with gr.Row():
            method = gr.Radio([], label="Images of", elem_id="evaluate-method")
            kind = gr.Radio(KINDS, value=KINDS[0], label="which are", elem_id="evaluate-kind")
        gallery = gr.Gallery(
            label="A click opens the image in Compare",
            columns=4,
            object_fit="contain",  # a crop would cut boxes off
            allow_preview=False,
            elem_id="evaluate-cases",
        )
        files = gr.Files(label="Report, figures and table", elem_id="evaluate-files")
    return _Results(panel, kept, table, criterion, curves, method, kind, gallery, files)


def _build_choices() -> list[Any]:
    """What `measure` is asked, in its order."""
    names = list(datasets)
    splits = splits_of(datasets[names[0]])
    return [
        gr.Dropdown(names, value=names[0], label="Data set", elem_id="evaluate-dataset"),
        gr.Dropdown(splits, value=usual(splits), label="Split", elem_id="evaluate-split"),
        gr.Dropdown(
            [NONE, *splits],
            value=NONE,
            label="Thresholds also from",
            info="Chosen on another split: what an unseen image would get.",
            elem_id="evaluate-threshold-from",
        ),
        gr.Dropdown(
            backbones_here(),
            value=DEFAULTS.backbones[0],
            allow_custom_value=True,
            label="Backbone",
            info="Or timm/NAME.",
            elem_id="evaluate-backbone",
        ),
        gr.CheckboxGroup(
            [(panel.title, name) for name, panel in METHODS.items() if panel.cost != "slow"],
            value=list(DEFAULTS.methods),
            label="Methods",
            elem_id="evaluate-methods",
        ),
        gr.Radio(
            list(EXPLAINED),
            value=next(iter(EXPLAINED)),
            label="Explain",
            elem_id="evaluate-class-from",
        ),
    ]
