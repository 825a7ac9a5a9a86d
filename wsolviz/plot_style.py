"""How plots look on a page whose theme they do not know."""

from __future__ import annotations

import plotly.graph_objects as go

# Okabe & Ito's palette, told apart with any colour vision, then plotly's own.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
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


def titled(figure: go.Figure, title: str) -> go.Figure:
    """Curves with a title above and their names below, for any page."""
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=420,
        margin={"l": 55, "r": 15, "t": 50, "b": 50},
        legend={"orientation": "h", "y": -0.22},
    )
    return on_any_page(figure)
