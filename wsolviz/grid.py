"""The whole grid as one picture: rows of backbones, columns of methods, with their labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wsolviz.analysis.boxes import iou
from wsolviz.compare import Cell, Comparison, PanelFailure, Row
from wsolviz.explain import display_grid
from wsolviz.methods import find_panel
from wsolviz.render import RGB, Look, cell_image, photo_image
from wsolviz.types import Explanation

INK = (31, 41, 55)
SOFT_INK = (107, 114, 128)
GAP = 12
LINE = 20
FONT_SIZE = 15


@cache
def font(bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and knows ‖, ×, τ and most alphabets."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), FONT_SIZE)


def grid_image(comparison: Comparison, look: Look) -> Image.Image:
    """Draw the comparison as the app shows it, at one look."""
    height, width = display_grid(comparison.photo.size)
    columns = 1 + len(comparison.methods)
    row_height = height + 2 * LINE + GAP
    canvas = Image.new(
        "RGB",
        (columns * (width + GAP) + GAP, LINE + GAP + len(comparison.rows) * row_height + GAP),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate([comparison.photo.name, *map(_title, comparison.methods)]):
        write_line(draw, (GAP + column * (width + GAP), GAP // 2), title, width, bold=True)
    for index, row in enumerate(comparison.rows):
        top = LINE + GAP + index * row_height
        cells = [
            (photo_image(comparison.photo.image, (height, width), look), *_row_captions(row)),
            *((_draw_cell(cell, comparison, look), *_captions(cell, look)) for cell in row.cells),
        ]
        for column, (pixels, first, second) in enumerate(cells):
            left = GAP + column * (width + GAP)
            canvas.paste(Image.fromarray(pixels), (left, top))
            write_line(draw, (left, top + height + 2), first, width)
            write_line(draw, (left, top + height + 2 + LINE), second, width, ink=SOFT_INK)
    return canvas


def _title(method: str) -> str:
    return find_panel(method).title


def write_line(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width: int,
    *,
    bold: bool = False,
    ink: tuple[int, int, int] = INK,
) -> None:
    """Write one line, cut with an ellipsis where it would run into the next column."""
    face = font(bold)
    while text and draw.textlength(text, face) > width:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    draw.text(place, text, fill=ink, font=face)


def _row_captions(row: Row) -> tuple[str, str]:
    if row.target is None:
        return row.backbone, row.notice
    return row.backbone, f"{row.target.name} {row.target.probability:.2f}"


def _captions(cell: Cell, look: Look) -> tuple[str, str]:
    if isinstance(cell, PanelFailure):
        return "not available", cell.notice
    if not isinstance(cell, Explanation):
        return ", ".join(name for name, _ in cell.legend[:3]), ""
    threshold = look.threshold_of(cell.backbone, cell.method)
    boxes = cell.boxes_at(threshold, look.contours)
    if not len(boxes):
        return f"τ {threshold:.2f}   no box", "IoU 0.000" if look.true_box else ""
    overlaps = iou(boxes, [look.true_box])[:, 0] if look.true_box else np.zeros(len(boxes))
    best = int(overlaps.argmax())
    x0, y0, x1, y1 = boxes[best]
    width, height = cell.image_size
    share = (x1 - x0 + 1) * (y1 - y0 + 1) / (width * height)
    count = f" (best of {len(boxes)})" if len(boxes) > 1 else ""
    overlap = f"   IoU {overlaps[best]:.3f}" if look.true_box else ""
    return (
        f"τ {threshold:.2f}   box {x0}, {y0} – {x1}, {y1}{count}",
        f"{100 * share:.1f} % of the photo{overlap}",
    )


def _draw_cell(cell: Cell, comparison: Comparison, look: Look) -> RGB:
    height, width = display_grid(comparison.photo.size)
    if isinstance(cell, Explanation):
        return cell_image(comparison.photo.image, cell, look)
    if isinstance(cell, PanelFailure):
        return np.full((height, width, 3), 243, np.uint8)
    picture = Image.fromarray(cell.pixels)
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
