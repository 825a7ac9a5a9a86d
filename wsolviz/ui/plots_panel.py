"""The panel of plots below the grid."""

from __future__ import annotations

from typing import Any

import gradio as gr

from wsolviz.compare import Row
from wsolviz.defaults import DEFAULTS
from wsolviz.methods import find_panel
from wsolviz.render import Look
from wsolviz.types import Explanation
from wsolviz.ui.downloads import again, told
from wsolviz.ui.plots import Box, decomposition_figure
from wsolviz.ui.viewer import JSON
from wsolviz.ui.viewer_state import FILL_STATE, read_look
from wsolviz.zero_gpu import on_gpu


@on_gpu
@told()
def draw_plots(shown: JSON | None, state: str) -> list[Any]:
    """One figure a row, inside or outside the true box, or the first heatmap's box where none."""
    look = read_look(state)
    figures = [
        gr.Plot(decomposition_figure(row, *_plot_box(row, look)), visible=True)
        for row in (again(shown).rows if shown else ())
        if not row.failure
    ]
    empty = [gr.Plot(visible=False)] * (DEFAULTS.max_backbones - len(figures))
    return [*figures, *empty]


def draw_plots_if_open(is_open: bool, shown: JSON | None, state: str) -> Any:
    """Draw while the panel is open; a closed one costs nothing."""
    return draw_plots(shown, state) if is_open else [gr.skip()] * DEFAULTS.max_backbones


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


def _plot_box(row: Row, look: Look) -> tuple[Box, str]:
    assert row.inspection is not None, "failed rows have no plots"
    if look.true_box is not None:
        return look.true_box, "the true box"
    for cell in row.cells:
        if isinstance(cell, Explanation):
            threshold = look.threshold_of(cell.backbone, cell.method)
            title = find_panel(cell.method).title
            for x0, y0, x1, y1 in cell.boxes_at(threshold).tolist():
                return (x0, y0, x1, y1), f"the box of {title} at threshold {threshold:.2f}"
    width, height = row.inspection.photo.size
    return (0, 0, width - 1, height - 1), "the photo"


def build_plots(shown: gr.State, state: gr.Textbox) -> None:
    """Lay out the panel and wire it."""
    with gr.Accordion("Plots: ‖F‖ against cosine", open=False, elem_id="plots") as accordion:
        refresh = gr.Button("Redraw for the boxes as they are now", size="sm")
        plots = [gr.Plot(visible=False, show_label=False) for _ in range(DEFAULTS.max_backbones)]
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
