"""How plots look on a page whose theme they do not know."""

from __future__ import annotations

import plotly.graph_objects as go

GRID = "rgba(128,128,128,0.3)"


def on_any_page(figure: go.Figure) -> go.Figure:
    """Let the page show through, light or dark; the page's own CSS colours the texts."""
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(128,128,128,0.08)")
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    return figure
