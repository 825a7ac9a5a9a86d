"""What a comparison leaves behind: PNG of the grid and each cell, NPZ of the maps, a manifest."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from PIL import Image

from wsolviz.analysis.scoremap import scoremap
from wsolviz.compare import Cell, Comparison, PanelFailure, Row
from wsolviz.grid import grid_image
from wsolviz.render import RGB, Look, cell_image
from wsolviz.report import report_html
from wsolviz.types import Explanation, Picture
from wsolviz.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "opencv-python-headless",
    "numpy",
    "grad-cam",
)


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that a heatmap depends on."""
    found = {"wsolviz": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def manifest(comparison: Comparison, look: Look) -> dict[str, Any]:
    """Everything that is needed to make the same maps again, and the boxes that they gave."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "photo": {
            "name": comparison.photo.name,
            "size": list(comparison.photo.size),
            "sha256_of_pixels": comparison.photo.digest,
            "notes": list(comparison.photo.notes),
        },
        "request": {**asdict(comparison.request), "backbones": comparison.request.titles},
        "cam_threshold": look.cam_threshold,
        "contours": look.contours,
        "true_box": look.true_box,
        "rows": [_row_manifest(row, look) for row in comparison.rows],
    }


def _row_manifest(row: Row, look: Look) -> dict[str, Any]:
    if row.inspection is None or row.target is None:
        return {"backbone": row.backbone, "failure": row.notice}
    backbone, features = row.inspection.backbone, row.inspection.features
    return {
        "backbone": row.backbone,
        "weights": {
            "source": backbone.weights.source_to_pass_on,
            "sha256": backbone.weights.sha256,
        },
        "input_size": list(row.inspection.input_size),
        "space": features.space,
        "exact": features.exact,
        "class": {
            "index": row.target.index,
            "name": row.target.name,
            "probability": row.target.probability,
            "logit": row.target.logit,
        },
        "top": [[score.name, score.probability] for score in row.inspection.top()],
        "forward_milliseconds": row.inspection.milliseconds,
        "cells": [_cell_manifest(cell, look) for cell in row.cells],
    }


def _cell_manifest(cell: Cell, look: Look) -> dict[str, Any]:
    if isinstance(cell, PanelFailure):
        return {"method": cell.method, "failure": cell.notice}
    common = {
        "method": cell.method,
        "numbers": dict(cell.numbers),
        "milliseconds": cell.milliseconds,
    }
    if not isinstance(cell, Explanation):
        return {**common, "legend": [list(entry) for entry in cell.legend]}
    threshold = look.threshold_of(cell.backbone, cell.method)
    return {
        **common,
        "cam_threshold": threshold,
        "boxes": cell.boxes_at(threshold, look.contours).tolist(),
    }


def export_files(comparison: Comparison, look: Look) -> dict[str, Callable[[], bytes]]:
    """Every file of the export by its name, each made when it is asked for."""
    files: dict[str, Callable[[], bytes]] = {
        "grid.png": lambda: _png(np.asarray(grid_image(comparison, look))),
        "maps.npz": lambda: _npz(comparison),
        "manifest.json": lambda: json.dumps(
            manifest(comparison, look), indent=2, ensure_ascii=False
        ).encode(),
        "report.html": lambda: report_html(comparison, look).encode(),
    }
    for row in comparison.rows:
        for cell in row.cells:
            if not isinstance(cell, PanelFailure):
                name = f"{cell_name(row.backbone, cell.method)}.png"
                files[name] = partial(_cell_png, comparison, cell, look)
    return files


def cell_name(backbone: str, method: str) -> str:
    """A file name for one cell.

    >>> cell_name("timm/resnet50.a1_in1k", "cam")
    'timm-resnet50.a1_in1k_cam'
    """
    return f"{plain_name(backbone)}_{plain_name(method)}"


def plain_name(name: str) -> str:
    """A name with which a file or a folder can be called; "+" may stay.

    >>> plain_name("timm/resnet50.a1_in1k")
    'timm-resnet50.a1_in1k'
    """
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name)


def _cell_png(comparison: Comparison, cell: Explanation | Picture, look: Look) -> bytes:
    if isinstance(cell, Explanation):
        return _png(cell_image(comparison.photo.image, cell, look))
    return _png(cell.pixels)


def _png(pixels: RGB) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _npz(comparison: Comparison) -> bytes:
    """The raw maps, (h,w) float32 each, by backbone and method."""
    maps = {
        cell_name(row.backbone, cell.method): cell.heatmap
        for row in comparison.rows
        for cell in row.cells
        if isinstance(cell, Explanation)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **maps)
    return buffer.getvalue()


def write_zip(comparison: Comparison, look: Look, path: Path) -> Path:
    """Write every file of the export into one ZIP."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in export_files(comparison, look).items():
            archive.writestr(name, content())
    return path


def write_folder(comparison: Comparison, look: Look, folder: Path, *, force: bool = False) -> Path:
    """Write every file of the export into a folder.

    Raises:
        FileExistsError: a file is there already, and `force` is False; nothing was written.
    """
    files = {folder / name: content for name, content in export_files(comparison, look).items()}
    files |= scoremap_files(comparison, look, folder)
    taken = [path for path in files if path.exists()]
    if taken and not force:
        raise FileExistsError(
            f"{taken[0]} exists already; choose another --out, or overwrite with --force."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        path.write_bytes(content())
    return folder


def scoremap_files(
    comparison: Comparison, look: Look, folder: Path
) -> dict[Path, Callable[[], bytes]]:
    """Score maps as .npy, (H,W) float32 in [0,1] at the size of the network's input.

    Each lies beside the PNG of its cell. Where one map was asked for, it and its overlay also stand
    beside the photo's folder under the photo's own name, as CAM Back Again's script leaves them
    (class folder / file name): a folder of such files is what `evaluate --scoremaps` reads.
    """
    found = [
        (row, row.inspection.input_size, cell)
        for row in comparison.rows
        if row.inspection is not None
        for cell in row.cells
        if isinstance(cell, Explanation)
    ]
    files: dict[Path, Callable[[], bytes]] = {
        folder / f"{cell_name(row.backbone, cell.method)}.npy": partial(_npy, cell, size)
        for row, size, cell in found
    }
    if len(found) == 1 and len(comparison.rows) == len(comparison.rows[0].cells) == 1:
        ((_, size, cell),) = found
        files[folder.with_name(f"{folder.name}.npy")] = partial(_npy, cell, size)
        files[folder.with_name(f"{folder.name}.png")] = partial(_cell_png, comparison, cell, look)
    return files


def _npy(cell: Explanation, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, scoremap(cell.heatmap, size).astype(np.float32))
    return buffer.getvalue()
