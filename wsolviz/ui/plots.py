"""Plots of the decomposition: where norm and cosine agree, inside and outside a box."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from wsolviz.analysis.decomposition import decompose
from wsolviz.compare import Row

Box = tuple[int, int, int, int]

# Okabe & Ito's palette: told apart with any colour vision.
INSIDE, OUTSIDE = "#d55e00", "#0072b2"
BINS = 24
GRID = "rgba(128,128,128,0.3)"


def cells_inside(box: Box, image_size: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells of a feature map have their centre inside a box.

    Args:
        box: x0,y0,x1,y1 in the photo's pixels, corners included.
        image_size: (width, height) of the photo.
        grid: (h, w) of the feature map.

    Returns:
        (h,w) bool.

    >>> cells_inside((0, 0, 4, 9), (10, 10), (1, 2))
    array([[ True, False]])
    """
    (height, width), (image_width, image_height) = grid, image_size
    x = (np.arange(width) + 0.5) * image_width / width
    y = (np.arange(height) + 0.5) * image_height / height
    x0, y0, x1, y1 = box
    return ((y >= y0) & (y < y1 + 1))[:, None] & ((x >= x0) & (x < x1 + 1))[None, :]


def decomposition_figure(row: Row, box: Box, box_name: str) -> go.Figure:
    """‖F‖ against cosine for every position of one row, and the histogram of each.

    Args:
        row: with an inspection and a target.
        box: in the photo's pixels, corners included.
        box_name: what the box is, for the title.
    """
    assert row.inspection is not None and row.target is not None, "failed rows have no plots"
    parts = decompose(row.inspection.features, row.target.index)
    norm = parts.feature_norm[0].cpu().numpy()
    cosine = parts.cosine[0].cpu().numpy()
    inside = cells_inside(box, row.inspection.photo.size, norm.shape)
    figure = make_subplots(
        cols=3,
        column_widths=[0.5, 0.25, 0.25],
        subplot_titles=("every position", "cosine", "‖F‖"),
    )
    for name, colour, chosen in (("outside", OUTSIDE, ~inside), ("inside", INSIDE, inside)):
        _add_points(figure, cosine[chosen], norm[chosen], name, colour)
        for column, values, all_values in ((2, cosine, cosine), (3, norm, norm)):
            _add_histogram(figure, column, values[chosen], all_values, name, colour)
    figure.update_xaxes(title_text="cosine", row=1, col=1)
    figure.update_yaxes(title_text="‖F‖", row=1, col=1)
    figure.update_layout(
        title=f"{row.inspection.photo.name}, {row.backbone}, {row.target.name}: "
        f"inside or outside {box_name}",
        barmode="overlay",
        height=380,
        margin={"l": 50, "r": 20, "t": 80, "b": 45},
        legend={"orientation": "h", "y": -0.15},
        # Readable on a light page and on a dark one, since a figure does not know which it is on.
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(128,128,128,0.08)",
        font={"color": "#7c8798"},
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    return figure


def _add_points(
    figure: go.Figure,
    cosine: NDArray[np.float32],
    norm: NDArray[np.float32],
    name: str,
    colour: str,
) -> None:
    symbol = "circle" if name == "inside" else "circle-open"
    figure.add_trace(
        go.Scatter(
            x=cosine,
            y=norm,
            mode="markers",
            name=name,
            legendgroup=name,
            marker={"color": colour, "symbol": symbol, "size": 7},
            hovertemplate="cosine %{x:.3f}<br>‖F‖ %{y:.3f}",
        ),
        row=1,
        col=1,
    )


def _add_histogram(
    figure: go.Figure,
    column: int,
    values: NDArray[np.float32],
    all_values: NDArray[np.float32],
    name: str,
    colour: str,
) -> None:
    low, high = float(all_values.min()), float(all_values.max())
    size = (high - low) / BINS or 1.0
    figure.add_trace(
        go.Histogram(
            x=values,
            xbins={"start": low, "end": high + size, "size": size},
            name=name,
            legendgroup=name,
            showlegend=False,
            opacity=0.6,
            marker={"color": colour},
        ),
        row=1,
        col=column,
    )
