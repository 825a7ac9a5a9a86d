"""The table of images: a row for each image and method, and the cases that are worth a look."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from wsolviz.analysis.boxes import scale_boxes
from wsolviz.evaluation.box_metrics import (
    CAM_THRESHOLDS,
    MAX_BOX_ACC_IOU,
    is_localized,
)
from wsolviz.evaluation.evaluate import TABLE, Run
from wsolviz.evaluation.metadata import Metadata
from wsolviz.evaluation.records import ImageRecord, Records

CHUNK = 1024  # images whose rows are gathered at a time
CASES = 8  # best and worst images of each method that are kept

Cases: TypeAlias = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass(frozen=True)
class Choice:
    """The threshold at which a method's box is told, and by which policy it was chosen."""

    policy: str
    cam_threshold: float


@dataclass(frozen=True)
class Row:
    """One image and method; what is not known is None, an empty field of the file.

    Attributes:
        index: the image's place in the metadata.
        image_id: its name there.
        method: whose score map it is.
        label: the network's class that the true label means.
        explained: the class that was explained.
        predicted: the network's best class.
        probability: of the explained class.
        threshold_policy: "swept" (best on this split) or "fixed" (best on another).
        cam_threshold: at which the box was made.
        iou: of the largest contour's box with the best true box, in [0,1].
        correct: whether that is at least 50 %.
        x0: of the box, in the pixels of the metadata, as are y0, x1, y1.
        y0: likewise.
        x1: likewise.
        y1: likewise.
        oracle_iou: at the threshold that is best on this very image.
        oracle_cam_threshold: that threshold.
        failure: why the image was skipped.
    """

    index: int
    image_id: str
    method: str
    label: int | None = None
    explained: int | None = None
    predicted: int | None = None
    probability: float | None = None
    threshold_policy: str = ""
    cam_threshold: float | None = None
    iou: float | None = None
    correct: int | None = None
    x0: int | None = None
    y0: int | None = None
    x1: int | None = None
    y1: int | None = None
    oracle_iou: float | None = None
    oracle_cam_threshold: float | None = None
    failure: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def rows_of(
    record: ImageRecord, choices: Mapping[str, Choice], metadata: Metadata, map_size: int
) -> Iterator[Row]:
    """A record's rows, one a method.

    Args:
        record: of one image.
        choices: each method's threshold.
        metadata: where the image's own size stands.
        map_size: side of the score maps.
    """
    for name, choice in choices.items():
        if record.failure:
            yield Row(record.index, record.image_id, name, failure=record.failure)
            continue
        row = Row(
            record.index,
            record.image_id,
            name,
            label=record.label,
            explained=record.explained,
            predicted=record.top[0] if record.top else None,
            probability=record.probability if record.top else None,
        )
        found = record.methods[name]
        if found.curves is not None and found.largest is not None:
            ious = found.curves.at(CAM_THRESHOLDS, "largest")
            at = int(np.abs(CAM_THRESHOLDS - choice.cam_threshold).argmin())
            level = int(CAM_THRESHOLDS[at] * found.curves.max_level)
            sizes = (map_size, map_size), metadata.image_sizes[record.image_id]
            ((x0, y0, x1, y1),) = scale_boxes(found.largest[level], *sizes).tolist()
            row = replace(
                row,
                threshold_policy=choice.policy,
                cam_threshold=_rounded(CAM_THRESHOLDS[at]),
                iou=float(ious[at]),
                correct=int(is_localized(ious, MAX_BOX_ACC_IOU)[at]),
                x0=x0,
                y0=y0,
                x1=x1,
                y1=y1,
                oracle_iou=float(ious.max()),
                oracle_cam_threshold=_rounded(CAM_THRESHOLDS[ious.argmax()]),
            )
        yield row


def _rounded(threshold: float) -> float:
    """A threshold as it was meant: np.arange leaves 0.17300000000000001."""
    return round(float(threshold), 6)


def write_table(run: Run, records: Records, choices: Mapping[str, Choice]) -> Cases:
    """Write images.csv by rising index; each process tells the rows of its own records.

    Returns:
        For each method its best and its worst images, in the leading process.
    """
    dataset, map_size = run.source.dataset, run.source.map_size
    chosen = {name: _Extremes() for name in choices}
    num_images = len(dataset.metadata.image_ids)
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / TABLE if run.team.leads else None
    file = path.open("w", newline="", encoding="utf-8") if path else None
    try:
        writer = csv.DictWriter(file, COLUMNS) if file else None
        if writer:
            writer.writeheader()
        for start in range(0, num_images, CHUNK):
            mine = [
                row
                for record in records.between(start, start + CHUNK)
                for row in rows_of(record, choices, dataset.metadata, map_size)
            ]
            for row in sorted(chain(*run.team.gather(mine)), key=lambda row: row.index):
                assert writer is not None, "only the leading process is given rows"
                writer.writerow(asdict(row))
                chosen[row.method].add(row)
    finally:
        if file:
            file.close()
    return {name: extremes.cases() for name, extremes in chosen.items()}


class _Extremes:
    """The images of highest and of lowest IoU so far."""

    def __init__(self) -> None:
        self._best: list[Row] = []
        self._worst: list[Row] = []

    def add(self, row: Row) -> None:
        if row.iou is None:
            return
        self._best = sorted([*self._best, row], key=lambda r: (-_iou(r), r.index))[:CASES]
        self._worst = sorted([*self._worst, row], key=lambda r: (_iou(r), r.index))[:CASES]

    def cases(self) -> dict[str, list[dict[str, Any]]]:
        """Rows as plain values, by "best" and "worst", the most extreme first."""
        return {
            "best": [asdict(row) for row in self._best],
            "worst": [asdict(row) for row in self._worst],
        }


def _iou(row: Row) -> float:
    assert row.iou is not None
    return row.iou
