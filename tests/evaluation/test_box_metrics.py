from __future__ import annotations

from fractions import Fraction
from itertools import product

import cv2
import numpy as np
import pytest

from wsolviz.evaluation import BoxEvaluator, BoxMetrics, Metadata
from wsolviz.evaluation.box_metrics import CAM_THRESHOLDS, IOU_THRESHOLDS

POLICIES = ("largest", "all")


def metadata_of(boxes, image_size):
    """Images named by their place in the list, all of one (width, height)."""
    names = tuple(map(str, range(len(boxes))))
    arrays = {name: np.array(rows) for name, rows in zip(names, boxes, strict=True)}
    return Metadata(names, dict.fromkeys(names, 0), dict.fromkeys(names, image_size), arrays)


def found_boxes(levels, level, policy):
    """The boxes of one foreground, as the benchmark asks OpenCV for them."""
    height, width = levels.shape
    _, foreground = cv2.threshold(levels, level, 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(foreground, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return [(0, 0, 0, 0)]
    if policy == "largest":
        contours = [max(contours, key=cv2.contourArea)]
    rectangles = [cv2.boundingRect(contour) for contour in contours]
    return [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in rectangles]


def exact_iou(a, b):
    """Shared pixels by all pixels, corners included."""
    shared = 1
    for axis in (0, 1):
        shared *= max(0, min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]) + 1)
    pixels = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return Fraction(shared, sum(pixels) - shared)


def best_iou(levels, level, policy, true_boxes):
    boxes = found_boxes(levels, level, policy)
    return max(exact_iou(box, true) for box, true in product(boxes, true_boxes))


def resized(box, image_size, map_size):
    width, height = image_size
    x_scale, y_scale = map_size[1], map_size[0]
    x0, y0, x1, y1 = map(float, box)
    corners = (
        x0 * x_scale / width,
        y0 * y_scale / height,
        x1 * x_scale / width,
        y1 * y_scale / height,
    )
    return tuple(map(int, corners))


def counted(scoremaps, boxes, image_size, cam_thresholds, iou_thresholds):
    """Localized images of each policy, by a loop over images, thresholds and boxes."""
    counts = {p: np.zeros((len(iou_thresholds), len(cam_thresholds)), int) for p in POLICIES}
    for scoremap, rows in zip(scoremaps, boxes, strict=True):
        true_boxes = [resized(box, image_size, scoremap.shape) for box in rows]
        levels = (scoremap * 255).astype(np.uint8)
        asked = [int(threshold * np.max(levels)) for threshold in cam_thresholds]
        for policy in POLICIES:
            best = {level: best_iou(levels, level, policy, true_boxes) for level in set(asked)}
            for i, level in enumerate(asked):
                for j, percent in enumerate(iou_thresholds):
                    counts[policy][j, i] += best[level] >= Fraction(percent, 100)
    return counts


def evaluated(scoremaps, metadata, **options) -> BoxMetrics:
    evaluator = BoxEvaluator(metadata, **options)
    for scoremap, name in zip(scoremaps, metadata.image_ids, strict=True):
        evaluator.accumulate(scoremap, name)
    return evaluator.compute()


def random_boxes(rng, image_size, count):
    """Large ones, since small ones would never be found."""
    width, height = image_size
    first = rng.integers(0, [width // 2, height // 2], (count, 2))
    last = rng.integers([width // 2, height // 2], [width, height], (count, 2))
    return np.hstack([first, last]).tolist()


def smooth(rng, height, width):
    cells = int(rng.integers(2, 8))
    noise = rng.standard_normal((cells, cells))
    field = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (field - field.min()) / np.ptp(field)


def steps(rng, height, width):
    count = int(rng.integers(2, 6))
    return np.floor(smooth(rng, height, width) * count) / count


def blocks(rng, height, width):
    """Bright and dark rectangles with sharp edges, some within others."""
    scores = np.zeros((height, width))
    for _ in range(8):
        x0, y0, x1, y1 = random_boxes(rng, (width, height), 1)[0]
        scores[y0:y1, x0:x1] = rng.choice([0, 0.25, 0.5, 0.75, 1])
    return scores


KINDS = {
    "smooth": smooth,
    "plateaus": steps,
    "blocks": blocks,
    "noise": lambda rng, h, w: rng.random((h, w)),
    "sparse": lambda rng, h, w: rng.random((h, w)) * (rng.random((h, w)) < 0.1),
    "maximum 0.37": lambda rng, h, w: 0.37 * smooth(rng, h, w),
    "maximum 3 levels": lambda rng, h, w: 3.5 / 255 * smooth(rng, h, w),
    "below the first level": lambda rng, h, w: 0.9 / 255 * smooth(rng, h, w),
    "constant 0": lambda rng, h, w: np.zeros((h, w)),
    "constant 0.4": lambda rng, h, w: np.full((h, w), 0.4),
    "constant 1": lambda rng, h, w: np.ones((h, w)),
}


@pytest.mark.parametrize("size", [(32, 32), (23, 40), (40, 23)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_counts_of_both_policies_at_every_threshold(kind, size):
    rng = np.random.default_rng([len(kind), *size])
    image_size = (90, 71)
    boxes = [random_boxes(rng, image_size, count) for count in (1, 2, 4)]
    scoremaps = [KINDS[kind](rng, *size) for _ in boxes]
    metrics = evaluated(scoremaps, metadata_of(boxes, image_size), size=size)
    expected = counted(scoremaps, boxes, image_size, np.arange(0, 1, 0.001), (30, 50, 70))
    assert metrics.num_images == 3
    for policy in POLICIES:
        np.testing.assert_array_equal(metrics.num_correct[policy], expected[policy])


def test_the_defaults_are_the_benchmarks():
    rng = np.random.default_rng(0)
    boxes = [random_boxes(rng, (500, 375), 2) for _ in range(3)]
    scoremaps = [smooth(rng, 224, 224) for _ in boxes]
    metrics = evaluated(scoremaps, metadata_of(boxes, (500, 375)))
    expected = counted(scoremaps, boxes, (500, 375), np.arange(0, 1, 0.001), (30, 50, 70))
    np.testing.assert_array_equal(metrics.cam_thresholds, np.arange(0, 1, 0.001))
    assert metrics.iou_thresholds == (30, 50, 70)
    for policy in POLICIES:
        np.testing.assert_array_equal(metrics.num_correct[policy], expected[policy])
    assert metrics.num_correct["all"].max() > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_thresholds_of_both_kinds_in_any_order(dtype):
    rng = np.random.default_rng(1)
    cam_thresholds = [0.9, 0.0, 1.0, 0.35, 0.35, *rng.random(20), 1 / 255, 254 / 255]
    iou_thresholds = (100, 1, 33, 75)
    boxes = [random_boxes(rng, (30, 40), 3) for _ in range(8)]
    scoremaps = [smooth(rng, 30, 24).astype(dtype) for _ in boxes]
    metrics = evaluated(
        scoremaps,
        metadata_of(boxes, (30, 40)),
        cam_thresholds=cam_thresholds,
        iou_thresholds=iou_thresholds,
        size=(30, 24),
    )
    expected = counted(scoremaps, boxes, (30, 40), cam_thresholds, iou_thresholds)
    assert metrics.iou_thresholds == iou_thresholds
    for policy in POLICIES:
        assert metrics.num_correct[policy].shape == (4, 27)
        np.testing.assert_array_equal(metrics.num_correct[policy], expected[policy])


def test_accuracies_and_both_metrics_follow_from_the_counts():
    rng = np.random.default_rng(2)
    boxes = [random_boxes(rng, (40, 40), 1) for _ in range(30)]
    scoremaps = [smooth(rng, 40, 40) for _ in boxes]
    thresholds = np.arange(0, 1, 0.01)
    metrics = evaluated(scoremaps, metadata_of(boxes, (40, 40)), cam_thresholds=thresholds, size=40)
    expected = counted(scoremaps, boxes, (40, 40), thresholds, (30, 50, 70))
    tops = {}
    for policy in POLICIES:
        shares = [[100 * count / 30 for count in row] for row in expected[policy].tolist()]
        np.testing.assert_allclose(metrics.accuracy(policy), shares, rtol=1e-14)
        for percent, row, counts in zip((30, 50, 70), shares, expected[policy], strict=True):
            first = min(i for i, count in enumerate(counts) if count == max(counts))
            accuracy, threshold = metrics.best(policy, percent)
            assert accuracy == pytest.approx(max(row), rel=1e-14)
            assert threshold == thresholds[first]
            tops[policy, percent] = max(row)
    assert len(set(tops.values())) > 3, "the policies and IoUs differ"
    assert metrics.max_box_acc == pytest.approx(tops["largest", 50], rel=1e-14)
    mean = sum(tops["all", percent] for percent in (30, 50, 70)) / 3
    assert metrics.max_box_acc_v2 == pytest.approx(mean, rel=1e-14)


def test_each_iou_has_its_own_best_threshold_but_all_images_have_the_same():
    counts = np.array([[1, 4, 0], [0, 1, 3], [2, 0, 2]])
    fewer = np.array([[0, 1, 0], [2, 1, 2], [0, 0, 0]])
    metrics = BoxMetrics(
        8, np.array([0.1, 0.2, 0.3]), (30, 50, 70), {"all": counts, "largest": fewer}
    )
    assert metrics.best("all", 30) == (50.0, 0.2)
    assert metrics.best("all", 50) == (37.5, 0.3)
    assert metrics.best("all", 70) == (25.0, 0.1), "the lowest of the best thresholds"
    assert metrics.max_box_acc_v2 == (50 + 37.5 + 25) / 3
    assert metrics.max_box_acc == 25.0


def test_v2_is_the_mean_over_whichever_ious_were_asked_for():
    rng = np.random.default_rng(3)
    boxes = [random_boxes(rng, (32, 32), 1) for _ in range(12)]
    scoremaps = [smooth(rng, 32, 32) for _ in boxes]
    metadata = metadata_of(boxes, (32, 32))
    alone = [
        evaluated(scoremaps, metadata, iou_thresholds=(percent,), size=32).max_box_acc_v2
        for percent in (20, 50, 60, 90)
    ]
    together = evaluated(scoremaps, metadata, iou_thresholds=(20, 50, 60, 90), size=32)
    assert together.max_box_acc_v2 == pytest.approx(np.mean(alone), rel=1e-14)
    assert together.max_box_acc == together.best("largest", 50)[0]


def rectangle_map(width, height):
    """A (224,224) map whose one box is 0,0,width-1,height-1 at every threshold.

    A box reaches one pixel beyond its contour, except at the map's edge.
    """
    scoremap = np.zeros((224, 224))
    scoremap[: height - (height < 224), : width - (width < 224)] = 1
    return scoremap


# Largest first, as their IoUs lie closest together.
SIDES = sorted(product(range(2, 225), repeat=2), key=lambda sides: -sides[0] * sides[1])


def box_within(width, height, pixels):
    """The (width, height) of a box of that many pixels within another, or None."""
    for w in range(1, width + 1):
        if pixels % w == 0 and pixels // w <= height:
            return w, pixels // w
    return None


def closest_pairs(threshold):
    """A box within a box, whose IoU is just below a threshold, then the threshold, then above.

    Of all fractions with the outer box's pixels below the line there is none between.
    """
    for off in (-1, 0, 1):
        for outer in SIDES:
            pixels = threshold.numerator * outer[0] * outer[1] + off
            inner = box_within(*outer, pixels // threshold.denominator)
            if pixels % threshold.denominator == 0 and inner:
                yield outer, inner
                break


def correct_count(outer, true_boxes, percent):
    metadata = metadata_of([true_boxes], (224, 224))
    metrics = evaluated(
        [rectangle_map(*outer)], metadata, cam_thresholds=[0.5], iou_thresholds=(percent,)
    )
    (largest,), (every,) = (metrics.num_correct[policy][0].tolist() for policy in POLICIES)
    assert largest == every
    return largest


@pytest.mark.parametrize(
    "percents", [[30], [50], [70], range(1, 99)], ids=["30", "50", "70", "1 to 98"]
)
def test_an_iou_is_compared_as_the_exact_fraction_that_it_is(percents):
    for percent in percents:
        threshold, seen = Fraction(percent, 100), []
        for outer, inner in closest_pairs(threshold):
            exact = Fraction(inner[0] * inner[1], outer[0] * outer[1])
            true_box = [0, 0, inner[0] - 1, inner[1] - 1]
            assert correct_count(outer, [true_box], percent) == (exact >= threshold), exact
            seen.append(exact)
        below, exactly, above = seen
        assert below < exactly == threshold < above
        assert above - below < Fraction(2, 10_000 * threshold.denominator)


@pytest.mark.parametrize("percent", IOU_THRESHOLDS)
def test_of_several_true_boxes_the_best_decides(percent):
    threshold = Fraction(percent, 100)
    below, exactly, _ = closest_pairs(threshold)
    for outer, inner in (below, exactly):
        best = [0, 0, inner[0] - 1, inner[1] - 1]
        others = [[200, 200, 223, 223], [0, 0, 3, 3], [5, 0, inner[0] - 1, inner[1] - 1]]
        assert correct_count(outer, others, percent) == 0
        for place in range(4):
            boxes = [*others[:place], best, *others[place:]]
            assert correct_count(outer, boxes, percent) == ((outer, inner) == exactly)


def test_where_nothing_is_found_the_box_is_the_first_pixel():
    metadata = metadata_of([[[0, 0, 0, 0]], [[0, 0, 1, 0]], [[1, 0, 2, 2]]], (8, 8))
    metrics = evaluated([np.zeros((8, 8))] * 3, metadata, size=8)
    for policy in POLICIES:
        assert (metrics.num_correct[policy] == [[2], [2], [1]]).all()


def test_curves_may_be_found_elsewhere_and_added():
    rng = np.random.default_rng(4)
    boxes = [random_boxes(rng, (32, 32), 2) for _ in range(5)]
    scoremaps = [smooth(rng, 32, 32) for _ in boxes]
    metadata = metadata_of(boxes, (32, 32))
    worker, collector = (BoxEvaluator(metadata, size=32) for _ in range(2))
    for i in (3, 0, 4, 2, 1):
        collector.add(worker.curves(scoremaps[i], str(i)))
    straight, found = evaluated(scoremaps, metadata, size=32), collector.compute()
    assert found.num_images == 5
    assert worker.compute().num_images == 0
    for policy in POLICIES:
        np.testing.assert_array_equal(found.num_correct[policy], straight.num_correct[policy])


def test_curves_hold_the_best_iou_at_every_level():
    rng = np.random.default_rng(5)
    metadata = metadata_of([random_boxes(rng, (40, 30), 3)], (40, 30))
    scoremap = 0.8 * smooth(rng, 30, 40)
    levels, true_boxes = (scoremap * 255).astype(np.uint8), metadata.boxes["0"].tolist()
    curves = BoxEvaluator(metadata, size=(30, 40)).curves(scoremap, "0")
    assert curves.max_level == 204
    for policy in POLICIES:
        expected = [float(best_iou(levels, level, policy, true_boxes)) for level in range(256)]
        np.testing.assert_array_equal(curves.best[policy], expected)


@pytest.mark.parametrize(
    ("size", "percent", "found", "true"),
    [(512, 53, (491, 487), (358, 354)), (2048, 70, (2041, 2033), (1999, 1453))],
)
def test_an_iou_just_below_the_threshold_of_a_large_map_does_not_count(size, percent, found, true):
    """The IoU rounds to the threshold in single precision, and is below it."""
    exact = Fraction(true[0] * true[1], found[0] * found[1])
    assert exact < Fraction(percent, 100)
    assert np.float32(float(exact)) >= np.float32(percent / 100)
    metadata = metadata_of([[[0, 0, true[0] - 1, true[1] - 1]]], (size, size))
    scoremap = np.zeros((size, size))
    scoremap[: found[1] - 1, : found[0] - 1] = 1  # a box ends one behind its contour's last pixel
    evaluator = BoxEvaluator(metadata, cam_thresholds=[0.5], iou_thresholds=(percent,), size=size)
    evaluator.accumulate(scoremap, "0")
    assert evaluator.compute().num_correct["all"].tolist() == [[0]]


def test_one_policy_alone_counts_what_both_together_count():
    rng = np.random.default_rng(8)
    metadata = metadata_of([random_boxes(rng, (224, 224), 2)], (224, 224))
    scoremap = smooth(rng, 224, 224)
    both = BoxEvaluator(metadata)
    both.accumulate(scoremap, "0")
    for policy in POLICIES:
        alone = BoxEvaluator(metadata, policies=(policy,))
        alone.accumulate(scoremap, "0")
        assert list(alone.compute().num_correct) == [policy]
        np.testing.assert_array_equal(
            alone.compute().num_correct[policy], both.compute().num_correct[policy]
        )
    with pytest.raises(ValueError, match="all contours at IoU 50 % were not counted"):
        BoxEvaluator(metadata, policies=("largest",)).compute().best("all", 50)
    with pytest.raises(ValueError, match="policies are one or both of largest, all"):
        BoxEvaluator(metadata, policies=("biggest",))


@pytest.mark.parametrize("size", [0, (8, -1), (8, 8, 8), 8.5, ()])
def test_a_size_is_two_whole_sides_or_one(size):
    metadata = metadata_of([[[0, 0, 1, 1]]], (4, 4))
    with pytest.raises(ValueError, match="The size is"):
        BoxEvaluator(metadata, size=size)


def test_sizes_of_any_whole_kind_are_taken():
    metadata = metadata_of([[[0, 0, 1, 1]]], (4, 4))
    for size in (8, np.int64(8), [8, 8], (8, 8)):
        assert BoxEvaluator(metadata, size=size).size == (8, 8)


def test_counting_goes_on_after_compute():
    metadata = metadata_of([[[0, 0, 99, 99]]], (224, 224))
    evaluator = BoxEvaluator(metadata)
    evaluator.accumulate(rectangle_map(100, 100), "0")
    first = evaluator.compute()
    evaluator.accumulate(rectangle_map(10, 10), "0")
    second = evaluator.compute()
    assert (first.num_images, first.max_box_acc) == (1, 100.0)
    assert (second.num_images, second.max_box_acc) == (2, 50.0)
    first.num_correct["all"][:] = 9
    assert evaluator.compute().max_box_acc_v2 == 50.0


def test_no_image_yet_is_no_accuracy():
    metrics = BoxEvaluator(metadata_of([[[0, 0, 1, 1]]], (8, 8))).compute()
    assert (metrics.num_images, metrics.max_box_acc, metrics.max_box_acc_v2) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("scoremap", "name", "message"),
    [
        (np.zeros((224, 224)), "0", r"score map of 0 has shape \(224, 224\), not \(20, 30\)"),
        (np.zeros((30, 20)), "0", r"shape \(30, 20\), not \(20, 30\); resize it with wsolviz"),
        (np.zeros((1, 20, 30)), "0", r"shape \(1, 20, 30\)"),
        (np.zeros((20, 30)), "b.jpg", r"no box of 'b\.jpg' in the metadata"),
        (np.full((20, 30), 1.01), "0", r"from 1\.01 to 1\.01; they must lie in \[0,1\]"),
        (np.full((20, 30), -0.01), "0", r"must lie in \[0,1\]"),
        (np.full((20, 30), np.nan), "0", r"must lie in \[0,1\]"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_not_counted(scoremap, name, message):
    evaluator = BoxEvaluator(metadata_of([[[0, 0, 9, 9]]], (30, 20)), size=(20, 30))
    with pytest.raises(ValueError, match=message):
        evaluator.accumulate(scoremap, name)
    metrics = evaluator.compute()
    assert metrics.num_images == 0
    assert not any(metrics.num_correct[policy].any() for policy in POLICIES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cam_thresholds": []}, "cam_thresholds are numbers between 0 and 1, at least one"),
        ({"cam_thresholds": [0.5, 1.001]}, "cam_thresholds are numbers between 0 and 1"),
        ({"cam_thresholds": [-0.001]}, "cam_thresholds are numbers between 0 and 1"),
        ({"cam_thresholds": [0.5, np.nan]}, "cam_thresholds are numbers between 0 and 1"),
        ({"cam_thresholds": [[0.5]]}, "cam_thresholds are numbers between 0 and 1"),
        ({"cam_thresholds": 0.5}, "cam_thresholds are numbers between 0 and 1"),
        ({"iou_thresholds": ()}, r"whole per cent from 1 to 100, not \(\)"),
        ({"iou_thresholds": (0, 50)}, r"not \(0, 50\)"),
        ({"iou_thresholds": (101,)}, r"not \(101,\)"),
        ({"iou_thresholds": (0.3, 0.5)}, r"not \(0\.3, 0\.5\)"),
        ({"iou_thresholds": (50.5,)}, r"not \(50\.5,\)"),
    ],
)
def test_thresholds_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        BoxEvaluator(metadata_of([[[0, 0, 1, 1]]], (8, 8)), **options)


def test_metadata_of_masks_alone():
    with pytest.raises(ValueError, match="no boxes, only masks; MaskEvaluator"):
        BoxEvaluator(Metadata(("a",), {"a": 0}))


def test_the_default_thresholds_are_not_changed_by_use():
    before = CAM_THRESHOLDS.copy()
    evaluated([np.ones((8, 8))], metadata_of([[[0, 0, 7, 7]]], (8, 8)), size=8)
    np.testing.assert_array_equal(CAM_THRESHOLDS, before)
