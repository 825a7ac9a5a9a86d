"""The part of the ERF tab that sets fields against localization."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from wsolviz.analysis.erf import THRESHOLDS
from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.figures import method_title
from wsolviz.evaluation.results import evaluate_run
from wsolviz.fields.localization import (
    Localization,
    correlations,
    find_results,
    pair,
    read_results,
    scatter_figure,
)
from wsolviz.fields.request import SIZE_WARNING, Fields
from wsolviz.progress import Progress, StoppedError
from wsolviz.ui.data_roots import allowed_splits
from wsolviz.ui.jobs import Jobs
from wsolviz.ui.question import NONE, Question, runs_folder, without_paths
from wsolviz.ui.status import plain_message, say

FIRST_THRESHOLD = 0.5
NO_DATA = (
    "There is nothing to set fields against: no data set may be read here. The owner of this "
    "server allows folders at the start; see Evaluate."
)

roots: list[Path] = []
"""Allowed folders in which results may lie; filled when the tab is built."""


def known_localizations() -> list[Localization]:
    """What the runs of this app say, and those in the allowed folders, of allowed data sets.

    The folder of this app's runs is shared with every other server of this computer, whose owners
    may have allowed other data sets.
    """
    found: list[Localization] = []
    for folder in (*roots, runs_folder()):
        for path in find_results(folder):
            try:
                found += read_results(path)
            except (ValueError, OSError):
                continue  # another program's file of that name, or a run that is being written
    allowed = allowed_splits()
    return [told for told in found if told.data in allowed]


def offer_data() -> Any:
    """The allowed data sets, those that results are of first."""
    measured = (told.data for told in known_localizations())
    names = list(dict.fromkeys([*measured, *allowed_splits()]))
    return gr.Dropdown(names, value=names[0] if names else None)


def draw_scatter(kept: Fields | None, data: str | None, threshold: float) -> tuple[Any, str]:
    """The plot, and what the correlations are."""
    if kept is None or not data:
        return gr.Plot(visible=False), say(NO_DATA)
    told = [
        replace(found, method=method_title(found.method))
        for found in known_localizations()
        if found.data == data
    ]
    points = pair(kept.rows, told, threshold)
    if not points:
        return gr.Plot(visible=False), say(
            f"There are no results on {data} of the backbones whose trained fields are above."
        )
    figure = scatter_figure(points, data, kept.request.size, threshold)
    lines = [found.text for found in correlations(points)]
    return gr.Plot(figure, visible=True), say(
        *lines,
        "In brackets 95 % intervals: of a point over photos, of a correlation over backbones.",
        SIZE_WARNING,
    )


def draw_scatter_if_open(
    is_open: bool, kept: Fields | None, data: str | None, threshold: float
) -> tuple[Any, Any]:
    """Draw while the part is open: a plot in a closed one does not know its width."""
    return draw_scatter(kept, data, threshold) if is_open else (gr.skip(), gr.skip())


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


def measure_localization(
    kept: Fields | None,
    data: str | None,
    jobs: Jobs,
    visitor: str,
    progress: Progress,
) -> str:
    """Measure the backbones of the fields on a data set; returns a line on what was done."""
    if kept is None or not data:
        return say("Measure fields first, and choose a data set.", problem=True)
    name, _, split = data.rpartition("/")
    backbones = [row.backbone for row in kept.rows if row.weights == "trained"]
    try:
        with jobs.running(visitor, data, progress) as checked:
            for i, backbone in enumerate(backbones):
                _evaluate(name, split, backbone, _share(checked, backbone, i, len(backbones)))
    except StoppedError:
        return say("Stopped. What was measured is kept: the next run goes on from there.")
    except (ValueError, OSError) as error:
        return say(without_paths(plain_message(error)), problem=True)
    return say(f"{', '.join(backbones) or 'Nothing'} measured on {data}.")


def _evaluate(name: str, split: str, backbone: str, progress: Progress) -> None:
    progress(0.0, "loading")
    run = Question(name, split, NONE, backbone, DEFAULTS.methods, "label").run(split)

    def tell(done: int, total: int, skipped: int) -> None:
        progress(done / max(total, 1), f"{done} of {total} images")

    evaluate_run(run, None, tell)


def _share(progress: Progress, backbone: str, index: int, count: int) -> Progress:
    """The progress of one backbone as that of all."""
    return lambda share, text: progress((index + share) / count, f"{backbone}: {text}")


@dataclass(frozen=True)
class LocalizationPart:
    """The components; `is_open` tells whether they are seen."""

    is_open: gr.State
    data: gr.Dropdown
    threshold: gr.Radio
    go: gr.Button
    status: gr.HTML
    plot: gr.Plot
    told: gr.HTML


def build_localization(folders: Iterable[Path]) -> LocalizationPart:
    """Lay out the part.

    Args:
        folders: allowed ones, in which results may lie.
    """
    roots[:] = folders
    with gr.Accordion("ERF against localization", open=False, elem_id="erf-localization") as part:
        with gr.Row():
            data = gr.Dropdown([], label="Data set", elem_id="erf-data")
            threshold = gr.Radio(
                [(f"{t:.0%}", t) for t in THRESHOLDS],
                value=FIRST_THRESHOLD,
                label="Area that holds",
                elem_id="erf-threshold",
            )
        go = gr.Button("Measure these backbones on it", size="sm", elem_id="erf-evaluate")
        status = gr.HTML(apply_default_css=False, elem_id="erf-evaluate-status")
        told = gr.HTML(apply_default_css=False, elem_id="erf-correlation")
        plot = gr.Plot(show_label=False, visible=False, elem_id="erf-scatter")
    is_open = gr.State(False)
    part.expand(_yes, None, is_open, api_visibility="private")
    part.collapse(_no, None, is_open, api_visibility="private")
    return LocalizationPart(is_open, data, threshold, go, status, plot, told)
