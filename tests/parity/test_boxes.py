"""Counts of correct boxes at every threshold, as the WSOL benchmark's own code gave them.

`boxes/` holds 30 images' metadata in the benchmark's format, their score maps as it quantizes them,
and for each contour policy, threshold interval and IoU how many images it counted as correct.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsolviz.analysis.boxes import best_iou_at_levels, boxes_at_levels, quantize, threshold_level

FOLDER = Path(__file__).parent / "boxes"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())["cases"]
SIDE = 224


def scoremaps() -> list[NDArray[np.float64]]:
    levels = np.load(FOLDER / "levels.npz")["levels"]
    maps = list(np.minimum((levels + 0.5) / 255, 1))  # a score from the middle of each level
    for scoremap, level in zip(maps, levels, strict=True):
        np.testing.assert_array_equal(quantize(scoremap), level)
    return maps


def true_boxes() -> dict[str, list[list[int]]]:
    """Each image's boxes in the score map's pixels, cut off to whole ones as the benchmark does."""
    sizes = {}
    for line in (FOLDER / "image_sizes.txt").read_text().split():
        image, width, height = line.split(",")
        sizes[image] = (int(width), int(height))
    boxes = defaultdict(list)
    for line in (FOLDER / "localization.txt").read_text().split():
        image, *corners = line.split(",")
        sides = sizes[image] * 2
        boxes[image].append([int(int(c) * SIDE / s) for c, s in zip(corners, sides, strict=True)])
    return boxes


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_counts_at_every_threshold(contours):
    boxes = true_boxes()
    images = (FOLDER / "image_ids.txt").read_text().split()
    maps = scoremaps()
    best = [
        best_iou_at_levels(boxes_at_levels(scoremap, contours), boxes[image])
        for scoremap, image in zip(maps, images, strict=True)
    ]
    for interval in (0.001, 0.005, 0.01):
        expected = EXPECTED[f"{contours}_{interval}"]
        thresholds = np.arange(0, 1, interval)
        levels = [[threshold_level(scoremap, t) for t in thresholds] for scoremap in maps]
        ious = np.take_along_axis(np.stack(best), np.array(levels), axis=1)
        for percent, accuracy in zip((30, 50, 70), expected["box_acc"], strict=True):
            counts = (ious >= percent / 100).sum(axis=0)
            assert counts.tolist() == expected["num_correct"][str(percent)]
            assert 100 * counts.max() / len(images) == pytest.approx(accuracy)
