"""The report of a run: one self-contained HTML file with figures, curves and typical images."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import plotly.offline
from PIL import Image

from wsolviz.evaluation.evaluate import REPORT, Run
from wsolviz.evaluation.figures import Figures, facts, summary
from wsolviz.evaluation.gallery import case_image, look_of
from wsolviz.evaluation.plots import accuracy_figure, precision_figure
from wsolviz.ui.viewer import ASSETS, data_url

CURVES = ("MaxBoxAcc", "BoxAccV2@50")
SHOWN_CASES = 4


def write_report(run: Run, results: Figures) -> Path:
    """Write report.html into the run's folder.

    Args:
        run: that was measured; its photos are drawn again.
        results: what it gave.
    """
    page = Template((ASSETS / "evaluation.html").read_text(encoding="utf-8"))
    settings = results["settings"]
    text = page.substitute(
        title=html.escape(f"wsolviz: {settings['data']}"),
        settings=html.escape(json.dumps(settings, indent=1, ensure_ascii=False)),
        facts=html.escape(_facts(results)),
        table=table_html(*summary(results, "full")),
        plotly=plotly.offline.get_plotlyjs(),
        curves="".join(_curves(results)),
        cases="".join(_cases(run, results)),
    )
    path = run.folder / REPORT
    path.write_text(text, encoding="utf-8")
    return path


def _facts(results: Figures) -> str:
    counts = f"{results['num_images']} images, {len(results['skipped'])} skipped"
    return "; ".join([counts, *facts(results)])


def table_html(columns: list[str], rows: list[list[str]]) -> str:
    """A table of plain texts."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _curves(results: Figures) -> Iterator[str]:
    has_boxes = any(method["num_with_boxes"] for method in results["methods"].values())
    figures = [accuracy_figure(results, name) for name in CURVES] if has_boxes else []
    for figure in (*figures, precision_figure(results)):
        if figure is not None:
            yield figure.to_html(full_html=False, include_plotlyjs=False)


def _cases(run: Run, results: Figures) -> Iterator[str]:
    """Best and worst images of each method."""
    for method, cases in results["cases"].items():
        for kind, rows in cases.items():
            if rows:
                yield f"<h3>{html.escape(method)}: {kind}</h3><div class='cases'>"
                yield from (_case(run, row) for row in rows[:SHOWN_CASES])
                yield "</div>"


def _case(run: Run, row: dict[str, Any]) -> str:
    try:
        drawn = Image.fromarray(case_image(run.source, row, look_of(row)))
    except (ValueError, OSError) as error:  # it could be read a minute ago
        return f"<figure><figcaption>{html.escape(str(error))}</figcaption></figure>"
    caption = f"{row['image_id']}, IoU {row['iou']:.2f}, oracle here {row['oracle_iou']:.2f}"
    return (
        f"<figure><img src='{data_url(drawn, 'JPEG')}' alt='{html.escape(caption, quote=True)}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
