"""Pages of HTML that fetch nothing: what all reports have in common."""

from __future__ import annotations

import html
import json
from string import Template

import plotly.graph_objects as go
import plotly.offline

from wsolviz.ui.viewer import ASSETS


def fill_page(name: str, title: str, *, plots: bool, **parts: str) -> str:
    """A page out of its template in assets/.

    Args:
        name: of the template, without .html.
        title: as plain text.
        plots: whether the page holds plots, whose library then stands in it.
        parts: HTML by its name in the template.
    """
    template = Template((ASSETS / f"{name}.html").read_text(encoding="utf-8"))
    return template.substitute(
        parts,
        title=html.escape(title),
        style=(ASSETS / "document.css").read_text(encoding="utf-8"),
        plotly=plotly.offline.get_plotlyjs() if plots else "",
    )


def figure_html(figure: go.Figure) -> str:
    """A plot for a page that holds the library already."""
    text: str = figure.to_html(full_html=False, include_plotlyjs=False)
    return text


def table_html(columns: list[str], rows: list[list[str]]) -> str:
    """A table of plain texts."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def settings_html(settings: object) -> str:
    """Settings as indented JSON, for a <pre> element."""
    return html.escape(json.dumps(settings, indent=1, ensure_ascii=False))


def json_for_script(value: object) -> str:
    r"""JSON that can stand inside a <script> element: no "<" can end it early.

    >>> json_for_script("</script>")
    '"\\u003c/script>"'
    """
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
