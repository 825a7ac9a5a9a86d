"""The report: one self-contained HTML file in which the slider still works offline."""

from __future__ import annotations

import html
from string import Template

from wsolviz.compare import Comparison
from wsolviz.pages import json_for_script
from wsolviz.render import Look
from wsolviz.ui.viewer import ASSETS, viewer_payload, viewer_script, viewer_style


def report_html(comparison: Comparison, look: Look) -> str:
    """A page with the viewer, its data and nothing that is fetched.

    Args:
        comparison: what to show.
        look: how it is drawn when the page opens; all of it can be changed in the page.
    """
    page = Template((ASSETS / "report.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(f"wsolviz: {comparison.photo.name}"),
        style=viewer_style(),
        script=viewer_script(),
        payload=json_for_script(viewer_payload(comparison, look)),
    )
