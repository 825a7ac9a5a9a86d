"""What a measurement leaves behind: a field and its picture a row, tables, and a report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from wsolviz.export import plain_name
from wsolviz.fields.figures import HeatMap, MapLook, heat_maps
from wsolviz.fields.localization import Localization, localization_manifest
from wsolviz.fields.report import report_html
from wsolviz.fields.request import FieldRow, Fields
from wsolviz.fields.table import manifest, record

CSV, JSON, REPORT = "erf.csv", "erf.json", "report.html"


def row_name(row: FieldRow) -> str:
    """How the files of a row are called, without their suffix.

    Backbone, weights and input size: "timm-resnet50_random_1024".
    """
    return f"{plain_name(row.backbone)}_{row.weights}_{row.size[0]}"


def export_files(
    fields: Fields, look: MapLook, localizations: Sequence[Localization] = ()
) -> dict[str, Callable[[], bytes]]:
    """Every file by its name, each made when it is asked for.

    Args:
        fields: what was measured.
        look: how the maps are drawn.
        localizations: that the fields are set against; those of other backbones are left out.
    """
    told = manifest(fields)
    if localizations:
        told["localization"] = localization_manifest(fields.rows, localizations)
    files: dict[str, Callable[[], bytes]] = {
        CSV: lambda: _csv(fields),
        JSON: lambda: json.dumps(told, indent=1, ensure_ascii=False).encode(),
        REPORT: lambda: report_html(fields, look, localizations).encode(),
    }
    for drawn in heat_maps(fields.rows, look):
        files[f"{row_name(drawn.row)}.npz"] = partial(_npz, drawn.row)
        files[f"{row_name(drawn.row)}.png"] = partial(_png, drawn)
    return files


def write_fields(
    fields: Fields, look: MapLook, folder: Path, localizations: Sequence[Localization] = ()
) -> Path:
    """Write every file into a folder, over files of the same names; see `export_files`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in export_files(fields, look, localizations).items():
        (folder / name).write_bytes(content())
    return folder


def write_zip(
    fields: Fields, look: MapLook, path: Path, localizations: Sequence[Localization] = ()
) -> Path:
    """Write every file into one ZIP; see `export_files`."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in export_files(fields, look, localizations).items():
            archive.writestr(name, content())
    return path


def _csv(fields: Fields) -> bytes:
    text = io.StringIO()
    records = [record(row) for row in fields.rows]
    writer = csv.DictWriter(text, list(records[0]) if records else ["backbone"])
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def _npz(row: FieldRow) -> bytes:
    """The field, "contribution" (H,W) float64, and "metadata", a text of JSON."""
    buffer = io.BytesIO()
    metadata = json.dumps(record(row), ensure_ascii=False)
    np.savez_compressed(
        buffer, allow_pickle=False, contribution=row.erf.contribution, metadata=np.array(metadata)
    )
    return buffer.getvalue()


def _png(drawn: HeatMap) -> bytes:
    buffer = io.BytesIO()
    drawn.image().save(buffer, "PNG")
    return buffer.getvalue()
