"""The report: one self-contained HTML file with maps, numbers and curves."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from string import Template

import plotly.offline
from PIL import Image

from wsolviz.evaluation.report import table_html
from wsolviz.fields.figures import HeatMap, MapLook, heat_maps, radial_figure, share_figure
from wsolviz.fields.request import SIZE_WARNING, FieldRow, Fields
from wsolviz.fields.table import COLUMN_HELP, manifest, table
from wsolviz.ui.viewer import ASSETS, data_url

SHOWN_SIDE = 384  # pixels, of a map in the page


def report_html(fields: Fields, look: MapLook) -> str:
    """A page that fetches nothing.

    Args:
        fields: what to show.
        look: how the maps are drawn.
    """
    page = Template((ASSETS / "erf.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(fields.title),
        warning=html.escape(SIZE_WARNING),
        missing="".join(_missing(fields)),
        table=table_html(*table(fields.rows, "full")),
        meanings="; ".join(
            f"<em>{name}</em>: {html.escape(text)}" for name, text in COLUMN_HELP.items()
        ),
        maps="".join(map_figure(drawn) for drawn in heat_maps(fields.rows, look)),
        scale=scale_note(look),
        plotly=plotly.offline.get_plotlyjs() if fields.rows else "",
        curves="".join(_curves(fields.rows)),
        settings=html.escape(json.dumps(manifest(fields), indent=1, ensure_ascii=False)),
    )


def _missing(fields: Fields) -> Iterator[str]:
    """What could not be measured, and the photos that were skipped, as HTML."""
    for row in fields.missing:
        yield f"<p class='bad'>{html.escape(row.label)}: {html.escape(row.failure)}</p>"
    for name, reason in dict.fromkeys((b.name, b.reason) for r in fields.rows for b in r.broken):
        yield f"<p class='bad'>skipped {html.escape(name)}: {html.escape(reason)}</p>"


def map_figure(drawn: HeatMap) -> str:
    """A map between its title and its scale, as HTML."""
    shown = Image.fromarray(drawn.pixels())
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)  # smaller ones: erf.html
    title = html.escape(drawn.title, quote=True)
    legend = html.escape(f"colours: 0 to {drawn.top:.3g}, {drawn.unit}")
    return (
        f"<figure><figcaption>{title}</figcaption><img src='{data_url(shown, 'PNG')}' "
        f"alt='{title}'><figcaption>{legend}</figcaption></figure>"
    )


def scale_note(look: MapLook) -> str:
    """What the colours of several maps can be compared for."""
    if look.own_maximum:
        return "Each map's last colour is its own maximum: compare forms, not strengths."
    return (
        "All maps share one colour scale. Features of two networks have units of their own, so a "
        "dark map is a weak gradient and not a small field."
    )


def _curves(rows: tuple[FieldRow, ...]) -> Iterator[str]:
    for figure in (share_figure(rows), radial_figure(rows)) if rows else ():
        yield figure.to_html(full_html=False, include_plotlyjs=False)
