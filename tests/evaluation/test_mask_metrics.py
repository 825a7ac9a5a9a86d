from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from wsolviz.evaluation import MaskEvaluator, Metadata
from wsolviz.evaluation.mask_metrics import (
    pixel_average_precision,
    precision_and_recall,
    read_mask,
)
from wsolviz.evaluation.metadata import MaskFiles

THRESHOLDS = np.arange(0, 1, 0.001)
DTYPES = [np.float32, np.float64]


def metadata_of(masks):
    names = tuple(masks)
    return Metadata(names, dict.fromkeys(names, 0), masks=masks)


def write_mask(path, region):
    Image.fromarray(np.where(region, 255, 0).astype(np.uint8)).save(path)
    return path.name


def one_image(folder, inside, ignored=None):
    """Metadata of the image "a" with one mask of a map's size."""
    name = write_mask(folder / "inside.png", inside)
    other = "" if ignored is None else write_mask(folder / "ignored.png", ignored)
    return metadata_of({"a": MaskFiles((name,), other)})


def regions_by_hand(root, files, size):
    """(inside, ignored) as the benchmark makes them of the files."""

    def region(name):
        grey = np.float32(cv2.imread(str(root / name), cv2.IMREAD_GRAYSCALE))
        return cv2.resize(grey, size[::-1], interpolation=cv2.INTER_NEAREST) > 0.5

    inside = np.stack([region(name) for name in files.instances]).any(axis=0)
    ignored = region(files.ignored) if files.ignored else np.zeros(size, bool)
    return inside, ignored & ~inside


def histograms_by_numpy(scoremaps, root, metadata, thresholds):
    edges = np.append(thresholds, [1, 2, 3])
    counts = np.zeros((2, len(edges) - 1), int)
    for scores, name in zip(scoremaps, metadata.image_ids, strict=True):
        inside, ignored = regions_by_hand(root, metadata.masks[name], scores.shape)
        counts[0] += np.histogram(scores[~inside & ~ignored], bins=edges)[0]
        counts[1] += np.histogram(scores[inside], bins=edges)[0]
    return counts


def area_by_hand(histograms):
    """Per cent under the curve, bin by bin from the top, of which the first adds nothing."""
    outside, inside = histograms.tolist()
    area, tp, fp, recall = 0.0, 0, 0, None
    for k in reversed(range(len(inside))):
        tp, fp = tp + inside[k], fp + outside[k]
        step = 0.0 if recall is None else tp / sum(inside) - recall
        recall = tp / sum(inside)
        if tp + fp != 0:
            area += tp / (tp + fp) * step
    return 100 * area


def evaluated(scoremaps, root, metadata, **options):
    evaluator = MaskEvaluator(metadata, root, **options)
    for scores, name in zip(scoremaps, metadata.image_ids, strict=True):
        evaluator.accumulate(scores, name)
    return evaluator.compute()


def smooth(rng, size):
    noise = rng.standard_normal(rng.integers(2, 8, 2))
    field = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return (field - field.min()) / np.ptp(field)


def random_images(rng, folder, count):
    """Metadata of images with one to three instances; of each three, one has nothing ignored."""
    masks = {}
    for i in range(count):
        height, width = rng.integers(20, 400, 2)
        regions = [smooth(rng, (height, width)) > rng.uniform(0.5, 0.8) for _ in range(4)]
        instances = tuple(
            write_mask(folder / f"{i}_{j}.png", regions[j]) for j in range(rng.integers(1, 4))
        )
        ignored = write_mask(folder / f"{i}_ignored.png", regions[3]) if i % 3 else ""
        masks[f"{i}.jpg"] = MaskFiles(instances, ignored)
    return metadata_of(masks)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(224, 224), (50, 81)], ids=str)
def test_histograms_and_area_of_random_maps(tmp_path, size, dtype):
    rng = np.random.default_rng(size)
    metadata = random_images(rng, tmp_path, 9)
    scoremaps = [smooth(rng, size).astype(dtype) for _ in metadata.image_ids]
    metrics = evaluated(scoremaps, tmp_path, metadata, size=size)
    expected = histograms_by_numpy(scoremaps, tmp_path, metadata, THRESHOLDS)
    assert metrics.num_images == 9
    np.testing.assert_array_equal(metrics.histograms, expected)
    assert metrics.pxap == pytest.approx(area_by_hand(expected), rel=1e-12)
    assert 0 < metrics.histograms.sum() < 9 * size[0] * size[1], "something is ignored"


def test_the_defaults_are_the_benchmarks(tmp_path):
    rng = np.random.default_rng(1)
    metadata = random_images(rng, tmp_path, 2)
    scoremaps = [smooth(rng, (224, 224)) for _ in range(2)]
    metrics = evaluated(scoremaps, str(tmp_path), metadata)
    np.testing.assert_array_equal(metrics.cam_thresholds, THRESHOLDS)
    expected = histograms_by_numpy(scoremaps, tmp_path, metadata, THRESHOLDS)
    np.testing.assert_array_equal(metrics.histograms, expected)


@pytest.mark.parametrize(
    "thresholds",
    [
        np.arange(0, 1, 0.01),
        np.arange(0, 1, 0.1),
        [0.0],
        [0, 0.999],
        [0, 1e-9, 2e-9, 0.5],
        [0, 0.9, 0.91, 0.99, 0.999, 0.9999],
        1 - np.geomspace(1, 1e-3, 40),
    ],
    ids=["0.01", "0.1", "one", "wide first", "narrow first", "narrow last", "ever narrower"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_thresholds_even_and_uneven(tmp_path, thresholds, dtype):
    rng = np.random.default_rng(2)
    metadata = random_images(rng, tmp_path, 3)
    scoremaps = [smooth(rng, (60, 60)).astype(dtype) for _ in metadata.image_ids]
    scoremaps[0].flat[: len(thresholds)] = thresholds
    metrics = evaluated(scoremaps, tmp_path, metadata, cam_thresholds=thresholds, size=60)
    expected = histograms_by_numpy(scoremaps, tmp_path, metadata, thresholds)
    np.testing.assert_array_equal(metrics.histograms, expected)
    assert metrics.pxap == pytest.approx(area_by_hand(expected), rel=1e-12)


@pytest.mark.parametrize("interval", [0.001, 0.005, 0.01])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_on_the_edges_and_beside_them(tmp_path, dtype, interval):
    thresholds = np.arange(0, 1, interval)
    exactly = np.append(thresholds, 1).astype(dtype)
    below, above = np.nextafter(exactly, dtype(0)), np.nextafter(exactly, dtype(2))
    scores = np.concatenate([exactly, below, np.minimum(above, 1)])[None]
    inside = np.ones(scores.shape, bool)
    metrics = evaluated(
        [scores],
        tmp_path,
        one_image(tmp_path, inside),
        cam_thresholds=thresholds,
        size=scores.shape,
    )
    edges = [*thresholds.tolist(), 1.0, 2.0, 3.0]
    expected = [0] * (len(edges) - 1)
    for score in scores.ravel().tolist():
        expected[max(k for k, edge in enumerate(edges) if edge <= score)] += 1
    np.testing.assert_array_equal(metrics.histograms[1], expected)
    np.testing.assert_array_equal(np.histogram(scores, bins=edges)[0], expected)
    assert not metrics.histograms[0].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_exactly_1_have_a_bin_of_their_own_and_count(tmp_path, dtype):
    inside = np.zeros((4, 5), bool)
    inside[1:3, 1:3] = True
    scores = inside.astype(dtype)
    scores[1, 1] = np.nextafter(dtype(1), dtype(0))
    metrics = evaluated([scores], tmp_path, one_image(tmp_path, inside), size=(4, 5))
    assert metrics.histograms.shape == (2, 1002)
    assert metrics.histograms[1, 999:].tolist() == [1, 3, 0]
    assert metrics.histograms[0, 0] == metrics.histograms[0].sum() == 16
    assert metrics.pxap == pytest.approx(100)


@pytest.mark.parametrize("scores", ["0", "0.4", "1", "the wrong way round"])
def test_a_map_that_tells_nothing_has_the_masks_share(tmp_path, scores):
    inside = smooth(np.random.default_rng(3), (30, 20)) > 0.6
    scoremap = 1.0 - inside if scores == "the wrong way round" else np.full((30, 20), float(scores))
    metrics = evaluated([scoremap], tmp_path, one_image(tmp_path, inside), size=(30, 20))
    assert metrics.pxap == pytest.approx(100 * inside.mean())


def test_precision_and_recall_at_every_bin(tmp_path):
    rng = np.random.default_rng(4)
    inside = smooth(rng, (40, 40)) > 0.5
    scores = 0.8 * smooth(rng, (40, 40))
    metrics = evaluated([scores], tmp_path, one_image(tmp_path, inside), size=40)
    for place, threshold in enumerate([2, 1, *THRESHOLDS[::-1]]):
        found = scores >= threshold
        recall = (found & inside).sum() / inside.sum()
        assert metrics.recall[place] == pytest.approx(recall, rel=1e-14)
        if found.any():
            precision = (found & inside).sum() / found.sum()
            assert metrics.precision[place] == pytest.approx(precision, rel=1e-14)
        else:
            assert np.isnan(metrics.precision[place])


def test_histograms_of_several_sets_at_once():
    rng = np.random.default_rng(5)
    histograms = rng.integers(0, 50, (3, 4, 2, 30)) * (rng.random((3, 4, 2, 30)) < 0.4)
    histograms[..., 27:] = 0  # no precision there
    areas = pixel_average_precision(histograms)
    precision, recall = precision_and_recall(histograms)
    assert areas.shape == (3, 4)
    for i in np.ndindex(3, 4):
        assert areas[i] == pytest.approx(area_by_hand(histograms[i]), rel=1e-12)
        one_precision, one_recall = precision_and_recall(histograms[i])
        np.testing.assert_array_equal(precision[i], one_precision)
        np.testing.assert_array_equal(recall[i], one_recall)


def test_area_of_the_highest_bin_alone_is_left_out():
    """So it is in the benchmark, where that bin is [2,3) and always empty."""
    histograms = np.array([[5, 0, 0], [5, 0, 10]])
    assert pixel_average_precision(histograms) == pytest.approx(100 * 15 / 20 * (5 / 15))


def test_instances_are_united_and_what_they_cover_is_never_ignored(tmp_path):
    left, right, ignored = (np.zeros((6, 8), bool) for _ in range(3))
    left[1:4, 1:4] = right[2:5, 3:7] = ignored[3:, :] = True
    names = [
        write_mask(tmp_path / f"{i}.png", region) for i, region in enumerate((left, right, ignored))
    ]
    files = MaskFiles((names[0], names[1]), names[2])
    expected = np.where(left | right, 1, np.where(ignored, 255, 0))
    np.testing.assert_array_equal(read_mask(tmp_path, files, (6, 8)), expected)
    scores = np.linspace(0, 1, 48).reshape(6, 8)
    metrics = evaluated([scores], tmp_path, metadata_of({"a": files}), size=(6, 8))
    assert metrics.histograms.sum(axis=1).tolist() == [(expected == 0).sum(), (expected == 1).sum()]
    by_numpy = histograms_by_numpy([scores], tmp_path, metadata_of({"a": files}), THRESHOLDS)
    np.testing.assert_array_equal(metrics.histograms, by_numpy)


def test_what_is_ignored_changes_nothing_whatever_its_score(tmp_path):
    rng = np.random.default_rng(6)
    inside, ignored = np.zeros((2, 20, 20), bool)
    inside[:8], ignored[12:] = True, True
    scores = smooth(rng, (20, 20))
    metadata = one_image(tmp_path, inside, ignored)
    first = evaluated([scores], tmp_path, metadata, size=20)
    second = evaluated(
        [np.where(ignored, rng.random((20, 20)), scores)], tmp_path, metadata, size=20
    )
    np.testing.assert_array_equal(first.histograms, second.histograms)
    assert first.histograms.sum() == 12 * 20
    kept = one_image(tmp_path, inside[:12])
    assert evaluated([scores[:12]], tmp_path, kept, size=(12, 20)).pxap == first.pxap


def test_masks_are_resized_to_the_nearest_pixel(tmp_path):
    region = np.random.default_rng(7).random((10, 14)) < 0.5
    files = MaskFiles((write_mask(tmp_path / "mask.png", region),))
    larger = read_mask(tmp_path, files, (30, 28))
    np.testing.assert_array_equal(larger, region.repeat(3, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(read_mask(tmp_path, files, (5, 7)), region[::2, ::2])
    np.testing.assert_array_equal(read_mask(tmp_path, files, (10, 14)), region)


@pytest.mark.parametrize("size", [(224, 224), (37, 61), (400, 9)], ids=str)
def test_masks_of_any_size_are_resized_as_in_the_benchmark(tmp_path, size):
    rng = np.random.default_rng(8)
    for height, width in rng.integers(1, 500, (8, 2)).tolist():
        names = [
            write_mask(tmp_path / name, rng.random((height, width)) < share)
            for name, share in (("0.png", 0.2), ("1.png", 0.3), ("i.png", 0.5))
        ]
        files = MaskFiles(tuple(names[:2]), names[2])
        inside, ignored = regions_by_hand(tmp_path, files, size)
        expected = np.where(inside, 1, np.where(ignored, 255, 0))
        np.testing.assert_array_equal(read_mask(tmp_path, files, size), expected)


def test_every_grey_but_black_is_inside(tmp_path):
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(greys).save(tmp_path / "greys.png")
    Image.fromarray(greys >= 100).save(tmp_path / "bits.png")
    mask = read_mask(tmp_path, MaskFiles(("greys.png",)), (16, 16))
    np.testing.assert_array_equal(mask, greys > 0)
    mask = read_mask(tmp_path, MaskFiles(("bits.png",)), (16, 16))
    np.testing.assert_array_equal(mask, greys >= 100)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pixel_keeps_its_place_however_the_map_lies_in_memory(tmp_path, dtype):
    rng = np.random.default_rng(9)
    inside = smooth(rng, (24, 18)) > 0.5
    scores = smooth(rng, (24, 18)).astype(dtype)
    read_only = scores.copy()
    read_only.flags.writeable = False
    metadata = one_image(tmp_path, inside)
    expected = histograms_by_numpy([scores], tmp_path, metadata, THRESHOLDS)
    turned = np.ascontiguousarray(scores.T).T
    mirrored = np.ascontiguousarray(scores[:, ::-1])[:, ::-1]
    for same in (turned, mirrored, read_only, np.asfortranarray(scores), scores.tolist()):
        metrics = evaluated([np.asarray(same)], tmp_path, metadata, size=(24, 18))
        np.testing.assert_array_equal(metrics.histograms, expected)


def test_histograms_may_be_found_elsewhere_and_added(tmp_path):
    rng = np.random.default_rng(10)
    metadata = random_images(rng, tmp_path, 4)
    scoremaps = dict(
        zip(metadata.image_ids, (smooth(rng, (30, 30)) for _ in range(4)), strict=True)
    )
    worker, collector = (MaskEvaluator(metadata, tmp_path, size=30) for _ in range(2))
    for name in reversed(metadata.image_ids):
        collector.add(worker.histograms(scoremaps[name], name))
    straight = evaluated(scoremaps.values(), tmp_path, metadata, size=30)
    assert collector.compute().num_images == 4
    np.testing.assert_array_equal(collector.compute().histograms, straight.histograms)
    with pytest.raises(ValueError, match="no pixel inside"):
        worker.compute()


def test_counting_goes_on_after_compute(tmp_path):
    inside = np.zeros((8, 8), bool)
    inside[:4] = True
    evaluator = MaskEvaluator(one_image(tmp_path, inside), tmp_path, size=8)
    evaluator.accumulate(inside.astype(float), "a")
    first = evaluator.compute()
    evaluator.accumulate(1.0 - inside, "a")
    assert (first.num_images, first.pxap) == (1, pytest.approx(100))
    assert evaluator.compute().num_images == 2
    assert evaluator.compute().pxap == pytest.approx(50)
    first.histograms[:] = 0
    assert evaluator.compute().pxap == pytest.approx(50)


def test_no_pixel_inside_a_mask_is_no_value(tmp_path):
    metadata = one_image(tmp_path, np.zeros((8, 8), bool))
    evaluator = MaskEvaluator(metadata, tmp_path, size=8)
    with pytest.raises(ValueError, match="no pixel inside a mask yet"):
        evaluator.compute()
    evaluator.accumulate(np.ones((8, 8)), "a")
    with pytest.raises(ValueError, match="no pixel inside a mask yet"):
        evaluator.compute()


@pytest.mark.parametrize(
    ("scoremap", "name", "message"),
    [
        (np.zeros((224, 224)), "a", r"score map of a has shape \(224, 224\), not \(6, 9\)"),
        (np.zeros((9, 6)), "a", r"shape \(9, 6\), not \(6, 9\)"),
        (np.zeros((1, 6, 9)), "a", r"shape \(1, 6, 9\)"),
        (np.full((6, 9), 1.01), "a", r"score map of a has values outside \[0,1\]"),
        (np.full((6, 9), -1e-6), "a", r"outside \[0,1\]"),
        (np.full((6, 9), np.nan), "a", r"outside \[0,1\]"),
        (np.zeros((6, 9)), "b.jpg", r"no mask of 'b\.jpg' in the metadata"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_not_counted(tmp_path, scoremap, name, message):
    inside = np.ones((6, 9), bool)
    evaluator = MaskEvaluator(one_image(tmp_path, inside), tmp_path, size=(6, 9))
    with pytest.raises(ValueError, match=message):
        evaluator.accumulate(scoremap, name)
    evaluator.accumulate(np.zeros((6, 9)), "a")
    metrics = evaluator.compute()
    assert (metrics.num_images, metrics.histograms.sum()) == (1, 54)


@pytest.mark.parametrize("place", ["instance", "second instance", "ignored"])
def test_a_mask_that_is_absent_or_broken_is_named(tmp_path, place):
    good = write_mask(tmp_path / "good.png", np.ones((4, 4), bool))
    files = {
        "instance": MaskFiles(("sub/bad.png",)),
        "second instance": MaskFiles((good, "sub/bad.png"), good),
        "ignored": MaskFiles((good,), "sub/bad.png"),
    }[place]
    evaluator = MaskEvaluator(metadata_of({"a": files}), tmp_path, size=4)
    bad = tmp_path / "sub" / "bad.png"
    with pytest.raises(FileNotFoundError, match=r"There is no mask sub/bad.png."):
        evaluator.accumulate(np.zeros((4, 4)), "a")
    bad.parent.mkdir()
    bad.write_text("no picture")
    with pytest.raises(ValueError, match=r"mask sub/bad.png is not an image"):
        evaluator.accumulate(np.zeros((4, 4)), "a")
    write_mask(bad, np.ones((4, 4), bool))
    evaluator.accumulate(np.zeros((4, 4)), "a")
    assert evaluator.compute().num_images == 1


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([], "rise from 0"),
        (0.0, "rise from 0"),
        ([[0, 0.5]], "rise from 0"),
        ([0.1, 0.5], "rise from 0"),
        ([-0.1, 0, 0.5], "rise from 0"),
        ([0, 0.5, 0.5], "must rise, and stay below 1"),
        ([0, 0.5, 0.4], "must rise, and stay below 1"),
        ([0, 0.5, 1], "must rise, and stay below 1"),
    ],
)
def test_thresholds_that_are_no_left_edges(tmp_path, thresholds, message):
    with pytest.raises(ValueError, match=message):
        MaskEvaluator(
            metadata_of({"a": MaskFiles(("a.png",))}), tmp_path, cam_thresholds=thresholds
        )


def test_metadata_of_boxes_alone(tmp_path):
    boxes = {"a": np.array([[0, 0, 1, 1]])}
    with pytest.raises(ValueError, match="hold no masks; BoxEvaluator"):
        MaskEvaluator(Metadata(("a",), {"a": 0}, {"a": (8, 8)}, boxes), tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">f8", np.longdouble, np.uint8])
def test_maps_of_other_types_count_as_their_values_in_double_precision(tmp_path, dtype):
    rng = np.random.default_rng(4)
    evaluator = MaskEvaluator(one_image(tmp_path, rng.random((9, 9)) > 0.5), tmp_path, size=9)
    scoremap = rng.random((9, 9)).round(1).astype(dtype)
    np.testing.assert_array_equal(
        evaluator.histograms(scoremap, "a"), evaluator.histograms(scoremap.astype(float), "a")
    )


@pytest.mark.parametrize("thresholds", [[0, np.nan], [0, 0.5, 0.5], [0, 1.0]])
def test_thresholds_that_do_not_rise_below_one_are_refused(tmp_path, thresholds):
    with pytest.raises(ValueError, match="cam_thresholds must rise, and stay below 1"):
        MaskEvaluator(one_image(tmp_path, np.ones((9, 9))), tmp_path, cam_thresholds=thresholds)
