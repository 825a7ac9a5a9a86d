"""MaxBoxAcc and MaxBoxAccV2 (Choe et al., CVPR 2020, arXiv 2007.04178).

An image counts as localized at a threshold when the best of its boxes there has at least the wanted
IoU with the best of its true boxes. Both numbers are the share of localized images at the best
threshold, one for all images: MaxBoxAcc at IoU 50 % with the box of the largest contour, V2 the
mean over IoU 30, 50 and 70 % with the boxes of all contours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsolviz.analysis.boxes import (
    LevelBoxes,
    best_iou_at_levels,
    boxes_of_quantized,
    quantize,
)
from wsolviz.evaluation.metadata import Metadata
from wsolviz.types import Contours

# wsolevaluation, config.py: --cam_curve_interval .001, --iou_threshold_list 30 50 70;
# data_loaders.py: _RESIZE_LENGTH = 224.
CAM_THRESHOLDS: NDArray[np.float64] = np.arange(0, 1, 0.001)
IOU_THRESHOLDS = (30, 50, 70)
MAP_SIZE = 224
POLICIES: tuple[Contours, ...] = ("largest", "all")
MAX_BOX_ACC_IOU = 50


@dataclass(frozen=True)
class IouCurves:
    """How well one image's boxes fit at every threshold; all that the metrics need of it.

    Attributes:
        max_level: the largest value of the quantized score map, which thresholds are a share of.
        best: for each contour policy (256,), the best IoU at each level.
    """

    max_level: int
    best: Mapping[Contours, NDArray[np.float64]]

    def at(self, cam_thresholds: NDArray[np.float64], contours: Contours) -> NDArray[np.float64]:
        """The best IoU at each threshold: the foreground is q > int(τ·max q)."""
        return self.best[contours][(cam_thresholds * self.max_level).astype(np.int64)]


@dataclass(frozen=True)
class ScoremapBoxes:
    """The boxes of one score map at every level.

    Attributes:
        max_level: the largest value of the quantized map.
        boxes: for each contour policy.
    """

    max_level: int
    boxes: Mapping[Contours, LevelBoxes]

    @classmethod
    def of(cls, scoremap: ArrayLike, policies: Collection[Contours] = POLICIES) -> ScoremapBoxes:
        """Find them.

        Args:
            scoremap: (H,W) in [0,1].
            policies: whose boxes are wanted.

        Raises:
            ValueError: a map that `quantize` does not take.
        """
        levels = quantize(scoremap)
        return cls(int(levels.max()), boxes_of_quantized(levels, policies))

    def curves(self, true_boxes: NDArray[np.int64]) -> IouCurves:
        """The best IoU at every level.

        Args:
            true_boxes: (n,4) x0,y0,x1,y1 in the map's pixels, at least one.
        """
        best = {
            policy: best_iou_at_levels(found, true_boxes) for policy, found in self.boxes.items()
        }
        return IouCurves(self.max_level, best)


def is_localized(ious: NDArray[np.float64], iou_threshold: int) -> NDArray[np.bool_]:
    """Whether IoUs reach a threshold in per cent."""
    return ious >= iou_threshold / 100


@dataclass(frozen=True)
class BoxMetrics:
    """What a `BoxEvaluator` found.

    Attributes:
        num_images: how many were accumulated.
        cam_thresholds: (T,) in [0,1).
        iou_thresholds: in per cent.
        num_correct: for each contour policy (len(iou_thresholds),T) int64, localized images.
    """

    num_images: int
    cam_thresholds: NDArray[np.float64]
    iou_thresholds: tuple[int, ...]
    num_correct: Mapping[Contours, NDArray[np.int64]]

    def accuracy(self, contours: Contours) -> NDArray[np.float64]:
        """Per cent of images localized, (len(iou_thresholds),T)."""
        return 100.0 * self.num_correct[contours] / max(self.num_images, 1)

    def best(self, contours: Contours, iou_threshold: int) -> tuple[float, float]:
        """The highest accuracy in per cent, and the lowest cam_threshold that gives it.

        Raises:
            ValueError: a policy or an IoU threshold that was not counted.
        """
        if contours not in self.num_correct or iou_threshold not in self.iou_thresholds:
            raise ValueError(
                f"{contours} contours at IoU {iou_threshold} % were not counted, but "
                f"{', '.join(self.num_correct)} at {', '.join(map(str, self.iou_thresholds))} %."
            )
        curve = self.accuracy(contours)[self.iou_thresholds.index(iou_threshold)]
        return float(curve.max()), float(self.cam_thresholds[curve == curve.max()].min())

    @property
    def max_box_acc(self) -> float:
        """MaxBoxAcc in per cent: largest contour, IoU 50 %."""
        return self.best("largest", MAX_BOX_ACC_IOU)[0]

    @property
    def max_box_acc_v2(self) -> float:
        """MaxBoxAccV2 in per cent: all contours, mean over the IoU thresholds."""
        return float(np.mean([self.best("all", iou)[0] for iou in self.iou_thresholds]))


class BoxEvaluator:
    """Counts localized images at every threshold.

    Memory does not grow with the number of images.

    >>> boxes, sizes = {"a.jpg": np.array([[50, 50, 150, 150]])}, {"a.jpg": (224, 224)}
    >>> evaluator = BoxEvaluator(Metadata(("a.jpg",), {"a.jpg": 0}, sizes, boxes))
    >>> scoremap = np.zeros((224, 224))
    >>> scoremap[50:150, 50:150] = 1
    >>> evaluator.accumulate(scoremap, "a.jpg")
    >>> evaluator.compute().max_box_acc_v2
    100.0
    """

    def __init__(
        self,
        metadata: Metadata,
        *,
        cam_thresholds: Sequence[float] | NDArray[np.float64] = CAM_THRESHOLDS,
        iou_thresholds: Sequence[int] = IOU_THRESHOLDS,
        policies: Collection[Contours] = POLICIES,
        size: int | tuple[int, int] = MAP_SIZE,
    ) -> None:
        """Prepare to count.

        Args:
            metadata: with boxes.
            cam_thresholds: in [0,1], shares of a score map's maximum.
            iou_thresholds: in whole per cent.
            policies: "largest" for MaxBoxAcc, "all" for MaxBoxAccV2; both take less time than one
                after the other.
            size: (height, width) of the score maps in pixels, or one side of a square.

        Raises:
            ValueError: thresholds out of their range, no such policy, or metadata without boxes.
        """
        self.cam_thresholds = np.asarray(cam_thresholds, dtype=np.float64)
        self.iou_thresholds = tuple(iou_thresholds)
        self.size = map_shape(size)
        self._metadata = metadata
        _check_thresholds(self.cam_thresholds, self.iou_thresholds)
        if not policies or not set(policies) <= set(POLICIES):
            raise ValueError(f"policies are one or both of {', '.join(POLICIES)}, not {policies}.")
        if not metadata.boxes:
            raise ValueError(
                "These metadata hold no boxes, only masks; MaskEvaluator measures with those."
            )
        shape = (len(self.iou_thresholds), len(self.cam_thresholds))
        self._num_correct = {policy: np.zeros(shape, np.int64) for policy in policies}
        self._num_images = 0

    def accumulate(self, scoremap: ArrayLike, image_id: str) -> None:
        """Count one image.

        Args:
            scoremap: (H,W) in [0,1], of the evaluator's size.
            image_id: in the metadata.

        Raises:
            ValueError: a map of another size or range, or an image without boxes.
        """
        self.add(self.curves(scoremap, image_id))

    def curves(self, scoremap: ArrayLike, image_id: str) -> IouCurves:
        """What `accumulate` counts of one image; see there for what is raised."""
        scores = np.asarray(scoremap)
        check_shape(scores, self.size, image_id)
        if image_id not in self._metadata.boxes:
            raise ValueError(f"There is no box of {image_id!r} in the metadata.")
        true_boxes = self._metadata.resized_boxes(image_id, self.size)
        return ScoremapBoxes.of(scores, self._num_correct).curves(true_boxes)

    def add(self, curves: IouCurves) -> None:
        """Count one image of which the curves are known."""
        for policy, counts in self._num_correct.items():
            ious = curves.at(self.cam_thresholds, policy)
            counts += [is_localized(ious, iou_threshold) for iou_threshold in self.iou_thresholds]
        self._num_images += 1

    def compute(self) -> BoxMetrics:
        """The metrics of all images so far; more may be accumulated afterwards."""
        counts = {policy: counts.copy() for policy, counts in self._num_correct.items()}
        return BoxMetrics(self._num_images, self.cam_thresholds, self.iou_thresholds, counts)


def map_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that is given so, or as one side of a square.

    Raises:
        ValueError: another shape, or a side below 1.
    """
    sides = np.atleast_1d(np.asarray(size))
    if sides.shape not in ((1,), (2,)) or sides.dtype.kind not in "iu" or sides.min() < 1:
        raise ValueError(f"The size is (height, width) or one side in whole pixels, not {size}.")
    return int(sides[0]), int(sides[-1])


def check_shape(scores: NDArray[Any], size: tuple[int, int], image_id: str) -> None:
    """Refuse a score map of another size than the evaluator's.

    Raises:
        ValueError: it is of another size.
    """
    if scores.shape != size:
        raise ValueError(
            f"The score map of {image_id} has shape {scores.shape}, not {size}; resize it with "
            "wsolviz.scoremap(heatmap, size), or give the evaluator its size."
        )


def _check_thresholds(cam_thresholds: NDArray[np.float64], iou_thresholds: tuple[int, ...]) -> None:
    inside = cam_thresholds.size and cam_thresholds.min() >= 0 and cam_thresholds.max() <= 1
    if cam_thresholds.ndim != 1 or not inside:
        raise ValueError("cam_thresholds are numbers between 0 and 1, at least one.")
    wrong = [t for t in iou_thresholds if not 0 < t <= 100 or t != int(t)]
    if wrong or not iou_thresholds:
        raise ValueError(f"iou_thresholds are whole per cent from 1 to 100, not {iou_thresholds}.")
