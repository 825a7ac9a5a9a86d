from __future__ import annotations

from collections import Counter
from fractions import Fraction

import cv2
import numpy as np
import pytest

from wsolviz.analysis.boxes import (
    best_iou_at_levels,
    boxes_at_levels,
    boxes_of_each_policy,
    iou,
    one_after_the_other,
    quantize,
    scale_boxes,
    threshold_level,
)
from wsolviz.panel_workers import workers


def opencv_contours(levels, level):
    """The contours of one foreground, as the benchmark asks OpenCV for them."""
    _, foreground = cv2.threshold(levels, level, 255, cv2.THRESH_BINARY)
    return cv2.findContours(foreground, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]


def opencv_box(contour, shape):
    height, width = shape
    x, y, w, h = cv2.boundingRect(contour)
    return x, y, min(x + w, width - 1), min(y + h, height - 1)


def assert_equal_to_opencv(levels, at=range(256)):
    """Compare both policies at these levels, as multisets."""
    levels = np.ascontiguousarray(levels, np.uint8)
    scoremap = np.minimum((levels + 0.5) / 255, 1)
    largest, every = boxes_at_levels(scoremap, "largest"), boxes_at_levels(scoremap, "all")
    for level in at:
        contours = opencv_contours(levels, level)
        boxes = [opencv_box(contour, levels.shape) for contour in contours]
        expected = boxes or [(0, 0, 0, 0)]
        assert Counter(map(tuple, every[level].tolist())) == Counter(expected), level
        if contours:
            expected = [opencv_box(max(contours, key=cv2.contourArea), levels.shape)]
        assert list(map(tuple, largest[level].tolist())) == expected, level


def smooth(rng, height, width, cells):
    """Bicubic noise that takes the whole range, like a heatmap brought to an image's size."""
    noise = rng.standard_normal((cells, cells)).astype(np.float32)
    field = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (255 * (field - field.min()) / max(np.ptp(field), 1e-6)).astype(np.uint8)


def rings(rng, height, width, count):
    """Circles and squares of random brightness and width, within and across each other."""
    levels = np.zeros((height, width), np.uint8)
    for _ in range(count):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        radius, value = int(rng.integers(1, 12)), int(rng.integers(256))
        thickness = int(rng.choice([1, 1, 2, 3, -1]))
        if rng.random() < 0.5:
            cv2.circle(levels, (x, y), radius, value, thickness)
        else:
            cv2.rectangle(levels, (x, y), (x + radius, y + radius), value, thickness)
    return levels


def lines(rng, height, width, count):
    levels = np.zeros((height, width), np.uint8)
    for _ in range(count):
        ends = [(int(rng.integers(width)), int(rng.integers(height))) for _ in range(2)]
        cv2.line(levels, *ends, int(rng.integers(1, 256)), 1)
    return levels


def white(rng, height, width, num_values):
    top = int(rng.integers(num_values - 1, 256))
    return rng.integers(0, num_values, (height, width)) * top // (num_values - 1)


KINDS = {
    "smooth": lambda rng, h, w: smooth(rng, h, w, int(rng.integers(2, 10))),
    "smooth, dark": lambda rng, h, w: smooth(rng, h, w, 5) // 3,
    "white, 2 values": lambda rng, h, w: white(rng, h, w, 2),
    "white, 5 values": lambda rng, h, w: white(rng, h, w, 5),
    "white, all values": lambda rng, h, w: rng.integers(0, 256, (h, w)),
    "sparse": lambda rng, h, w: rng.integers(1, 256, (h, w)) * (rng.random((h, w)) < 0.1),
    "dense": lambda rng, h, w: rng.integers(1, 256, (h, w)) * (rng.random((h, w)) < 0.8),
    "rings": lambda rng, h, w: rings(rng, h, w, int(rng.integers(1, 12))),
    "lines": lambda rng, h, w: lines(rng, h, w, int(rng.integers(1, 12))),
}
SHAPES = [(24, 24), (17, 31), (31, 17), (1, 40), (40, 1), (2, 2), (1, 1), (3, 9)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_opencv_at_every_level(kind, shape):
    rng = np.random.default_rng([len(kind), *shape])
    for _ in range(4):
        assert_equal_to_opencv(KINDS[kind](rng, *shape))


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_constant_maps(value):
    assert_equal_to_opencv(np.full((6, 9), value))


def test_equal_to_opencv_on_all_foregrounds_of_3_by_4():
    for bits in range(1 << 12):
        assert_equal_to_opencv((bits >> np.arange(12) & 1).reshape(3, 4), at=[0])


def test_nested_rings_dark_and_bright():
    distance = np.maximum(*np.abs(np.mgrid[-16:17, -16:17]))
    assert_equal_to_opencv(distance % 3 * 100 + distance)
    assert_equal_to_opencv(255 - (distance % 3 * 100 + distance))
    diamonds = np.abs(np.mgrid[-16:17, -16:17]).sum(axis=0)
    assert_equal_to_opencv(diamonds % 4 * 60 + diamonds)


def test_white_noise_of_a_large_map():
    levels = np.random.default_rng(0).integers(0, 256, (384, 384))
    assert_equal_to_opencv(levels, at=[0, 40, 101, 128, 150, 210, 254, 255])


def the_second_first(first, second):
    found = second()
    return first(), found


@pytest.mark.parametrize("run_both", [one_after_the_other, the_second_first, workers.both])
@pytest.mark.parametrize("kind", KINDS)
def test_both_policies_at_once_are_each_alone(kind, run_both):
    """Neither search may meet what the other one writes, so their order and time are free."""
    scoremap = KINDS[kind](np.random.default_rng(7), 61, 47) / 255
    for policy, boxes in boxes_of_each_policy(scoremap, run_both).items():
        np.testing.assert_array_equal(boxes.intervals, boxes_at_levels(scoremap, policy).intervals)


def one_box(levels):
    (box,) = boxes_at_levels(np.array(levels, float), "largest")[0].tolist()
    return box


def test_of_equal_areas_the_contour_that_starts_last_in_the_raster_wins():
    two_squares = np.zeros((7, 9))
    two_squares[1:3, 1:3] = two_squares[2:4, 5:7] = 1
    assert one_box(two_squares) == [5, 2, 7, 4]
    assert one_box(two_squares[:, ::-1]) == [2, 2, 4, 4]
    assert one_box(two_squares[::-1]) == [1, 4, 3, 6]
    points = np.zeros((5, 9))
    points[3, 1] = points[2, 7] = points[1, 2:7] = 1  # no area, however long
    assert one_box(points) == [1, 3, 2, 4]


def test_a_tie_is_decided_anew_when_one_component_starts_earlier():
    levels = np.zeros((8, 9), np.uint8)
    levels[4:6, 1:3], levels[3:5, 5:7] = 200, 200
    levels[3, 3] = 100  # a corner of the left square: no area, but an earlier start
    assert_equal_to_opencv(levels)
    boxes = boxes_at_levels(levels / 255)
    assert boxes[150].tolist() == [[1, 4, 3, 6]]
    assert boxes[50].tolist() == [[5, 3, 7, 5]]


def test_an_outline_beats_its_hole_of_the_same_area():
    diamond_with_a_tail = np.zeros((7, 12))
    diamond_with_a_tail[[2, 3, 3, 4], [5, 4, 6, 5]] = 1
    diamond_with_a_tail[3, 7:10] = 1
    assert one_box(diamond_with_a_tail) == [4, 2, 10, 5]
    both = boxes_at_levels(diamond_with_a_tail, "all")[0].tolist()
    assert sorted(both) == [[4, 2, 7, 5], [4, 2, 10, 5]]


def test_intervals_say_the_same_as_the_levels():
    scoremap = smooth(np.random.default_rng(3), 30, 40, 9) / 255
    for contours in ("largest", "all"):
        boxes = boxes_at_levels(scoremap, contours)
        first, last = boxes.intervals[:, 0], boxes.intervals[:, 1]
        assert (first >= 0).all() and (first <= last).all() and (last <= 255).all()
        for level in range(256):
            covered = boxes.intervals[(first <= level) & (level <= last), 2:]
            np.testing.assert_array_equal(boxes[level], covered)
    largest = boxes_at_levels(scoremap, "largest").intervals
    assert (largest[:, 1] - largest[:, 0] + 1).sum() == 256
    runs = largest[np.argsort(largest[:, 0])]
    assert (runs[1:, 2:] != runs[:-1, 2:]).any(axis=1).all()  # a run ends only where the box does


def test_level_boxes_are_an_immutable_sequence():
    boxes = boxes_at_levels(np.eye(4))
    assert len(boxes) == len(list(boxes)) == 256
    assert boxes[3].dtype == np.int64
    assert boxes[-1].tolist() == boxes[255].tolist() == [[0, 0, 0, 0]]
    assert [b.tolist() for b in boxes[253:]] == [[[0, 0, 3, 3]]] * 2 + [[[0, 0, 0, 0]]]
    with pytest.raises(IndexError):
        boxes[256]
    with pytest.raises(ValueError, match="read-only"):
        boxes.intervals[0] = 0
    boxes[3][:] = 7
    assert boxes[3].tolist() == [[0, 0, 3, 3]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantize_cuts_off(dtype):
    scores = np.random.default_rng(0).random((50, 60)).astype(dtype)
    scores[0, :3] = 0, 1, np.nextafter(dtype(1), dtype(0))
    cut_off = np.floor(scores.astype(np.longdouble) * 255)
    # Where a float product rounds up to a whole number, the benchmark takes that one.
    expected = np.where(scores * dtype(255) == cut_off + 1, cut_off + 1, cut_off)
    np.testing.assert_array_equal(quantize(scores), expected)
    assert quantize(scores).dtype == np.uint8
    assert quantize([[0.999]]).item() == 254


@pytest.mark.parametrize(
    ("scoremap", "message"),
    [
        (np.zeros((1, 4, 4)), r"not \(1, 4, 4\)"),
        (np.zeros(4), r"not \(4,\)"),
        (np.zeros((0, 4)), "at least one pixel"),
        (np.array([[0, 1.01]]), r"from 0 to 1.01.*wsolviz\.scoremap"),
        (np.array([[-0.01, 1]]), r"from -0.01 to 1;.*wsolviz\.scoremap"),
        (np.array([[0, np.nan]]), r"wsolviz\.scoremap"),
        (np.array([[0, np.inf]]), r"wsolviz\.scoremap"),
    ],
)
def test_no_score_map(scoremap, message):
    for function in (quantize, boxes_at_levels, lambda s: threshold_level(s, 0.5)):
        with pytest.raises(ValueError, match=message):
            function(scoremap)


def test_unknown_contours():
    with pytest.raises(ValueError, match="'biggest'; allowed: largest, all"):
        boxes_at_levels(np.zeros((2, 2)), "biggest")


@pytest.mark.parametrize("top", [0.0, 0.3, 0.7, 1.0])
def test_threshold_level_is_a_share_of_the_maximum(top):
    scoremap = np.random.default_rng(1).random((20, 20)) * top
    levels = (scoremap * 255).astype(np.uint8)
    for threshold in np.arange(0, 1, 0.001):
        assert threshold_level(scoremap, threshold) == int(threshold * np.max(levels))
    assert threshold_level(scoremap, 1) == levels.max()
    assert isinstance(threshold_level(scoremap, np.float64(0.5)), int)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_outside(threshold):
    with pytest.raises(ValueError, match="from 0 to 1"):
        threshold_level(np.zeros((2, 2)), threshold)


def random_boxes(rng, count, side):
    corners = np.sort(rng.integers(0, side, (count, 2, 2)), axis=1)
    return corners.reshape(count, 4)


def test_iou_counts_pixels():
    rng = np.random.default_rng(2)
    boxes_a, boxes_b = random_boxes(rng, 12, 9), random_boxes(rng, 15, 9)

    def cover(box):
        mask = np.zeros((9, 9), bool)
        mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
        return mask

    ious = iou(boxes_a, boxes_b)
    assert ious.shape == (12, 15) and ious.dtype == np.float64
    for i, a in enumerate(boxes_a):
        for j, b in enumerate(boxes_b):
            both, either = cover(a) & cover(b), cover(a) | cover(b)
            assert ious[i, j] == both.sum() / either.sum()
    assert iou([[3, 3, 3, 3]], [[3, 3, 3, 3]]).item() == 1


@pytest.mark.parametrize(
    ("boxes", "message"),
    [([1, 2, 3, 4], r"these have \(4,\)"), ([[5, 0, 4, 9]], "ends before it starts")],
)
def test_iou_of_what_is_no_box(boxes, message):
    for pair in ((boxes, [[0, 0, 1, 1]]), ([[0, 0, 1, 1]], boxes)):
        with pytest.raises(ValueError, match=message):
            iou(*pair)


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_best_iou_is_that_of_the_boxes_at_the_level(contours):
    rng = np.random.default_rng(5)
    for cells in (3, 6, 12):
        boxes = boxes_at_levels(smooth(rng, 40, 40, cells) / 255, contours)
        truth = random_boxes(rng, 3, 40)
        best = best_iou_at_levels(boxes, truth)
        assert best.tolist() == [iou(boxes[level], truth).max() for level in range(256)]
        assert 0 < best.max() <= 1


def test_best_iou_needs_a_true_box():
    with pytest.raises(ValueError, match="at least one"):
        best_iou_at_levels(boxes_at_levels(np.eye(3)), np.zeros((0, 4)))


def touched(first, last, scale, limit):
    """The pixels whose square overlaps [first, last + 1) · scale, one by one."""
    low, high = first * scale, (last + 1) * scale
    return [p for p in range(limit) if p < high and p + 1 > low]


@pytest.mark.parametrize("to_size", [(17, 23), (48, 48), (100, 31), (480, 640), (7, 5)])
def test_scaled_boxes_hold_all_pixels_that_they_touch(to_size):
    from_size = (48, 36)
    rng = np.random.default_rng(7)
    boxes = np.minimum(random_boxes(rng, 40, 48), [47, 35, 47, 35])
    scaled = scale_boxes(boxes, from_size, to_size)
    assert scaled.shape == (40, 4) and scaled.dtype == np.int64
    for box, new in zip(boxes.tolist(), scaled.tolist(), strict=True):
        for axis in (0, 1):
            scale = Fraction(to_size[axis], from_size[axis])
            pixels = touched(box[axis], box[axis + 2], scale, to_size[axis])
            assert (new[axis], new[axis + 2]) == (pixels[0], pixels[-1])


def test_boxes_of_equal_sizes_stay():
    boxes = np.minimum(random_boxes(np.random.default_rng(8), 20, 48), [47, 35, 47, 35])
    np.testing.assert_array_equal(scale_boxes(boxes, (48, 36), (48, 36)), boxes)


def test_scale_to_nothing():
    with pytest.raises(ValueError, match=r"\(width, height\)"):
        scale_boxes(np.array([[0, 0, 1, 1]]), (4, 4), (0, 4))
