"""Counts of correct boxes at every threshold, as the WSOL benchmark's own code gave them.

`boxes/` holds 30 images' metadata in the benchmark's format, their score maps as it quantizes them,
and for each contour policy, threshold interval and IoU how many images it counted as correct.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsolviz.analysis.boxes import quantize
from wsolviz.evaluation import BoxEvaluator, BoxMetrics, read_metadata

FOLDER = Path(__file__).parent / "boxes"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())["cases"]
INTERVALS = (0.001, 0.005, 0.01)


def scoremaps() -> list[NDArray[np.float64]]:
    levels = np.load(FOLDER / "levels.npz")["levels"]
    maps = list(np.minimum((levels + 0.5) / 255, 1))  # a score from the middle of each level
    for scoremap, level in zip(maps, levels, strict=True):
        np.testing.assert_array_equal(quantize(scoremap), level)
    return maps


@pytest.fixture(scope="module")
def metrics() -> dict[float, BoxMetrics]:
    metadata = read_metadata(FOLDER)
    evaluators = {
        interval: BoxEvaluator(metadata, cam_thresholds=np.arange(0, 1, interval))
        for interval in INTERVALS
    }
    for scoremap, image in zip(scoremaps(), metadata.image_ids, strict=True):
        for evaluator in evaluators.values():
            evaluator.accumulate(scoremap, image)
    return {interval: evaluator.compute() for interval, evaluator in evaluators.items()}


def test_no_case_is_left_out():
    cases = {f"{contours}_{interval}" for contours in ("largest", "all") for interval in INTERVALS}
    assert cases == set(EXPECTED)


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("contours", ["largest", "all"])
def test_counts_at_every_threshold(metrics, contours, interval):
    found, expected = metrics[interval], EXPECTED[f"{contours}_{interval}"]
    assert found.num_images == 30
    assert found.iou_thresholds == (30, 50, 70)
    counts = dict(zip(map(str, found.iou_thresholds), found.num_correct[contours], strict=True))
    assert {percent: row.tolist() for percent, row in counts.items()} == expected["num_correct"]
    for percent, accuracy in zip(found.iou_thresholds, expected["box_acc"], strict=True):
        assert found.best(contours, percent)[0] == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("interval", INTERVALS)
def test_max_box_acc_of_both_versions(metrics, interval):
    largest, every = (EXPECTED[f"{contours}_{interval}"] for contours in ("largest", "all"))
    assert metrics[interval].max_box_acc == pytest.approx(largest["box_acc"][1], abs=1e-9)
    assert metrics[interval].max_box_acc_v2 == pytest.approx(np.mean(every["box_acc"]), abs=1e-9)
