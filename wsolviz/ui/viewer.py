"""The Python side of the browser viewer: what assets/viewer.js needs, as JSON.

The app and the offline report mount the same viewer on the same payload. Maps travel as 8-bit grey
PNG, raw values and boxes as little-endian bytes in base64; everything that moves with the threshold
is computed in the browser.
"""

from __future__ import annotations

import base64
import io
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsolviz.analysis.boxes import LevelBoxes, quantize
from wsolviz.analysis.scoremap import resize_heatmap
from wsolviz.compare import Cell, Comparison, PanelFailure, Row
from wsolviz.explain import display_grid
from wsolviz.facts import cell_facts, row_facts
from wsolviz.methods import find_panel
from wsolviz.render import DIVERGING, SEQUENTIAL, Look, colormap_table
from wsolviz.types import Explanation

JSON: TypeAlias = dict[str, Any]

ASSETS = Path(__file__).resolve().parents[2] / "assets"
PHOTO_QUALITY = 90


def viewer_script() -> str:
    """The viewer's JavaScript: defines `mountWsolviz(element, payload, {onState})`."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(ASSETS.glob("viewer*.js")))


def viewer_style() -> str:
    """The viewer's CSS."""
    return (ASSETS / "viewer.css").read_text(encoding="utf-8")


def viewer_payload(comparison: Comparison, look: Look) -> JSON:
    """A comparison as the viewer takes it; see the contract at the head of assets/viewer.js."""
    height, width = display_grid(comparison.photo.size)
    shown = comparison.photo.image.resize((width, height), Image.Resampling.LANCZOS)
    return {
        "photo": {
            "src": data_url(shown, "JPEG"),
            "width": width,
            "height": height,
            "image_size": list(comparison.photo.size),
            "name": comparison.photo.name,
            "notes": list(comparison.photo.notes),
        },
        "columns": [
            {"method": name, "title": find_panel(name).title, "help": find_panel(name).help}
            for name in comparison.methods
        ],
        "rows": [_row(row) for row in comparison.rows],
        "settings": {
            "threshold": look.cam_threshold,
            "contours": look.contours,
            "opacity": look.opacity,
            "colormap": look.colormap,
            "true_box": list(look.true_box) if look.true_box else None,
            "marks": [{"threshold": threshold, "label": label} for threshold, label in look.marks],
            "overrides": {
                f"{backbone}/{method}": threshold
                for (backbone, method), threshold in look.overrides.items()
            },
        },
        "colormaps": colormaps(look.diverging_colormap),
    }


@cache
def colormaps(diverging: str) -> JSON:
    """The colour tables, 256×3 bytes each, in base64."""
    assert diverging in DIVERGING, diverging
    return {
        "sequential": {name: _base64(colormap_table(name)) for name in SEQUENTIAL},
        "diverging": {diverging: _base64(colormap_table(diverging))},
    }


def _row(row: Row) -> JSON:
    subtitle = f"{row.target.name} {row.target.probability:.2f}" if row.target else "not available"
    return {
        "id": row.backbone,
        "title": row.backbone,
        "subtitle": subtitle,
        "facts": [asdict(fact) for fact in row_facts(row)],
        "cells": _failed_cells(row) if row.failure else [_cell(cell) for cell in row.cells],
    }


def _failed_cells(row: Row) -> list[JSON]:
    """A whole row's failure is told once, in its first cell."""
    others = [{"kind": "error", "message": "not available"}] * (len(row.cells) - 1)
    return [{"kind": "error", "message": row.notice}, *others]


def _cell(cell: Cell) -> JSON:
    if isinstance(cell, PanelFailure):
        return {"kind": "error", "message": cell.notice}
    facts = [asdict(fact) for fact in cell_facts(cell)]
    if isinstance(cell, Explanation):
        return {"kind": "heatmap", "facts": facts, **_heatmap(cell)}
    return {
        "kind": "picture",
        "src": data_url(Image.fromarray(cell.pixels), "PNG"),
        "legend": [list(entry) for entry in cell.legend],
        "facts": facts,
    }


def _heatmap(explanation: Explanation) -> JSON:
    raw = resize_heatmap(explanation.heatmap, explanation.scoremap.shape)
    height, width = explanation.heatmap.shape
    levels = quantize(explanation.scoremap)
    return {
        "levels": data_url(Image.fromarray(levels), "PNG"),
        "raw": {
            "width": width,
            "height": height,
            "values": _base64(explanation.heatmap.astype("<f4")),
        },
        "lowest": float(np.nan_to_num(raw.min())),
        "highest": float(np.nan_to_num(raw.max())),
        "signed": explanation.signed,
        "boxes": {
            contours: _base64(_intervals(boxes, int(levels.max())))
            for contours, boxes in explanation.boxes.items()
        },
    }


def _intervals(boxes: LevelBoxes, highest: int) -> NDArray[np.uint16]:
    """The boxes without the benchmark's stand-in 0,0,0,0 for levels that nothing lies above."""
    return boxes.intervals[boxes.intervals[:, 0] < highest].astype("<u2")


def data_url(image: Image.Image, kind: str) -> str:
    """An image as a data: address, lossless PNG or JPEG."""
    buffer = io.BytesIO()
    # Level 1 writes grey maps ten times as fast as the default, and a few per cent larger.
    options: JSON = {"quality": PHOTO_QUALITY} if kind == "JPEG" else {"compress_level": 1}
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
