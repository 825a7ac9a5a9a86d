"""Boxes at 1000 thresholds: all levels at once against one cv2.findContours per threshold.

    python -m benchmarks.boxes

OpenCV's side is only cv2.threshold and cv2.findContours, while ours goes from the score map to the
boxes. Each side's time is the CPU time of its one thread, since a run of ours is so short that any
other process would drown it, and the median of several turns of all sides. The boxes are compared
at every threshold on the way.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from wsolviz.analysis.boxes import LevelBoxes, boxes_at_levels, quantize
from wsolviz.types import Contours

POLICIES: tuple[Contours, ...] = ("all", "largest")
MAPS = {"smooth 224×224": (224, 14), "smooth 384×384": (384, 12)}


def make_scoremap(side: int, cells: int) -> NDArray[np.float64]:
    """Random cells×cells heatmap, brought to (side, side) in [0,1] by bicubic interpolation."""
    heatmap = np.random.default_rng(0).standard_normal((cells, cells))
    resized = cv2.resize(heatmap, (side, side), interpolation=cv2.INTER_CUBIC)
    return (resized - resized.min()) / np.ptp(resized)


def contours_at(levels: NDArray[np.uint8], level: int) -> Sequence[cv2.typing.MatLike]:
    _, foreground = cv2.threshold(levels, level, 255, cv2.THRESH_BINARY)
    return cv2.findContours(foreground, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]


def contours_at_levels(levels: NDArray[np.uint8], asked: list[int]) -> None:
    for level in asked:
        contours_at(levels, level)


def assert_equal(
    found: LevelBoxes, levels: NDArray[np.uint8], asked: list[int], policy: Contours
) -> None:
    height, width = levels.shape
    for level in asked:
        contours = contours_at(levels, level)
        if policy == "largest" and contours:
            contours = [max(contours, key=cv2.contourArea)]
        rectangles = [cv2.boundingRect(contour) for contour in contours]
        boxes = [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in rectangles]
        expected = Counter(boxes or [(0, 0, 0, 0)])
        assert Counter(map(tuple, found[level].tolist())) == expected, f"they differ at {level}"


def medians_in_turns(sides: list[Callable[[], object]], repeats: int) -> list[float]:
    """Milliseconds of each side, the median over turns; one turn before them warms up."""
    times = np.empty((repeats + 1, len(sides)))
    for turn in times:
        for i, side in enumerate(sides):
            start = time.thread_time()
            side()
            turn[i] = time.thread_time() - start
    return (1000 * np.median(times[1:], axis=0)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the boxes at all levels against OpenCV.")
    parser.add_argument("--repeats", type=int, default=7, help="turns that the median is over")
    parser.add_argument("--thresholds", type=int, default=1000, help="how many, from 0 to 1")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{'map':<22}{'OpenCV':>12}{'all':>10}{'ratio':>8}{'largest':>10}{'ratio':>8}")
    for name, (side, cells) in MAPS.items():
        scoremap = make_scoremap(side, cells)
        levels = quantize(scoremap)
        thresholds = np.arange(0, 1, 1 / arguments.thresholds)
        asked = [int(threshold * levels.max()) for threshold in thresholds]
        for policy in POLICIES:
            assert_equal(boxes_at_levels(scoremap, policy), levels, sorted(set(asked)), policy)
        sides: list[Callable[[], object]] = [
            partial(contours_at_levels, levels, asked),
            *(partial(boxes_at_levels, scoremap, policy) for policy in POLICIES),
        ]
        opencv, every, largest = medians_in_turns(sides, arguments.repeats)
        print(
            f"{name:<22}{opencv:>9.1f} ms{every:>7.2f} ms{opencv / every:>7.1f}×"
            f"{largest:>7.2f} ms{opencv / largest:>7.1f}×"
        )


if __name__ == "__main__":
    main()
