"""Counting over images: at every threshold, and for bootstrap intervals.

The intervals come from a Poisson bootstrap: in each resample an image counts as often as a draw
from Poisson(1) says, which for many images is the ordinary bootstrap. The draws depend on the
image's index alone, so that images can be counted in any order, by any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsolviz.evaluation.box_metrics import (
    CAM_THRESHOLDS,
    IOU_THRESHOLDS,
    MAX_BOX_ACC_IOU,
    is_localized,
)
from wsolviz.evaluation.mask_metrics import LAST_EDGES, pixel_average_precision
from wsolviz.evaluation.records import ImageRecord
from wsolviz.evaluation.team import Team
from wsolviz.types import Contours

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # per cent of the resamples
CHUNK = 128  # images that are added to the resamples in one matrix product


@dataclass(frozen=True)
class Criterion:
    """When an image counts as localized at a threshold.

    Attributes:
        name: in results.
        contours: whose boxes are compared with the true ones.
        iou_threshold: that the best of them must reach, in per cent.
        top: the label must also be among the network's best so many classes; None for any.
    """

    name: str
    contours: Contours
    iou_threshold: int
    top: int | None = None


V2_CRITERIA = tuple(Criterion(f"BoxAccV2@{iou}", "all", iou) for iou in IOU_THRESHOLDS)
CRITERIA = (
    Criterion("MaxBoxAcc", "largest", MAX_BOX_ACC_IOU),
    Criterion("Top-1 Loc", "largest", MAX_BOX_ACC_IOU, 1),
    Criterion("Top-5 Loc", "largest", MAX_BOX_ACC_IOU, 5),
    *V2_CRITERIA,
)
NAMES = tuple(criterion.name for criterion in CRITERIA)


@lru_cache(maxsize=1)  # all methods want those of the image at hand
def resample_weights(index: int, resamples: int = RESAMPLES) -> NDArray[np.float32]:
    """How often each resample counts an image, (resamples,)."""
    draws = np.random.default_rng([RESAMPLES, index]).poisson(1.0, resamples)
    return draws.astype(np.float32)


class Tally:
    """Counts of one method, and of every resample.

    Attributes:
        num_boxes: images with boxes so far; num_masks: those with masks.
        correct: (len(CRITERIA),T) int64.
        histograms: (2,T+2) int64, see `MaskMetrics`.
    """

    def __init__(self) -> None:
        shape = (len(CRITERIA), len(CAM_THRESHOLDS))
        bins = (2, len(CAM_THRESHOLDS) + len(LAST_EDGES) - 1)
        self.num_boxes, self.num_masks = 0, 0
        self.correct = np.zeros(shape, np.int64)
        self.histograms = np.zeros(bins, np.int64)
        # Sums of whole numbers, exact in float32 up to 2**24 and in float64 up to 2**53.
        self._sizes = np.zeros(RESAMPLES, np.float32)
        self._correct = np.zeros((RESAMPLES, *shape), np.float32)
        self._histograms = np.zeros((RESAMPLES, *bins))
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
        self._waiting_masks: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []

    def add(self, record: ImageRecord, method: str) -> None:
        """Count one image, unless it was skipped."""
        if method not in record.methods:
            return
        found, weights = record.methods[method], resample_weights(record.index)
        if found.curves is not None:
            localized = np.stack([_holds(record, method, c) for c in CRITERIA])
            self.correct += localized
            self.num_boxes += 1
            self._waiting.append((weights, localized))
        if found.histograms is not None:
            self.histograms += found.histograms
            self.num_masks += 1
            self._waiting_masks.append((weights, found.histograms))
        if len(self._waiting) >= CHUNK or len(self._waiting_masks) >= CHUNK:
            self._resample()

    def _resample(self) -> None:
        if self._waiting:
            weights = np.stack([w for w, _ in self._waiting], axis=1)
            values = np.stack([c.ravel() for _, c in self._waiting]).astype(np.float32)
            self._correct += (weights @ values).reshape(self._correct.shape)
            self._sizes += weights.sum(axis=1)
        if self._waiting_masks:
            weights = np.stack([w for w, _ in self._waiting_masks], axis=1)
            counts = np.stack([h.ravel() for _, h in self._waiting_masks]).astype(np.float64)
            self._histograms += (weights @ counts).reshape(self._histograms.shape)
        self._waiting, self._waiting_masks = [], []

    def reduce(self, team: Team) -> None:
        """Add the counts of all processes up, in each of them."""
        self._resample()
        sizes = team.sum(np.array([self.num_boxes, self.num_masks]))
        self.num_boxes, self.num_masks = (int(size) for size in sizes)
        self.correct, self.histograms = team.sum(self.correct), team.sum(self.histograms)
        self._sizes, self._correct = team.sum(self._sizes), team.sum(self._correct)
        if self.num_masks:
            self._histograms = team.sum(self._histograms)

    def accuracy(self) -> NDArray[np.float64]:
        """Per cent of images localized, (len(CRITERIA),T)."""
        return 100.0 * self.correct / max(self.num_boxes, 1)

    def resampled_accuracy(self) -> NDArray[np.floating]:
        """The same in every resample, (RESAMPLES,len(CRITERIA),T)."""
        return 100 * self._correct / _counted(self._sizes)[:, None, None]

    def pxap(self) -> tuple[float, tuple[float, float]]:
        """PxAP in per cent, and its interval."""
        value = float(pixel_average_precision(self.histograms))
        return value, interval_of(pixel_average_precision(self._histograms))


class ClassTally:
    """Counts of images whose label is the network's best class, or among its best five."""

    TOPS = (1, 5)

    def __init__(self) -> None:
        self.num_images = 0
        self.correct = np.zeros(len(self.TOPS), np.int64)
        self._sizes = np.zeros(RESAMPLES, np.float32)
        self._correct = np.zeros((RESAMPLES, len(self.TOPS)), np.float32)

    def add(self, record: ImageRecord) -> None:
        """Count one image, unless it was skipped or has no label."""
        if record.failure or record.label is None or not record.top:
            return
        correct = np.array([record.is_among(top) for top in self.TOPS])
        weights = resample_weights(record.index)
        self.num_images += 1
        self.correct += correct
        self._sizes += weights
        self._correct += weights[:, None] * correct

    def reduce(self, team: Team) -> None:
        """Add the counts of all processes up, in each of them."""
        self.num_images = int(team.sum(np.array([self.num_images]))[0])
        self.correct = team.sum(self.correct)
        self._sizes, self._correct = team.sum(self._sizes), team.sum(self._correct)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Per cent and interval by name; empty where no image has a label."""
        if not self.num_images:
            return {}
        resampled = 100 * self._correct / _counted(self._sizes)[:, None]
        return {
            f"top-{top}": {
                "value": 100.0 * int(count) / self.num_images,
                "interval": interval_of(resampled[:, i]),
            }
            for i, (top, count) in enumerate(zip(self.TOPS, self.correct, strict=True))
        }


def _counted(sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sizes of resamples, NaN where one has no image: it has no accuracy."""
    return np.where(sizes > 0, sizes, np.nan).astype(np.float32)


def interval_of(values: NDArray[np.floating]) -> tuple[float, float]:
    """The 95 % interval of a figure's resamples; resamples without a value are left out."""
    low, high = np.nanpercentile(values, INTERVAL)
    return float(low), float(high)


def _holds(record: ImageRecord, method: str, criterion: Criterion) -> NDArray[np.bool_]:
    """Whether an image meets a criterion at each threshold, (T,)."""
    curves = record.methods[method].curves
    assert curves is not None
    localized = is_localized(curves.at(CAM_THRESHOLDS, criterion.contours), criterion.iou_threshold)
    return localized & (criterion.top is None or record.is_among(criterion.top))


def thresholds_of(accuracy: NDArray[np.floating]) -> dict[str, float]:
    """The lowest of each criterion's best thresholds, by name: what another split may be fixed to.

    Args:
        accuracy: (len(CRITERIA),T).
    """
    best = CAM_THRESHOLDS[accuracy.argmax(axis=1)]
    return dict(zip(NAMES, best.round(6).tolist(), strict=True))


def at_thresholds(
    accuracy: NDArray[np.floating], thresholds: Mapping[str, float]
) -> NDArray[np.floating]:
    """Each criterion's accuracy at its own fixed threshold, (…,len(CRITERIA)).

    Args:
        accuracy: (…,len(CRITERIA),T).
        thresholds: by the criteria's names, each one of CAM_THRESHOLDS or rounded to the nearest.
    """
    wanted = np.array([thresholds[name] for name in NAMES])
    columns = np.abs(CAM_THRESHOLDS[None] - wanted[:, None]).argmin(axis=1)
    index = columns.reshape((1,) * (accuracy.ndim - 2) + (len(NAMES), 1))
    return np.take_along_axis(accuracy, index, axis=-1)[..., 0]
