"""Boxes of a score map at every threshold, exactly as the WSOL benchmark finds them.

The rule (Choe et al., CVPR 2020; wsolevaluation, util.py, compute_bboxes_from_scoremaps): the map
is quantized to q = uint8(255·s); at the threshold τ the foreground is q > int(τ·max q); each of its
contours, those of holes included, gives its upright rectangle. So there are at most 256 different
foregrounds, however many thresholds are asked for, and all of them are found at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsolviz.analysis.level_sets import (
    Search,
    all_contours,
    largest_and_all_contours,
    largest_contour,
)
from wsolviz.analysis.pixel_order import kernel
from wsolviz.types import Contours

NUM_LEVELS = 256
FIND: dict[Contours, Callable[[NDArray[np.uint8]], NDArray[np.int32]]] = {
    "largest": largest_contour,
    "all": all_contours,
}
RunBoth: TypeAlias = Callable[[Search, Search], tuple[NDArray[np.int32], ...]]


class LevelBoxes(Sequence[NDArray[np.int64]]):
    """The boxes at all 256 levels; `boxes[level]` holds those of the foreground q > level.

    Each is an (n,4) int64 array of x0,y0,x1,y1 in the map's pixels, one row a contour in no
    particular order, so a box may be there twice. A level without a contour has the box 0,0,0,0.
    As in the benchmark, x1 and y1 are one more than the contour's last pixel, except at the map's
    edge, where they are that pixel.

    Attributes:
        intervals: (m,6) int32, first_level, last_level, x0, y0, x1, y1: each box over a run of
            levels, both ends included, at which its contour had it. Read-only.

    >>> scoremap = np.zeros((4, 6))
    >>> scoremap[1:3, 1:4] = 1
    >>> boxes_at_levels(scoremap)[100]
    array([[1, 1, 4, 3]])
    """

    def __init__(self, intervals: NDArray[np.int32]) -> None:
        self.intervals = intervals.view()
        self.intervals.flags.writeable = False

    def __len__(self) -> int:
        return NUM_LEVELS

    @overload
    def __getitem__(self, level: int) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, level: slice) -> list[NDArray[np.int64]]: ...
    def __getitem__(self, level: int | slice) -> NDArray[np.int64] | list[NDArray[np.int64]]:
        if isinstance(level, slice):
            return [self[i] for i in range(NUM_LEVELS)[level]]
        level = range(NUM_LEVELS)[operator.index(level)]
        first, last = self.intervals[:, 0], self.intervals[:, 1]
        return self.intervals[(first <= level) & (level <= last), 2:].astype(np.int64)


def quantize(scoremap: ArrayLike) -> NDArray[np.uint8]:
    """The map as the benchmark thresholds it: uint8(255·s), cut off, not rounded.

    Args:
        scoremap: (H,W) in [0,1].

    Returns:
        (H,W) uint8.

    Raises:
        ValueError: a map that is not 2-D, is empty, or has values outside [0,1].
    """
    checked, _ = _check(scoremap)
    return (checked * 255).astype(np.uint8)


def threshold_level(scoremap: ArrayLike, threshold: float) -> int:
    """The level that a threshold stands for: the foreground is q > int(τ·max q).

    Args:
        scoremap: (H,W) in [0,1].
        threshold: τ in [0,1], a share of the map's maximum.

    Raises:
        ValueError: a threshold outside [0,1], or a map that `quantize` does not take.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(
            f"The threshold is {threshold}; it is a share of the map's maximum, from 0 to 1."
        )
    _, maximum = _check(scoremap)
    return int(threshold * int(maximum * 255))


def _check(scoremap: ArrayLike) -> tuple[NDArray[np.floating], np.floating]:
    """The map as an array, and its maximum."""
    scores = np.asarray(scoremap)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(
            f"A score map has shape (H,W) with at least one pixel, not {scores.shape}; "
            "give one image's map at a time."
        )
    low, high = scores.min(), scores.max()
    if not (low >= 0 and high <= 1):  # NaN too fails both
        raise ValueError(
            f"The score map's values run from {low:g} to {high:g}; they must lie in [0,1]. "
            "wsolviz.scoremap(heatmap, size) makes such a map of a raw heatmap."
        )
    return scores, high


def boxes_at_levels(scoremap: ArrayLike, contours: Contours = "largest") -> LevelBoxes:
    """The boxes of the contours of q > level, for all 256 levels of the quantized map q.

    A contour is a foreground component of 8-neighbours, or a hole in one, that is a background
    component of 4-neighbours away from the image's border. A hole's contour runs through the
    foreground around it. Equal to the benchmark's own boxes at every level.

    Args:
        scoremap: (H,W) in [0,1].
        contours: "largest" gives the box of the contour of largest polygon area, one a level;
            "all" gives every contour's.

    Raises:
        ValueError: a map that `quantize` does not take, or another `contours`.
    """
    if contours not in FIND:
        raise ValueError(f"There is no choice of contours {contours!r}; allowed: largest, all.")
    return LevelBoxes(FIND[contours](quantize(scoremap)))


def one_after_the_other(first: Search, second: Search) -> tuple[NDArray[np.int32], ...]:
    """The results of both, in this thread."""
    return first(), second()


def boxes_of_each_policy(
    scoremap: ArrayLike, run_both: RunBoth = one_after_the_other
) -> dict[Contours, LevelBoxes]:
    """`boxes_at_levels` for "largest" and for "all", in less time than one after the other.

    Args:
        scoremap: (H,W) in [0,1].
        run_both: gives the results of two functions that may run at the same time.

    Raises:
        ValueError: a map that `quantize` does not take.
    """
    largest, every = run_both(*largest_and_all_contours(quantize(scoremap)))
    return {"largest": LevelBoxes(largest), "all": LevelBoxes(every)}


def boxes_of_quantized(
    levels: NDArray[np.uint8], policies: Collection[Contours] = ("largest", "all")
) -> dict[Contours, LevelBoxes]:
    """The boxes of one or both policies of a map that is quantized already, (H,W) uint8."""
    if len(policies) == 1:
        return {policy: LevelBoxes(FIND[policy](levels)) for policy in policies}
    largest, every = largest_and_all_contours(levels)
    return {"largest": LevelBoxes(largest()), "all": LevelBoxes(every())}


def iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes, corners counted as inside.

    A box covers (x1 − x0 + 1)·(y1 − y0 + 1) pixels (wsolevaluation, util.py,
    calculate_multiple_iou).

    Args:
        boxes_a: (n,4) x0,y0,x1,y1.
        boxes_b: (m,4) x0,y0,x1,y1.

    Returns:
        (n,m) in [0,1].

    Raises:
        ValueError: boxes of another shape, or one whose corners are the wrong way round.
    """
    a, b = _check_boxes(boxes_a)[:, None], _check_boxes(boxes_b)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    shared = sides.clip(min=0).prod(axis=-1)
    return shared / (_num_pixels(a) + _num_pixels(b) - shared)


def _check_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    checked = np.asarray(boxes, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise ValueError(f"Boxes have shape (n,4): x0, y0, x1, y1; these have {checked.shape}.")
    backwards = (checked[:, 2:] < checked[:, :2]).any(axis=1)
    if backwards.any():
        raise ValueError(
            f"Box {checked[backwards][0].tolist()} ends before it starts; "
            "boxes are x0, y0, x1, y1 with x0 <= x1 and y0 <= y1."
        )
    return checked


def _num_pixels(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[..., 2:] - boxes[..., :2] + 1).prod(axis=-1)


def best_iou_at_levels(level_boxes: LevelBoxes, true_boxes: ArrayLike) -> NDArray[np.float64]:
    """The best IoU of any box at a level with any true box, for all 256 levels.

    Args:
        level_boxes: of `boxes_at_levels`.
        true_boxes: (n,4) x0,y0,x1,y1 in the score map's pixels, at least one.

    Returns:
        (256,) in [0,1].

    Raises:
        ValueError: no true box, or boxes that `iou` does not take.
    """
    checked = _check_boxes(true_boxes)
    if not len(checked):
        raise ValueError("There is no true box to compare with; give at least one.")
    return _best_by_level(level_boxes.intervals, checked)


@kernel
def _best_by_level(
    intervals: NDArray[np.int32], true_boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The highest IoU of any interval's box with any true box at each level, (256,).

    As `iou` computes it, whose arrays would cost more than the boxes themselves.
    """
    best = np.zeros(NUM_LEVELS)
    for i in range(len(intervals)):
        x0, y0, x1, y1 = intervals[i, 2], intervals[i, 3], intervals[i, 4], intervals[i, 5]
        num_pixels = float(x1 - x0 + 1) * float(y1 - y0 + 1)
        score = 0.0
        for j in range(len(true_boxes)):
            width = min(x1, true_boxes[j, 2]) - max(x0, true_boxes[j, 0]) + 1
            height = min(y1, true_boxes[j, 3]) - max(y0, true_boxes[j, 1]) + 1
            if width > 0 and height > 0:
                shared = width * height
                across = true_boxes[j, 2] - true_boxes[j, 0] + 1
                down = true_boxes[j, 3] - true_boxes[j, 1] + 1
                score = max(score, shared / (num_pixels + across * down - shared))
        for level in range(intervals[i, 0], intervals[i, 1] + 1):
            best[level] = max(best[level], score)
    return best


def scale_boxes(
    boxes: NDArray[np.int64], from_size: tuple[int, int], to_size: tuple[int, int]
) -> NDArray[np.int64]:
    """Boxes in another size's pixels: all those that the box touches, corners included.

    Args:
        boxes: (n,4) int64, x0,y0,x1,y1.
        from_size: (width, height) of the image that they are in.
        to_size: (width, height) of the image that they shall be in.

    Returns:
        (n,4) int64, unchanged where the sizes are equal.

    Raises:
        ValueError: a size that is not positive.
    """
    if min(*from_size, *to_size) < 1:
        raise ValueError(
            f"Boxes cannot go from size {from_size} to {to_size}; "
            "sizes are (width, height), at least 1 each."
        )
    old, new = np.array(from_size), np.array(to_size)
    # In whole numbers, since a float's rounding could move a corner by a pixel.
    corner = boxes[:, :2] * new // old
    opposite = -(-(boxes[:, 2:] + 1) * new // old) - 1
    return np.hstack([corner, np.minimum(opposite, new - 1)])
