"""How plots look on a page whose theme they do not know."""

from __future__ import annotations

import plotly.graph_objects as go

GRID = "rgba(128,128,128,0.3)"
# Of plotly's tools, which lie over a narrow plot's title, saving the picture is kept.
TOOLS = ["zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale"]


def on_any_page(figure: go.Figure) -> go.Figure:
    """Let the page show through, light or dark; the page's own CSS colours the texts."""
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(128,128,128,0.08)",
        modebar={"remove": TOOLS},
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    return figure
