"""What the ERF tab shows: maps on one scale, the table, curves; and the files it hands out."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from wsolviz.fields.export import write_zip
from wsolviz.fields.figures import MapLook, Scale, heat_maps, radial_figure, share_figure
from wsolviz.fields.report import map_figure, report_html, scale_note
from wsolviz.fields.request import SIZE_WARNING, Fields
from wsolviz.fields.table import COLUMN_HELP, table
from wsolviz.pages import table_html
from wsolviz.render import colormap_table
from wsolviz.ui.downloads import new_file
from wsolviz.ui.erf_localization import known_localizations
from wsolviz.ui.status import say

NOTHING_YET = "There is nothing to save yet: measure fields first."


def head_html(fields: Fields) -> str:
    """What was measured, with the input size, and what that size means."""
    return (
        f'<h3>{html.escape(fields.title)}</h3><p class="warn">{html.escape(SIZE_WARNING)}</p>'
        + "".join(_missing(fields))
    )


def _missing(fields: Fields) -> list[str]:
    broken = dict.fromkeys((b.name, b.reason) for row in fields.rows for b in row.broken)
    told = [f"{row.label}: {row.notice}" for row in fields.missing]
    told += [f"Skipped {name}: {reason}" for name, reason in broken]
    return [say(text, problem=True) for text in told]


def maps_html(fields: Fields, look: MapLook) -> str:
    """The heat maps of all rows, under the scale of their colours."""
    maps = heat_maps(fields.rows, look)
    colours = ", ".join("rgb({},{},{})".format(*c) for c in colormap_table(look.colormap)[::15])
    ends = f"{maps[0].top:.3g}" if not look.own_maximum else "each map’s maximum"
    bar = (
        f'<div class="scale"><span>0</span><i style="background: linear-gradient(to right, '
        f'{colours})"></i><span>{ends}</span> <span>{html.escape(maps[0].unit)}</span></div>'
    )
    figures = "".join(map(map_figure, maps))
    return f'{bar}<div class="maps">{figures}</div><p>{html.escape(scale_note(look))}</p>'


def numbers_html(fields: Fields) -> str:
    """The table, and what its columns mean."""
    size = fields.request.size
    meanings = "; ".join(
        f"<em>{name}</em>: {html.escape(text)}" for name, text in COLUMN_HELP.items()
    )
    return (
        f"<h4>Areas at {size}×{size}</h4>"
        f'<div class="wide">{table_html(*table(fields.rows, "full"))}</div><p>{meanings}.</p>'
    )


def look_of(scale: Scale, own_maximum: bool, colormap: str) -> MapLook:
    """The controls' values as a look."""
    return MapLook(scale, own_maximum, colormap)


def draw_maps(kept: Fields | None, scale: Scale, own_maximum: bool, colormap: str) -> Any:
    """Draw the maps anew; nothing is measured."""
    return gr.skip() if kept is None else maps_html(kept, look_of(scale, own_maximum, colormap))


def draw_curves(kept: Fields) -> tuple[Any, Any]:
    """Contribution against the side of a square, and against the distance."""
    return share_figure(kept.rows), radial_figure(kept.rows)


def save_zip(kept: Fields | None, scale: Scale, own_maximum: bool, colormap: str) -> str:
    """Every file of the export in a ZIP."""
    look = look_of(scale, own_maximum, colormap)
    return str(write_zip(_there(kept), look, new_file("wsolviz-erf.zip"), known_localizations()))


def save_report(kept: Fields | None, scale: Scale, own_maximum: bool, colormap: str) -> str:
    """The report, which works offline."""
    look = look_of(scale, own_maximum, colormap)
    page = report_html(_there(kept), look, known_localizations())
    path = new_file("wsolviz-erf.html")
    path.write_text(page, encoding="utf-8")
    return str(path)


def _there(kept: Fields | None) -> Fields:
    if kept is None:
        raise gr.Error(NOTHING_YET, print_exception=False)
    return kept
