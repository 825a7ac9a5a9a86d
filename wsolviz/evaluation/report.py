"""The report of a run: one self-contained HTML file with figures, curves and typical images."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from wsolviz.evaluation.evaluate import REPORT, Run
from wsolviz.evaluation.figures import Figures, facts, summary
from wsolviz.evaluation.gallery import case_image, look_of
from wsolviz.evaluation.plots import accuracy_figure, precision_figure
from wsolviz.pages import figure_html, fill_page, settings_html, table_html
from wsolviz.ui.viewer import data_url

CURVES = ("MaxBoxAcc", "BoxAccV2@50")
SHOWN_CASES = 4


def write_report(run: Run, results: Figures) -> Path:
    """Write report.html into the run's folder.

    Args:
        run: that was measured; its photos are drawn again.
        results: what it gave.
    """
    settings = results["settings"]
    text = fill_page(
        "evaluation",
        f"wsolviz: {settings['data']}",
        plots=True,
        settings=settings_html(settings),
        facts=html.escape(_facts(results)),
        table=table_html(*summary(results, "full")),
        curves="".join(_curves(results)),
        cases="".join(_cases(run, results)),
    )
    path = run.folder / REPORT
    path.write_text(text, encoding="utf-8")
    return path


def _facts(results: Figures) -> str:
    counts = f"{results['num_images']} images, {len(results['skipped'])} skipped"
    return "; ".join([counts, *facts(results)])


def _curves(results: Figures) -> Iterator[str]:
    has_boxes = any(method["num_with_boxes"] for method in results["methods"].values())
    figures = [accuracy_figure(results, name) for name in CURVES] if has_boxes else []
    for figure in (*figures, precision_figure(results)):
        if figure is not None:
            yield figure_html(figure)


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
