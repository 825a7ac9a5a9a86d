"""The panel of plots below the grid."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wsolviz.compare import Row
from wsolviz.defaults import DEFAULTS
from wsolviz.methods import find_panel
from wsolviz.render import Look
from wsolviz.types import Explanation
from wsolviz.ui.downloads import again, told_in_page
from wsolviz.ui.plots import Box, decomposition_figure
from wsolviz.ui.status import say
from wsolviz.ui.viewer import JSON
from wsolviz.ui.viewer_state import FILL_STATE, is_narrow, read_look
from wsolviz.zero_gpu import on_gpu


@on_gpu
@told_in_page()
def draw_plots(shown: JSON | None, state: str) -> list[Any]:
    """A caption and a figure a row: inside or outside the true box, or the first heatmap's box."""
    look, narrow = read_look(state), is_narrow(state)
    updates: list[Any] = []
    for row in again(shown).rows if shown else ():
        if row.failure:
            continue
        box, caption = _plot_box(row, look)
        figure = decomposition_figure(row, box, narrow=narrow)
        heading = gr.HTML(say(_heading(row, caption)), visible=True)
        updates += [heading, gr.Plot(figure, visible=True)]
    missing = DEFAULTS.max_backbones - len(updates) // 2
    return [*updates, *[gr.HTML(visible=False), gr.Plot(visible=False)] * missing]


def draw_plots_if_open(is_open: bool, shown: JSON | None, state: str) -> Any:
    """Draw while the panel is open; a closed one costs nothing."""
    return draw_plots(shown, state) if is_open else [gr.skip()] * (2 * DEFAULTS.max_backbones)


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


def _heading(row: Row, caption: str) -> str:
    assert row.inspection is not None and row.target is not None, "failed rows have no plots"
    return f"{row.inspection.photo.name}, {row.backbone}, {row.target.name}: {caption}"


def _plot_box(row: Row, look: Look) -> tuple[Box | None, str]:
    """The box that tells positions apart, and a caption that names it."""
    if look.true_box is not None:
        return look.true_box, "inside or outside the true box"
    for cell in row.cells:
        if isinstance(cell, Explanation):
            threshold = look.threshold_of(cell.backbone, cell.method)
            title = find_panel(cell.method).title
            for x0, y0, x1, y1 in cell.boxes_at(threshold).tolist():
                caption = f"inside or outside the box of {title} at threshold {threshold:.2f}"
                return (x0, y0, x1, y1), caption
    return None, "every position; a true box would tell inside from outside"


def build_plots(shown: gr.State, state: gr.Textbox) -> None:
    """Lay out the panel and wire it."""
    with gr.Accordion("Plots: ‖F‖ against cosine", open=False, elem_id="plots") as accordion:
        refresh = gr.Button("Redraw for the boxes as they are now", size="sm")
        plots: list[Any] = []
        for _ in range(DEFAULTS.max_backbones):
            plots.append(
                gr.HTML(visible=False, apply_default_css=False, elem_classes="plot-caption")
            )
            plots.append(gr.Plot(visible=False, show_label=False))
    is_open = gr.State(False)
    accordion.expand(_yes, None, is_open, api_visibility="private")
    accordion.collapse(_no, None, is_open, api_visibility="private")
    gr.on(
        [is_open.change, shown.change, refresh.click],
        draw_plots_if_open,
        [is_open, shown, state],
        plots,
        js=FILL_STATE,
        api_visibility="private",
    )
