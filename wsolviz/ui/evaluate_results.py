"""What the Evaluate tab shows of results: the status line, the table and the curves."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wsolviz.evaluation.figures import PXAP, Figures, facts, summary, with_method_titles
from wsolviz.evaluation.plots import accuracy_figure, precision_figure
from wsolviz.pages import table_html
from wsolviz.ui.question import EXPLAINED, without_paths
from wsolviz.ui.status import say
from wsolviz.ui.viewer import JSON


def describe(results: Figures, seconds: float) -> str:
    """The status line: what was measured, and what to know about it."""
    settings, skipped = results["settings"], results["skipped"]
    (explained,) = (text for text, of in EXPLAINED.items() if of == settings["class_from"])
    measured = f"{results['num_images']} images in {seconds:.1f} s"
    told = [f"{'; '.join([measured, f'{explained} was explained', *facts(results)])}."]
    if skipped:
        told.append(
            f"{len(skipped)} skipped, such as {skipped[0]['image_id']}: {skipped[0]['reason']}"
        )
    return say(without_paths(" ".join(told)), problem=bool(skipped))


def results_table(results: Figures) -> str:
    """All figures as HTML, in a box that scrolls, by the keyboard too."""
    table = table_html(*summary(with_method_titles(results), "full"))
    return f'<div class="wide" role="region" aria-label="Results" tabindex="0">{table}</div>'


def draw_curves(kept: JSON | None, criterion: str) -> Any:
    """Accuracy against threshold, or precision against recall."""
    if kept is None:
        return gr.skip()
    results = with_method_titles(kept["results"])
    only_masks = not any(method["num_with_boxes"] for method in results["methods"].values())
    in_masks = criterion == PXAP or only_masks
    figure = precision_figure(results) if in_masks else accuracy_figure(results, criterion)
    return gr.Plot(figure, visible=figure is not None)
