"""The numbers of receptive fields: as a table for people, and as plain values for files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from wsolviz.analysis.erf import THRESHOLDS
from wsolviz.export import versions
from wsolviz.fields.request import SIZE_WARNING, TOP_SHARE, Area, FieldRow, Fields

Record: TypeAlias = dict[str, Any]
Detail = Literal["full", "brief"]

COLUMNS = (
    "network",
    "photos",
    *(f"area {t:.0%}" for t in THRESHOLDS),
    f"{TOP_SHARE:.0%} energy",
    "σ y × x",
    "R²",
    "seconds",
)
MIN_EXPLAINED = 0.1  # R², below which a Gaussian's widths are not told
NUM_BRIEF = 2 + len(THRESHOLDS)  # columns that have room in a narrow terminal
# What the columns mean, for hovers and captions.
COLUMN_HELP = {
    "photos": "that the field is the mean over; + those skipped",
    "area t": "the smallest centred square that holds more than t of log₁₀(contribution + 1): "
    "its side in pixels (the image's, where it holds all of the image), and its share of the image",
    f"{TOP_SHARE:.0%} energy": f"how few pixels hold {TOP_SHARE:.0%} of the sum of squares of the "
    "contribution",
    "σ y × x": "widths of the Gaussian that fits the contribution best, in pixels; – where its R² "
    f"is below {MIN_EXPLAINED} or a width larger than the image, so that the field is no bell",
    "R²": "share of the contribution's variance that this Gaussian explains",
    "seconds": "that the measurement took",
}


def table(rows: Sequence[FieldRow], detail: Detail) -> tuple[list[str], list[list[str]]]:
    """The numbers for people: column titles, and a row of texts for each field.

    Args:
        rows: to tell of.
        detail: "brief" leaves out the sides of the squares and the last columns.
    """
    count = len(COLUMNS) if detail == "full" else NUM_BRIEF
    return list(COLUMNS[:count]), [_texts(row, detail)[:count] for row in rows]


def _texts(row: FieldRow, detail: Detail) -> list[str]:
    return [
        row.label,
        f"{row.erf.num_images}" + (f" + {row.num_skipped} skipped" if row.num_skipped else ""),
        *(_area(area, row.size, detail) for area in row.areas),
        f"{row.top_pixels} px",
        *_gaussian(row),
        f"{row.seconds:.1f}",
    ]


def _area(area: Area, size: tuple[int, int], detail: Detail) -> str:
    if math.isnan(area.side):
        return "none"
    share = f"{100 * area.share:.1f} %"
    # The odd square that holds a whole image of an even side is larger than the image.
    side = min(area.side, max(size)) if area.share == 1 else area.side
    return share if detail == "brief" else f"{side:.0f} px, {share}"


def _gaussian(row: FieldRow) -> tuple[str, str]:
    """Widths and R²; no widths where the fit explains next to nothing of the field."""
    gaussian = row.gaussian
    if gaussian is None:
        return "none", "none"
    told = f"{gaussian.explained:.2f}"
    # A bell wider than the image is flat on it, and its width follows from the noise.
    inside = all(width <= side for width, side in zip(gaussian.widths, row.size, strict=True))
    if not inside or gaussian.explained < MIN_EXPLAINED:
        return "–", told
    return "{:.1f} × {:.1f} px".format(*gaussian.widths), told


def record(row: FieldRow) -> Record:
    """A field's numbers and what they depend on, without the field itself; None for no number."""
    erf, gaussian = row.erf, row.gaussian
    height, width = row.size
    values: Record = {
        "backbone": row.backbone,
        "weights": row.weights,
        "sha256": row.sha256,
        "source": row.source,
        "seed": row.seed,
        "input_height": height,
        "input_width": width,
        "grid_height": erf.grid[0],
        "grid_width": erf.grid[1],
        "position_row": erf.position[0],
        "position_column": erf.position[1],
        "class_index": erf.class_index,
        "class_name": row.class_name,
        "num_photos": erf.num_images,
        "num_skipped": row.num_skipped,
        "num_broken": len(row.broken),
        "num_not_finite": erf.num_skipped,
        **{f"side_{100 * area.threshold:.0f}": area.side for area in row.areas},
        **{f"area_{100 * area.threshold:.0f}": area.share for area in row.areas},
        f"top_{100 * TOP_SHARE:.0f}_energy_pixels": row.top_pixels,
        "sigma_y": gaussian.widths[0] if gaussian else None,
        "sigma_x": gaussian.widths[1] if gaussian else None,
        "r2": gaussian.explained if gaussian else None,
        "highest_contribution": row.highest,
        "seconds": row.seconds,
    }
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def manifest(fields: Fields) -> Record:
    """Everything that is needed to measure the same again, and what it gave."""
    request = asdict(fields.request) | {"photos": [photo.name for photo in fields.request.photos]}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "title": fields.title,
        "warning": SIZE_WARNING,
        "versions": versions(),
        "request": request,
        "rows": [
            {**record(row), "broken": [asdict(photo) for photo in row.broken]}
            for row in fields.rows
        ],
        "missing": [
            {"backbone": row.backbone, "weights": row.weights, "failure": row.failure}
            for row in fields.missing
        ],
    }
