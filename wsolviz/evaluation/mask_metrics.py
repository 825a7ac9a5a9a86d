"""PxAP: pixel average precision against masks (Choe et al., CVPR 2020, arXiv 2007.04178).

Scores of all pixels of all images go into one histogram inside the masks and one outside; regions
that are marked as ignored go into neither. Precision and recall at each score bin give a curve, and
PxAP is the area under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsolviz.analysis.pixel_order import kernel
from wsolviz.evaluation.box_metrics import CAM_THRESHOLDS, MAP_SIZE, check_shape, map_shape
from wsolviz.evaluation.metadata import MaskFiles, Metadata

INSIDE, OUTSIDE = 1, 0
IGNORED = 255  # wsolevaluation, evaluation.py, get_mask
# The bins behind the last threshold that the benchmark adds (evaluation.py, MaskEvaluator): scores
# of exactly 1 have one of their own.
LAST_EDGES = (1.0, 2.0, 3.0)


def read_mask(root: Path, files: MaskFiles, size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image's mask on the score map's grid: (H,W), 1 inside, 0 outside, 255 ignored.

    Files are grey images, resized to the nearest pixel; the instances are united, and what one of
    them covers is never ignored (wsolevaluation, evaluation.py, get_mask).

    Raises:
        FileNotFoundError: a file that is not there.
        ValueError: a file that is no image.
    """
    inside = np.zeros(size, dtype=np.bool_)
    for name in files.instances:
        inside |= _read_region(root, name, size)
    mask = inside.astype(np.uint8)
    if files.ignored:
        mask[_read_region(root, files.ignored, size) & ~inside] = IGNORED
    return mask


def _read_region(root: Path, name: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    path = root / name
    if not path.is_file():
        raise FileNotFoundError(f"There is no mask {name}.")
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError(f"The mask {name} is not an image that can be read.")
    resized = cv2.resize(grey, size[::-1], interpolation=cv2.INTER_NEAREST)
    return resized > 0


@kernel
def _histogram(
    scores: NDArray[np.floating],
    mask: NDArray[np.uint8],
    edges: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Add scores to (2,len(edges)-1) counts by mask value 0 or 1; a bin holds its left edge.

    The bin is guessed, as bins of equal width would have it, and then corrected.
    """
    bins = len(edges) - 1
    width = edges[1] - edges[0]
    for i in range(len(scores)):
        kind = mask[i]
        if kind > 1:
            continue
        score = np.float64(scores[i])
        k = min(int((score - edges[0]) / width), bins - 1)
        while k > 0 and score < edges[k]:
            k -= 1
        while k < bins - 1 and score >= edges[k + 1]:
            k += 1
        counts[kind, k] += 1


@dataclass(frozen=True)
class MaskMetrics:
    """What a `MaskEvaluator` found.

    Attributes:
        num_images: how many were accumulated.
        cam_thresholds: (T,), left edges of the score bins.
        histograms: (2,T+2) int64, pixels outside and inside the masks by score.
        precision: (T+2,), of the pixels at or above each bin, the highest bin first; NaN where
            there is none.
        recall: (T+2,), likewise.
    """

    num_images: int
    cam_thresholds: NDArray[np.float64]
    histograms: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @property
    def pxap(self) -> float:
        """PxAP in per cent."""
        return float(pixel_average_precision(self.histograms))


def precision_and_recall(
    histograms: NDArray[np.integer | np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall over (…,2,N) histograms, the highest bin first; 0/0 is NaN."""
    false_positives, true_positives = np.moveaxis(histograms[..., ::-1].cumsum(axis=-1), -2, 0)
    with np.errstate(invalid="ignore"):
        precision = true_positives / (true_positives + false_positives)
        recall = true_positives / true_positives[..., -1:]
    return precision, recall


def pixel_average_precision(histograms: NDArray[np.integer | np.floating]) -> NDArray[np.float64]:
    """PxAP in per cent of (…,2,N) histograms: Σ precision·Δrecall, from the second bin down."""
    precision, recall = precision_and_recall(histograms)
    steps = np.nan_to_num(precision[..., 1:]) * np.diff(recall, axis=-1)
    return 100 * steps.sum(axis=-1)


class MaskEvaluator:
    """Histograms of scores inside and outside the masks; memory does not grow with the images."""

    def __init__(
        self,
        metadata: Metadata,
        mask_root: str | Path,
        *,
        cam_thresholds: Sequence[float] | NDArray[np.float64] = CAM_THRESHOLDS,
        size: int | tuple[int, int] = MAP_SIZE,
    ) -> None:
        """Prepare to count.

        Args:
            metadata: with masks.
            mask_root: the folder that the mask files' names are relative to.
            cam_thresholds: left edges of the score bins, ascending from 0.
            size: (height, width) of the score maps in pixels, or one side of a square.

        Raises:
            ValueError: thresholds that do not rise from 0, or metadata without masks.
        """
        thresholds = np.asarray(cam_thresholds, dtype=np.float64)
        if thresholds.ndim != 1 or not len(thresholds) or thresholds[0] != 0:
            raise ValueError("cam_thresholds are numbers that rise from 0.")
        if not (np.diff(thresholds) > 0).all() or not thresholds[-1] < 1:  # NaN too
            raise ValueError("cam_thresholds must rise, and stay below 1.")
        if not metadata.masks:
            raise ValueError("These metadata hold no masks; BoxEvaluator measures with boxes.")
        self.cam_thresholds = thresholds
        self.size = map_shape(size)
        self._edges = np.append(thresholds, LAST_EDGES)
        self._metadata, self._root = metadata, Path(mask_root)
        self._histograms = np.zeros((2, len(self._edges) - 1), np.int64)
        self._num_images = 0

    def accumulate(self, scoremap: ArrayLike, image_id: str) -> None:
        """Count one image's pixels.

        Args:
            scoremap: (H,W) in [0,1], of the evaluator's size.
            image_id: in the metadata.

        Raises:
            ValueError: a map of another size or range, an image without masks, or a mask that
                cannot be read.
            FileNotFoundError: a mask that is not there.
        """
        self.add(self.histograms(scoremap, image_id))

    def histograms(self, scoremap: ArrayLike, image_id: str) -> NDArray[np.int64]:
        """What `accumulate` counts of one image, (2,T+2); see there for what is raised."""
        scores = np.asarray(scoremap)
        if scores.dtype not in (np.float32, np.float64):  # the two that the kernel is made for
            scores = scores.astype(np.float64)
        check_shape(scores, self.size, image_id)
        if not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError(f"The score map of {image_id} has values outside [0,1].")
        if image_id not in self._metadata.masks:
            raise ValueError(f"There is no mask of {image_id!r} in the metadata.")
        mask = read_mask(self._root, self._metadata.masks[image_id], self.size)
        counts = np.zeros_like(self._histograms)
        _histogram(scores.ravel(), mask.ravel(), self._edges, counts)
        return counts

    def add(self, histograms: NDArray[np.int64]) -> None:
        """Count one image of which the histograms are known."""
        self._histograms += histograms
        self._num_images += 1

    def compute(self) -> MaskMetrics:
        """The metrics of all images so far.

        Raises:
            ValueError: not one pixel inside a mask so far.
        """
        if not self._histograms[INSIDE].any():
            raise ValueError("There is no pixel inside a mask yet, so PxAP has no value.")
        precision, recall = precision_and_recall(self._histograms)
        return MaskMetrics(
            self._num_images, self.cam_thresholds, self._histograms.copy(), precision, recall
        )
