"""Plots of the decomposition: where norm and cosine agree, inside and outside a box."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from wsolviz.analysis.decomposition import decompose
from wsolviz.compare import Row
from wsolviz.plot_style import on_any_page

Box = tuple[int, int, int, int]
Place = tuple[int, int]  # row and column of a subplot

# Okabe & Ito's vermilion and a lighter twin of their blue: told apart with any colour vision, and
# with a contrast of 3:1 on the light page and on the dark one.
INSIDE, OUTSIDE = "#d55e00", "#1f84c9"
BINS = 24


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


def decomposition_figure(row: Row, box: Box | None, *, narrow: bool = False) -> go.Figure:
    """‖F‖ against cosine for every position of one row, and the histogram of each.

    Args:
        row: with an inspection and a target.
        box: in the photo's pixels, corners included; None does not tell positions apart.
        narrow: put the histograms below, for a page with no room beside.
    """
    assert row.inspection is not None and row.target is not None, "failed rows have no plots"
    parts = decompose(row.inspection.features, row.target.index)
    norm = parts.feature_norm[0].cpu().numpy()
    cosine = parts.cosine[0].cpu().numpy()
    figure, (points, *histograms) = _layout(narrow)
    for name, colour, chosen in _groups(box, row.inspection.photo.size, norm.shape):
        _add_points(figure, points, cosine[chosen], norm[chosen], name, colour)
        for place, values in zip(histograms, (cosine, norm), strict=True):
            _add_histogram(figure, place, values[chosen], values, name, colour)
    figure.update_xaxes(title_text="cosine", row=points[0], col=points[1])
    figure.update_yaxes(title_text="‖F‖", row=points[0], col=points[1])
    figure.update_layout(showlegend=box is not None)
    return figure


def _layout(narrow: bool) -> tuple[go.Figure, tuple[Place, Place, Place]]:
    """An empty figure, and where in it the points and the two histograms go."""
    titles = ("every position", "cosine", "‖F‖")
    places: tuple[Place, Place, Place]
    if narrow:
        specs = [[{"colspan": 2}, None], [{}, {}]]
        figure = make_subplots(2, 2, specs=specs, subplot_titles=titles, vertical_spacing=0.22)
        places = ((1, 1), (2, 1), (2, 2))
    else:
        figure = make_subplots(1, 3, column_widths=[0.5, 0.25, 0.25], subplot_titles=titles)
        places = ((1, 1), (1, 2), (1, 3))
    figure.update_layout(
        barmode="overlay",
        height=560 if narrow else 380,
        margin={"l": 50, "r": 20, "t": 50, "b": 75},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(nticks=5, tickangle=0)
    figure.update_yaxes(nticks=6)
    return on_any_page(figure), places


def _groups(
    box: Box | None, image_size: tuple[int, int], grid: tuple[int, int]
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Name, colour and cells of what is told apart."""
    if box is None:
        return [("position", INSIDE, np.ones(grid, bool))]
    inside = cells_inside(box, image_size, grid)
    return [("outside", OUTSIDE, ~inside), ("inside", INSIDE, inside)]


def _add_points(
    figure: go.Figure,
    place: Place,
    cosine: NDArray[np.float32],
    norm: NDArray[np.float32],
    name: str,
    colour: str,
) -> None:
    symbol = "circle-open" if name == "outside" else "circle"
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
        row=place[0],
        col=place[1],
    )


def _add_histogram(
    figure: go.Figure,
    place: Place,
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
            marker={"color": colour + "99", "line": {"color": colour, "width": 1}},
        ),
        row=place[0],
        col=place[1],
    )
