"""The results of a run, against a plain loop over the library's own parts and against hand work."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.evaluation.conftest import METHODS, SIZE, kept, look, network_run, results_in
from wsolviz.evaluation import BoxEvaluator, MaskEvaluator, read_metadata
from wsolviz.evaluation.box_metrics import CAM_THRESHOLDS, IouCurves
from wsolviz.evaluation.figures import facts, method_title, summary, with_method_titles
from wsolviz.evaluation.records import ImageRecord, MethodRecord
from wsolviz.evaluation.results import FixedThresholds, evaluate_run
from wsolviz.evaluation.tally import CHUNK, NAMES, ClassTally, Tally, resample_weights
from wsolviz.methods import METHODS as REGISTRY

# Each criterion by hand: whose boxes, which IoU, and among how many best classes the label is.
CRITERIA = {
    "MaxBoxAcc": ("largest", 50, None),
    "Top-1 Loc": ("largest", 50, 1),
    "Top-5 Loc": ("largest", 50, 5),
    "BoxAccV2@30": ("all", 30, None),
    "BoxAccV2@50": ("all", 50, None),
    "BoxAccV2@70": ("all", 70, None),
}
V2 = [name for name in CRITERIA if name.startswith("BoxAccV2")]


def localized(one, metadata, scoremap, criterion):
    """Whether one image meets a criterion at each of the thousand thresholds."""
    policy, iou, top = CRITERIA[criterion]
    evaluator = BoxEvaluator(metadata)
    evaluator.accumulate(scoremap, one.image_id)
    counts = evaluator.compute().num_correct[policy][(30, 50, 70).index(iou)]
    return counts * (top is None or one.ranks(top))


def localized_by_criterion(data, seen, method, split="test"):
    """(images with boxes,1000) by criterion, and those images."""
    metadata = read_metadata(data / "metadata" / split)
    boxed = [one for one in seen if one.boxes]
    found = {
        name: np.array([localized(one, metadata, one.scoremaps[method], name) for one in boxed])
        for name in CRITERIA
    }
    return found, boxed


def weights_of(seen, images):
    """How often each of the thousand resamples counts each image, by its place in the split."""
    places = [one.image_id for one in seen]
    return np.array([resample_weights(places.index(one.image_id)) for one in images])


def interval(values):
    return np.percentile(values, [2.5, 97.5])


@pytest.fixture(scope="module")
def by_hand(data, seen):
    return {method: localized_by_criterion(data, seen, method)[0] for method in METHODS}


def test_the_photos_tell_the_criteria_apart(seen, by_hand):
    """Otherwise what follows would hold of anything."""
    assert {one.ranks(1) for one in seen if one.boxes} == {True, False}
    assert any(one.ranks(5) and not one.ranks(1) for one in seen if one.boxes)
    assert any(not one.ranks(5) for one in seen if one.boxes)
    curves = {tuple(by_hand[m][name].sum(axis=0)) for m in METHODS for name in CRITERIA}
    assert len(curves) == len(METHODS) * len(CRITERIA)


@pytest.mark.parametrize("method", METHODS)
def test_counts_at_every_threshold_are_those_of_the_plain_loop(data, seen, measured, method):
    evaluator = BoxEvaluator(read_metadata(data / "metadata" / "test"))
    for one in seen:
        if one.boxes:
            evaluator.accumulate(one.scoremaps[method], one.image_id)
    metrics = evaluator.compute()
    figures = measured.results["methods"][method]
    assert figures["num_with_boxes"] == metrics.num_images == len(seen) - 1
    correct = figures["num_correct"]
    assert correct["MaxBoxAcc"] == metrics.num_correct["largest"][1].tolist()
    for row, name in enumerate(V2):
        assert correct[name] == metrics.num_correct["all"][row].tolist()
    swept = figures["swept"]
    assert swept["MaxBoxAcc"]["value"] == pytest.approx(metrics.max_box_acc, rel=1e-12)
    assert swept["MaxBoxAccV2"]["value"] == pytest.approx(metrics.max_box_acc_v2, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_top_1_and_top_5_ask_for_box_and_class_at_once(measured, by_hand, method):
    correct = measured.results["methods"][method]["num_correct"]
    for name in ("Top-1 Loc", "Top-5 Loc"):
        assert correct[name] == by_hand[method][name].sum(axis=0).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_each_figure_is_its_curves_best_at_the_lowest_such_threshold(measured, by_hand, method):
    swept = measured.results["methods"][method]["swept"]
    for name, found in by_hand[method].items():
        shares = [100 * count / len(found) for count in found.sum(axis=0).tolist()]
        best = max(range(1000), key=lambda i: (shares[i], -i))
        assert swept[name]["value"] == pytest.approx(shares[best], rel=1e-12)
        assert swept[name]["cam_threshold"] == round(best / 1000, 3)
        assert measured.results["methods"][method]["thresholds"][name] == round(best / 1000, 3)
    assert swept["GT-known Loc"] == swept["MaxBoxAcc"], "the true class was explained"
    assert "cam_threshold" not in swept["MaxBoxAccV2"], "a mean over three thresholds"


@pytest.mark.parametrize("method", METHODS)
def test_intervals_are_those_of_an_obvious_bootstrap(data, seen, measured, method):
    found, boxed = localized_by_criterion(data, seen, method)
    weights = weights_of(seen, boxed)
    tops = {name: [] for name in CRITERIA}
    for resample in range(1000):
        times = weights[:, resample]
        for name, images in found.items():
            curve = sum(time * image for time, image in zip(times, images, strict=True))
            if any(times):  # a resample of nothing has no value
                tops[name].append(100 * max(curve) / sum(times))
    swept = measured.results["methods"][method]["swept"]
    for name, values in tops.items():
        assert swept[name]["interval"] == pytest.approx(interval(values), abs=1e-3)
    means = np.mean([tops[name] for name in V2], axis=0)
    assert swept["MaxBoxAccV2"]["interval"] == pytest.approx(interval(means), abs=1e-3)


def test_class_accuracy_counts_every_image_with_a_label(seen, measured):
    weights = weights_of(seen, seen)
    assert list(measured.results["classification"]) == ["top-1", "top-5"]
    for top in (1, 5):
        right = np.array([one.ranks(top) for one in seen])
        figure = measured.results["classification"][f"top-{top}"]
        assert figure["value"] == pytest.approx(100 * right.sum() / len(seen), rel=1e-12)
        drawn = weights[:, weights.any(axis=0)]
        shares = 100 * (drawn * right[:, None]).sum(axis=0) / drawn.sum(axis=0)
        assert figure["interval"] == pytest.approx(interval(shares), abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_pxap_and_its_interval_are_those_of_the_mask_evaluator(data, seen, measured, method):
    metadata = read_metadata(data / "metadata" / "test")
    masked = [one for one in seen if one.image_id in metadata.masks]
    evaluator = MaskEvaluator(metadata, data / "masks")
    histograms = [evaluator.histograms(one.scoremaps[method], one.image_id) for one in masked]
    for counts in histograms:
        evaluator.add(counts)
    metrics = evaluator.compute()
    figures = measured.results["methods"][method]
    assert figures["num_with_masks"] == len(masked) == 6
    assert figures["PxAP"]["value"] == pytest.approx(metrics.pxap, rel=1e-12)
    known = ~np.isnan(metrics.precision)
    np.testing.assert_allclose(figures["precision"], metrics.precision[known], rtol=1e-12)
    np.testing.assert_allclose(figures["recall"], metrics.recall[known], rtol=1e-12)
    values = []
    for times in weights_of(seen, masked).T:
        if times.any():  # a resample of nothing has no value
            again = MaskEvaluator(metadata, data / "masks")
            again.add(sum(int(t) * counts for t, counts in zip(times, histograms, strict=True)))
            values.append(again.compute().pxap)
    assert figures["PxAP"]["interval"] == pytest.approx(interval(values), rel=1e-9)


def test_fixed_thresholds_give_the_accuracy_at_those_thresholds(
    data, seen, measured, by_hand, backbone, tmp_path
):
    chosen = evaluate_run(network_run(data, tmp_path / "val", backbone, "val"))
    fixed = FixedThresholds.of(chosen)
    assert fixed == FixedThresholds.of(results_in(tmp_path / "val"))
    assert fixed.split == "val"
    run = replace(measured.run, folder=tmp_path / "test")
    results = evaluate_run(run, fixed)
    assert results["fixed_on"] == "val"
    _, boxed = localized_by_criterion(data, seen, "cam")
    weights = weights_of(seen, boxed)
    for method, found in by_hand.items():
        figures = results["methods"][method]
        assert figures["swept"] == measured.results["methods"][method]["swept"]
        resampled = {}
        for name, images in found.items():
            column = round(1000 * chosen["methods"][method]["thresholds"][name])
            right = images[:, column]
            figure = figures["fixed"][name]
            assert figure["cam_threshold"] == column / 1000
            assert figure["value"] == pytest.approx(100 * right.sum() / len(right), rel=1e-12)
            drawn = weights[:, weights.any(axis=0)]
            resampled[name] = 100 * (drawn * right[:, None]).sum(axis=0) / drawn.sum(axis=0)
            assert figure["interval"] == pytest.approx(interval(resampled[name]), abs=1e-3)
        mean = figures["fixed"]["MaxBoxAccV2"]
        assert mean["value"] == pytest.approx(
            np.mean([figures["fixed"][name]["value"] for name in V2]), rel=1e-12
        )
        means = np.mean([resampled[name] for name in V2], axis=0)
        assert mean["interval"] == pytest.approx(interval(means), abs=1e-3)
    rows = table(tmp_path / "test")
    for row in rows:
        if row["iou"]:
            assert row["threshold_policy"] == "fixed"
            thresholds = chosen["methods"][row["method"]]["thresholds"]
            assert float(row["cam_threshold"]) == thresholds["MaxBoxAcc"]


def test_thresholds_may_be_fixed_to_anything_and_are_rounded_to_a_thousandth(
    measured, by_hand, tmp_path
):
    fixed = FixedThresholds("elsewhere", {"cam": dict.fromkeys(CRITERIA, 0.3004)})
    results = evaluate_run(measured.run, fixed)
    figures = results["methods"]["cam"]["fixed"]
    for name, images in by_hand["cam"].items():
        assert figures[name]["value"] == pytest.approx(100 * images[:, 300].mean(), rel=1e-12)
    assert "fixed" not in results["methods"]["feature_norm"], "it was given none"
    evaluate_run(measured.run)  # as it was


def table(folder):
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def largest_box(scoremap, threshold):
    """The benchmark's box, by OpenCV."""
    levels = (scoremap * 255).astype(np.uint8)
    foreground = (levels > int(threshold * levels.max())).astype(np.uint8)
    contours = cv2.findContours(foreground, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return 0, 0, 0, 0
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return x, y, min(x + w, SIZE - 1), min(y + h, SIZE - 1)


def exact_iou(a, b):
    shared = 1
    for axis in (0, 1):
        shared *= max(0, min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]) + 1)
    pixels = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return Fraction(shared, sum(pixels) - shared)


def true_boxes(one):
    width, height = one.size
    return [
        tuple(int(float(c) * SIZE / side) for c, side in zip(box, [width, height] * 2, strict=True))
        for box in one.boxes
    ]


def touched(first, last, side):
    """The first and last pixel of `side` that pixels first to last of SIZE lie on."""
    start, end = Fraction(first * side, SIZE), Fraction((last + 1) * side, SIZE)
    pixels = [p for p in range(side) if p < end and p + 1 > start]
    return pixels[0], pixels[-1]


def test_the_table_tells_of_each_image_what_is_computed_by_hand(seen, measured):
    rows = {(row["image_id"], row["method"]): row for row in table(measured.run.folder)}
    assert len(rows) == len(seen) * 3
    for place, one in enumerate(seen):
        for method in METHODS:
            row = rows[one.image_id, method]
            assert row["index"] == str(place)
            assert row["label"] == row["explained"] == str(one.label)
            assert row["predicted"] == str(one.logits.argmax())
            odds = np.exp(one.logits.astype(float) - one.logits.max())
            expected = odds[one.label] / odds.sum()
            assert float(row["probability"]) == pytest.approx(expected, rel=1e-4)
            assert row["failure"] == ""
            if not one.boxes:
                boxless = (
                    "threshold_policy",
                    "cam_threshold",
                    "iou",
                    "correct",
                    "x0",
                    "oracle_iou",
                )
                assert [row[name] for name in boxless] == [""] * 6
                continue
            swept = measured.results["methods"][method]["swept"]["MaxBoxAcc"]
            assert row["threshold_policy"] == "swept"
            assert float(row["cam_threshold"]) == swept["cam_threshold"]
            scoremap = one.scoremaps[method]
            box = largest_box(scoremap, swept["cam_threshold"])
            iou = max(exact_iou(box, true) for true in true_boxes(one))
            assert float(row["iou"]) == pytest.approx(float(iou), rel=1e-6)
            assert row["correct"] == str(int(iou >= Fraction(1, 2)))
            x0, x1 = touched(box[0], box[2], one.size[0])
            y0, y1 = touched(box[1], box[3], one.size[1])
            assert [row[name] for name in ("x0", "y0", "x1", "y1")] == [
                str(c) for c in (x0, y0, x1, y1)
            ]


def test_the_oracle_is_the_best_threshold_of_that_very_image(seen, measured):
    rows = {(row["image_id"], row["method"]): row for row in table(measured.run.folder)}
    for one in (one for one in seen if one.boxes):
        scoremap, row = one.scoremaps["cam"], rows[one.image_id, "cam"]
        top = int((scoremap * 255).astype(np.uint8).max())
        by_level, found = {}, []
        for threshold in CAM_THRESHOLDS:
            level = int(threshold * top)
            if level not in by_level:
                box = largest_box(scoremap, threshold)
                by_level[level] = max(exact_iou(box, true) for true in true_boxes(one))
            found.append(by_level[level])
        assert float(row["oracle_iou"]) == pytest.approx(float(max(found)), rel=1e-6)
        assert float(row["oracle_cam_threshold"]) == found.index(max(found)) / 1000


def test_the_predicted_class_may_be_explained_instead(data, backbone, tmp_path):
    seen = look(data, "test", backbone, ["cam"], class_from="prediction")
    run = network_run(data, tmp_path, backbone, methods=["cam"], class_from="prediction")
    results = evaluate_run(run)
    found, _ = localized_by_criterion(data, seen, "cam")
    figures = results["methods"]["cam"]
    for name, images in found.items():
        assert figures["num_correct"][name] == images.sum(axis=0).tolist()
    assert {"MaxBoxAcc", "MaxBoxAccV2", "Top-1 Loc"} <= figures["swept"].keys()
    assert not {"GT-known Loc", "Top-5 Loc"} & figures["swept"].keys(), "another class's map"
    assert facts(results)[-1] == "class labels: taken as the network's own indices"
    assert results["settings"]["class_from"] == "prediction"
    rows = [row for row in table(tmp_path) if row["method"] == "cam"]
    for one, row in zip(seen, rows, strict=True):
        assert row["explained"] == row["predicted"] == str(one.logits.argmax())
        assert row["label"] == str(one.label)


def test_labels_that_the_network_lacks_leave_boxes_to_be_measured(data, seen, backbone, tmp_path):
    (tmp_path / "class_names.txt").write_text("\n".join(f"{i},nothing" for i in range(986)))
    for part in ("images", "masks", "metadata"):
        (tmp_path / part).symlink_to(data / part)
    run = network_run(
        tmp_path, tmp_path / "out", backbone, methods=["cam"], class_from="prediction"
    )
    results = evaluate_run(run)
    assert results["classification"] == {}
    said = "the network does not know these classes, so Top-1 and Top-5 are not given"
    assert facts(results) == [said]
    assert set(results["methods"]["cam"]["swept"]) == {"MaxBoxAcc", "MaxBoxAccV2", *V2}
    rows = table(tmp_path / "out")
    assert {row["label"] for row in rows} == {""}
    with pytest.raises(ValueError, match="not those of this network"):
        network_run(tmp_path, tmp_path / "out", backbone)


def test_results_are_kept_as_they_were_returned(measured):
    returned = json.loads(json.dumps(measured.results))
    found = results_in(measured.run.folder)
    assert returned.pop("created") <= found.pop("created")
    assert returned == found
    assert measured.results["num_images"] == 11
    assert measured.results["skipped"] == []
    assert measured.results["fixed_on"] is None
    assert measured.results["settings"] == measured.run.settings
    assert list(measured.results["methods"]) == [*METHODS, "centre_box"]
    settings = measured.results["settings"]
    assert settings["data"] == "shots/test"
    assert settings["backbone"] == "efficientnet_lite0"
    assert len(settings["weights_sha256"]) == 64


def test_measuring_again_gives_the_same_without_the_network(measured, tmp_path, monkeypatch):
    before, rows = kept(measured.run.folder), measured.table
    monkeypatch.setattr(type(measured.run.source), "measure", None)
    monkeypatch.setattr(type(measured.run.source), "load", None)
    evaluate_run(measured.run)
    assert kept(measured.run.folder) == before
    assert measured.table == rows


def test_the_best_and_worst_images_are_those_of_the_table(measured):
    for method in (*METHODS, "centre_box"):
        rows = [row for row in table(measured.run.folder) if row["method"] == method and row["iou"]]
        best = sorted(rows, key=lambda row: (-float(row["iou"]), int(row["index"])))[:8]
        worst = sorted(rows, key=lambda row: (float(row["iou"]), int(row["index"])))[:8]
        cases = measured.results["cases"][method]
        assert [case["image_id"] for case in cases["best"]] == [row["image_id"] for row in best]
        assert [case["image_id"] for case in cases["worst"]] == [row["image_id"] for row in worst]
        for case in cases["best"]:
            (row,) = (row for row in rows if row["image_id"] == case["image_id"])
            assert {k: "" if v is None else str(v) for k, v in case.items()} == row


@pytest.mark.parametrize("detail", ["full", "main", "values"])
def test_the_summary_says_the_figures_of_the_results(measured, detail):
    columns, rows = summary(measured.results, detail)
    assert columns[:2] == ["method", "threshold"]
    assert columns[-1] == "PxAP"
    assert [row[:2] for row in rows] == [[m, "swept test"] for m in (*METHODS, "centre_box")]
    for row in rows:
        figures = measured.results["methods"][row[0]]
        told = dict(zip(columns, row, strict=True))
        swept, v2 = figures["swept"], figures["swept"]["MaxBoxAccV2"]
        low, high = v2["interval"]
        whole = f"{v2['value']:.1f}" + f" [{low:.1f}, {high:.1f}]" * (detail != "values")
        assert told["MaxBoxAccV2"] == whole
        assert told["Top-1"].startswith(f"{swept['Top-1 Loc']['value']:.1f}")
        assert told["IoU 70"].startswith(f"{swept['BoxAccV2@70']['value']:.1f}")
        assert told["PxAP"].startswith(f"{figures['PxAP']['value']:.1f}")
        assert ("GT-known" in told) == (detail == "full")
        assert ("τ" in told["MaxBoxAcc"]) == (detail == "full")


def test_titles_stand_for_names_and_change_nothing_else(measured):
    titled = with_method_titles(measured.results)
    assert list(titled["methods"]) == ["CAM", "‖F‖", "centre box"]
    assert list(titled["methods"].values()) == list(measured.results["methods"].values())
    assert [row[0] for row in summary(titled, "full")[1]] == list(titled["methods"])
    assert titled["cases"] is measured.results["cases"], "by their names, as in the files"
    assert list(measured.results["methods"]) == [*METHODS, "centre_box"], "left as they were"


def test_no_two_methods_have_the_same_title():
    titles = [method_title(name) for name in (*REGISTRY, "centre_box")]
    assert len(set(titles)) == len(titles)
    assert method_title("cam+0.5*feature_norm") == "CAM + 0.5·‖F‖"
    assert method_title("their_cam") == "their_cam", "score maps of another program"


# --- counting, on records that are made up ---


def made_up(index, rng):
    best = {policy: rng.random(256).astype(np.float32) for policy in ("largest", "all")}
    curves = IouCurves(int(rng.integers(1, 256)), best) if index % 5 else None
    histograms = rng.integers(0, 1000, (2, 1002)) if index % 3 else None
    top = tuple(rng.choice(8, 5, replace=False).tolist())
    methods = {"m": MethodRecord(curves, None, histograms)}
    return ImageRecord(index, str(index), label=int(rng.integers(8)), top=top, methods=methods)


COUNT = 2 * CHUNK + 61


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    return [made_up(index, rng) for index in range(COUNT)]


@pytest.fixture(scope="module")
def tallied(records):
    tally = Tally()
    for record in records:
        tally.add(record, "m")
    tally._resample()
    return tally


def held_by_hand(record, criterion):
    policy, iou, top = CRITERIA[criterion]
    curves = record.methods["m"].curves
    levels = [int(threshold * curves.max_level) for threshold in CAM_THRESHOLDS]
    ious = curves.best[policy][levels]
    return (ious >= np.float32(iou / 100)) & (top is None or record.label in record.top[:top])


def test_many_records_are_counted_in_every_resample(records, tallied):
    boxed = [record for record in records if record.methods["m"].curves]
    assert tallied.num_boxes == len(boxed) > CHUNK
    correct = np.zeros((1000, len(NAMES), 1000))
    sizes = np.zeros(1000)
    for record in boxed:
        weights = resample_weights(record.index).astype(float)
        sizes += weights
        for row, name in enumerate(NAMES):
            correct[:, row] += np.multiply.outer(weights, held_by_hand(record, name))
    np.testing.assert_array_equal(tallied._sizes, sizes)
    np.testing.assert_array_equal(tallied._correct, correct)
    expected = 100 * correct / sizes[:, None, None]
    np.testing.assert_allclose(tallied.resampled_accuracy(), expected, rtol=1e-6)


def test_the_resamples_of_histograms_add_up_exactly(records, tallied):
    masked = [record for record in records if record.methods["m"].histograms is not None]
    assert tallied.num_masks == len(masked) > CHUNK
    for resample in (0, 1, 500, 999):
        total = sum(
            int(resample_weights(record.index)[resample]) * record.methods["m"].histograms
            for record in masked
        )
        np.testing.assert_array_equal(tallied._histograms[resample], total)


def test_neither_order_nor_the_way_of_counting_changes_a_count(records, tallied):
    tally = Tally()
    for place in np.random.default_rng(1).permutation(COUNT):
        tally.add(records[place], "m")
        if place % 50 == 0:
            tally._resample()
    tally._resample()
    for name in ("correct", "histograms", "_sizes", "_correct", "_histograms"):
        np.testing.assert_array_equal(getattr(tally, name), getattr(tallied, name))


def test_what_waits_to_be_resampled_never_grows_beyond_a_chunk(records):
    tally = Tally()
    waiting = []
    for record in records:
        tally.add(record, "m")
        waiting.append(max(len(tally._waiting), len(tally._waiting_masks)))
    assert max(waiting) == CHUNK - 1, "and is let go of as soon as it is a chunk"
    assert waiting.count(0) >= 2
    arrays = [value for value in vars(tally).values() if isinstance(value, np.ndarray)]
    fresh = [value for value in vars(Tally()).values() if isinstance(value, np.ndarray)]
    assert [array.nbytes for array in arrays] == [array.nbytes for array in fresh]


def test_skipped_images_and_those_without_a_label_are_not_counted():
    tally, classes = Tally(), ClassTally()
    rng = np.random.default_rng(2)
    for record in (
        ImageRecord(0, "a", failure="broken"),
        replace(made_up(1, rng), label=None),
        replace(made_up(2, rng), top=()),
    ):
        tally.add(record, "m")
        classes.add(record)
    assert tally.num_boxes == 2
    assert classes.figures() == {}


def test_resamples_draw_each_image_once_on_average_and_independently():
    weights = np.array([resample_weights(index) for index in range(400)])
    np.testing.assert_array_equal(weights, np.array([resample_weights(i) for i in range(400)]))
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    between = np.corrcoef(weights)[~np.eye(400, dtype=bool)]
    assert np.abs(between).max() < 0.2
    assert weights.dtype == np.float32
