"""The report: one self-contained HTML file with maps, numbers and curves."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from PIL import Image

from wsolviz.analysis.erf import THRESHOLDS
from wsolviz.fields.figures import HeatMap, MapLook, heat_maps, radial_figure, share_figure
from wsolviz.fields.localization import Localization, correlations, pair, scatter_figure
from wsolviz.fields.request import SIZE_WARNING, FieldRow, Fields
from wsolviz.fields.table import COLUMN_HELP, manifest, table
from wsolviz.pages import figure_html, fill_page, settings_html, table_html
from wsolviz.ui.viewer import data_url

SHOWN_SIDE = 384  # pixels, of a map in the page


def report_html(fields: Fields, look: MapLook, localizations: Sequence[Localization] = ()) -> str:
    """A page that fetches nothing.

    Args:
        fields: what to show.
        look: how the maps are drawn.
        localizations: that the fields are set against.
    """
    return fill_page(
        "erf",
        fields.title,
        plots=bool(fields.rows),
        warning=html.escape(SIZE_WARNING),
        missing="".join(_missing(fields)),
        table=table_html(*table(fields.rows, "full")),
        meanings="; ".join(
            f"<em>{name}</em>: {html.escape(text)}" for name, text in COLUMN_HELP.items()
        ),
        maps="".join(map_figure(drawn) for drawn in heat_maps(fields.rows, look)),
        scale=scale_note(look),
        curves="".join(_curves(fields.rows)),
        localization="".join(_scatters(fields, localizations)),
        settings=settings_html(manifest(fields)),
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
        yield figure_html(figure)


def _scatters(fields: Fields, localizations: Sequence[Localization]) -> Iterator[str]:
    """For each data set and t a plot, and what the correlations are."""
    for data in dict.fromkeys(told.data for told in localizations):
        of_data = [told for told in localizations if told.data == data]
        for threshold in THRESHOLDS:
            points = pair(fields.rows, of_data, threshold)
            if not points:
                continue
            if threshold == THRESHOLDS[0]:
                yield f"<h2>Fields against localization on {html.escape(data)}</h2>"
            figure = scatter_figure(points, data, fields.request.size, threshold)
            yield figure_html(figure)
            told = "<br>".join(html.escape(found.text) for found in correlations(points))
            yield f"<p>{told}<br>In brackets 95 % intervals over backbones.</p>"
