"""Drawing receptive fields: heat maps on one scale, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsolviz.analysis.erf import radial_profile, square_shares
from wsolviz.defaults import DEFAULTS
from wsolviz.fields.request import FieldRow
from wsolviz.grid import GAP, LINE, SOFT_INK, write_line
from wsolviz.plot_style import COLOURS, titled
from wsolviz.render import RGB, colormap_table

Scale = Literal["log", "linear"]

MIN_SIDE = 384  # pixels; smaller maps are enlarged, so that their titles can be read
BAR = 12  # pixels, the height of the colour bar


@dataclass(frozen=True)
class MapLook:
    """How heat maps are drawn.

    Attributes:
        scale: "log" draws log10(contribution + 1), as the papers do; "linear" the contribution.
        own_maximum: whether each map's last colour is its own maximum, which shows the form of weak
            fields; else all maps share one scale, whose last colour is the largest value of all.
        colormap: see `wsolviz.render.SEQUENTIAL`.
    """

    scale: Scale = "log"
    own_maximum: bool = False
    colormap: str = DEFAULTS.colormap


@dataclass(frozen=True)
class HeatMap:
    """One row's field, ready to be coloured.

    Attributes:
        row: whose it is.
        values: (H,W) in [0,1].
        top: the value that 1 stands for, on the look's scale.
        look: how it is drawn.
    """

    row: FieldRow
    values: NDArray[np.float64]
    top: float
    look: MapLook

    @property
    def title(self) -> str:
        """Input size and network."""
        height, width = self.row.size
        return f"{width}×{height}: {self.row.label}"

    @property
    def unit(self) -> str:
        """What the colours stand for."""
        return {"log": "log₁₀(contribution + 1)", "linear": "contribution"}[self.look.scale]

    def pixels(self) -> RGB:
        """The colours alone, (H,W,3)."""
        table = colormap_table(self.look.colormap)
        return table[np.floor(255 * self.values + 0.5).astype(np.uint8)]

    def image(self) -> Image.Image:
        """The colours under a title, over a colour bar."""
        colours = Image.fromarray(self.pixels())
        times = -(-MIN_SIDE // min(colours.size))
        width, height = (side * times for side in colours.size)
        canvas = Image.new("RGB", (width + 2 * GAP, height + 2 * LINE + BAR + 3 * GAP), "white")
        draw = ImageDraw.Draw(canvas)
        write_line(draw, (GAP, GAP // 2), self.title, width, bold=True)
        enlarged = colours.resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(enlarged, (GAP, LINE + GAP))
        table = Image.fromarray(colormap_table(self.look.colormap)[None])
        below = LINE + height + 2 * GAP
        canvas.paste(table.resize((width, BAR), Image.Resampling.NEAREST), (GAP, below))
        legend = f"0 to {self.top:.3g}: {self.unit}"
        write_line(draw, (GAP, below + BAR + 2), legend, width, ink=SOFT_INK)
        return canvas


def heat_maps(rows: Sequence[FieldRow], look: MapLook) -> list[HeatMap]:
    """A heat map of each row.

    Args:
        rows: that are looked at together; none where no network could be measured.
        look: how they are drawn.
    """
    fields = [row.erf.contribution for row in rows]
    values = [np.log10(field + 1) if look.scale == "log" else field for field in fields]
    tops = [float(value.max()) for value in values]
    if not look.own_maximum:
        tops = [max(tops, default=0.0)] * len(tops)
    return [
        HeatMap(row, value / (top or 1), top, look)
        for row, value, top in zip(rows, values, tops, strict=True)
    ]


def share_figure(rows: Sequence[FieldRow]) -> go.Figure:
    """Share of the log-scaled field in a square about the centre, against the square's side.

    Dots are the squares of `FieldRow.areas`. They lie on the curve and not at t: sides are odd, so
    that the smallest square which holds more than t holds visibly more where the input is small.
    """
    figure = go.Figure()
    for colour, row in _coloured(rows):
        sides, shares = square_shares(row.erf.contribution, row.erf.centre).T
        hover = f"{_named(row)}<br>%{{x}} pixels: %{{y:.1f}} %<extra></extra>"
        line = {"color": colour}
        figure.add_scatter(
            x=sides, y=100 * shares, name=_named(row), line=line, hovertemplate=hover
        )
        held = dict(zip(sides, shares, strict=True))
        marked = row.areas
        figure.add_scatter(
            x=[area.side for area in marked],
            y=[100 * held.get(area.side, np.nan) for area in marked],
            mode="markers",
            marker={"color": colour, "size": 7},
            showlegend=False,
            text=[f"the smallest above {area.threshold:.0%}" for area in marked],
            hovertemplate=hover.replace("<extra>", ", %{text}<extra>"),
        )
    figure.update_xaxes(title_text="side of the square, pixels", rangemode="tozero")
    figure.update_yaxes(title_text="share of log₁₀(contribution + 1), %", range=[0, 101])
    return titled(figure, f"Contribution inside a square, {_sizes(rows)}")


def radial_figure(rows: Sequence[FieldRow]) -> go.Figure:
    """Mean contribution at each distance from the centre, over that of the strongest distance."""
    figure = go.Figure()
    for colour, row in _coloured(rows):
        profile = radial_profile(row.erf.contribution, row.erf.centre)
        highest = np.nanmax(profile)
        relative = np.where(profile > 0, profile, np.nan) / (highest or 1)  # log has no place for 0
        figure.add_scatter(
            x=np.arange(len(profile)),
            y=relative,
            name=_named(row),
            line={"color": colour},
            hovertemplate=f"{_named(row)}<br>%{{x}} pixels: %{{y:.2g}}<extra></extra>",
        )
    figure.update_xaxes(title_text="distance from the centre, pixels", rangemode="tozero")
    figure.update_yaxes(
        title_text="mean contribution ÷ its maximum", type="log", exponentformat="power"
    )
    return titled(figure, f"Contribution by distance, {_sizes(rows)}")


def _coloured(rows: Sequence[FieldRow]) -> list[tuple[str, FieldRow]]:
    return [(COLOURS[i % len(COLOURS)], row) for i, row in enumerate(rows)]


def _named(row: FieldRow) -> str:
    height, width = row.size
    return f"{row.label}, {width}×{height}"


def _sizes(rows: Sequence[FieldRow]) -> str:
    """The input sizes, which every title tells."""
    sizes = dict.fromkeys(f"{width}×{height}" for height, width in (row.size for row in rows))
    return "input " + ", ".join(sizes)
