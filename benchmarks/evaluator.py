"""What evaluating one score map costs: the WSOL benchmark's way against this project's evaluators.

    python -m benchmarks.evaluator

Boxes: the benchmark's way is one cv2.threshold and one cv2.findContours for each of 1000
thresholds, the rectangle of every contour, and the IoU of all of them with the true boxes in numpy;
it counts one contour policy. The contours alone are timed as well. BoxEvaluator.accumulate counts
the same policy, and in a second column both at once.

Masks: two calls of np.histogram, inside and outside the mask, against MaskEvaluator.histograms.
Both read the image's mask from its file, which is timed alone as well.

Each side's time is the CPU time of its one thread, the median of several turns of all sides, and
then the median over the maps. The counts are compared on the way.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.boxes import (
    POLICIES,
    contours_at,
    contours_at_levels,
    make_scoremap,
    medians_in_turns,
)
from wsolviz.analysis.boxes import quantize
from wsolviz.evaluation import BoxEvaluator, MaskEvaluator, Metadata
from wsolviz.evaluation.box_metrics import CAM_THRESHOLDS, IOU_THRESHOLDS, MAP_SIZE
from wsolviz.evaluation.mask_metrics import LAST_EDGES, read_mask
from wsolviz.evaluation.metadata import MaskFiles
from wsolviz.types import Contours

CELLS = (7, 14, 28)
IMAGE = "photo"
TRUE_BOXES = np.array([[30, 20, 160, 150], [120, 90, 210, 200]])
MASKS = MaskFiles(("mask.png",), "ignored.png")
METADATA = Metadata(
    image_ids=(IMAGE,),
    class_labels={IMAGE: 0},
    image_sizes={IMAGE: (MAP_SIZE, MAP_SIZE)},
    boxes={IMAGE: TRUE_BOXES},
    masks={IMAGE: MASKS},
)


def levels_of(quantized: NDArray[np.uint8]) -> list[int]:
    """The level of every threshold, as the benchmark computes it."""
    return [int(threshold * quantized.max()) for threshold in CAM_THRESHOLDS]


def best_ious(boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each box's IoU with the true box that fits it best, corners counted as inside."""
    a, b = boxes[:, None], TRUE_BOXES[None]
    x0, y0 = np.maximum(a[..., :2], b[..., :2]).transpose(2, 0, 1)
    x1, y1 = np.minimum(a[..., 2:], b[..., 2:]).transpose(2, 0, 1)
    shared = np.maximum(x1 - x0 + 1, 0) * np.maximum(y1 - y0 + 1, 0)
    areas = [(c[..., 2] - c[..., 0] + 1) * (c[..., 3] - c[..., 1] + 1) for c in (a, b)]
    return (shared / (areas[0] + areas[1] - shared)).max(axis=1)


def count_by_opencv(scoremap: NDArray[np.float64], policy: Contours = "all") -> NDArray[np.bool_]:
    """Whether the image is localized, (len(IOU_THRESHOLDS),T), threshold by threshold."""
    quantized = (scoremap * 255).astype(np.uint8)
    height, width = quantized.shape
    boxes: list[tuple[int, int, int, int]] = []
    starts = []
    for level in levels_of(quantized):
        contours = contours_at(quantized, level)
        if policy == "largest" and contours:
            contours = [max(contours, key=cv2.contourArea)]
        starts.append(len(boxes))
        for contour in contours:
            x, y, w, h = cv2.boundingRect(contour)
            boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
        if not contours:
            boxes.append((0, 0, 0, 0))
    best = np.maximum.reduceat(best_ious(np.array(boxes)), starts)
    return np.stack([best >= percent / 100 for percent in IOU_THRESHOLDS])


def assert_equal_counts(scoremap: NDArray[np.float64]) -> None:
    evaluator = BoxEvaluator(METADATA)
    evaluator.accumulate(scoremap, IMAGE)
    counts = evaluator.compute().num_correct
    for policy in POLICIES:
        np.testing.assert_array_equal(counts[policy], count_by_opencv(scoremap, policy))


def write_masks(folder: Path) -> None:
    """An ellipse as the object, and a frame at one side as what is ignored."""
    mask, ignored = np.zeros((2, 375, 500), np.uint8)
    cv2.ellipse(mask, (250, 180), (150, 110), 20, 0, 360, 255, -1)
    ignored[:, 430:] = 255
    for name, pixels in ((MASKS.instances[0], mask), (MASKS.ignored, ignored)):
        cv2.imwrite(str(folder / name), pixels)


def histograms_by_numpy(folder: Path, scoremap: NDArray[np.float64]) -> NDArray[np.int64]:
    mask = read_mask(folder, MASKS, scoremap.shape[:2])
    edges = np.append(CAM_THRESHOLDS, LAST_EDGES)
    return np.stack([np.histogram(scoremap[mask == kind], bins=edges)[0] for kind in (0, 1)])


def time_boxes(scoremap: NDArray[np.float64], repeats: int) -> list[float]:
    """Milliseconds of the benchmark's way, of its contours alone, and of ours twice."""
    assert_equal_counts(scoremap)
    quantized = quantize(scoremap)
    sides: list[Callable[[], object]] = [
        partial(count_by_opencv, scoremap),
        partial(contours_at_levels, quantized, levels_of(quantized)),
        partial(BoxEvaluator(METADATA, policies=POLICIES[1:]).accumulate, scoremap, IMAGE),
        partial(BoxEvaluator(METADATA).accumulate, scoremap, IMAGE),
    ]
    return medians_in_turns(sides, repeats)


def time_masks(scoremap: NDArray[np.float64], folder: Path, repeats: int) -> list[float]:
    """Milliseconds with np.histogram, with ours, and of reading the mask alone."""
    evaluator = MaskEvaluator(METADATA, folder)
    np.testing.assert_array_equal(
        evaluator.histograms(scoremap, IMAGE), histograms_by_numpy(folder, scoremap)
    )
    sides: list[Callable[[], object]] = [
        partial(histograms_by_numpy, folder, scoremap),
        partial(evaluator.histograms, scoremap, IMAGE),
        partial(read_mask, folder, MASKS, (MAP_SIZE, MAP_SIZE)),
    ]
    return medians_in_turns(sides, repeats)


def report(
    title: str,
    columns: tuple[str, ...],
    ratios: dict[str, Callable[..., float]],
    times: dict[str, list[float]],
) -> None:
    """A row for each map and one for the medians of the times, with ratios of those."""
    print(f"{title:<14}" + "".join(f"{head:>20}" for head in (*columns, *ratios)))
    medians = [median(column) for column in zip(*times.values(), strict=True)]
    for name, row in {**times, "median": medians}.items():
        shares = [ratio(*row) for ratio in ratios.values()]
        print(
            f"{name:<14}"
            + "".join(f"{time:>17.2f} ms" for time in row)
            + "".join(f"{share:>19.1f}×" for share in shares)
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the evaluators against the benchmark's way.")
    parser.add_argument("--repeats", type=int, default=15, help="turns that the median is over")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    maps = {f"{cells}×{cells} cells": make_scoremap(MAP_SIZE, cells) for cells in CELLS}
    print(f"One {MAP_SIZE}×{MAP_SIZE} map, {len(CAM_THRESHOLDS)} thresholds, one thread.\n")
    report(
        "boxes",
        ("the benchmark's way", "its contours alone", "BoxEvaluator", "of both policies"),
        {
            "way / ours": lambda way, _, ours, both: way / ours,
            "contours / ours": lambda _, contours, ours, both: contours / ours,
            "way / both": lambda way, _, ours, both: way / both,
        },
        {name: time_boxes(scoremap, arguments.repeats) for name, scoremap in maps.items()},
    )
    with tempfile.TemporaryDirectory() as folder:
        write_masks(Path(folder))
        report(
            "masks",
            ("np.histogram", "MaskEvaluator", "reading the mask"),
            {
                "numpy / ours": lambda by_numpy, ours, _: by_numpy / ours,
                "without reading": lambda by_numpy, ours, read: (by_numpy - read) / (ours - read),
            },
            {
                name: time_masks(scoremap, Path(folder), arguments.repeats)
                for name, scoremap in maps.items()
            },
        )


if __name__ == "__main__":
    main()
