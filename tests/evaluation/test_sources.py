"""Where score maps come from: a network seen in several ways, or files that others made."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import wsolviz
from tests.evaluation.conftest import BATCH, METHODS, SIZE, network_run, threads
from wsolviz.compare import CompareOptions
from wsolviz.evaluation import BoxEvaluator, read_metadata
from wsolviz.evaluation.dataset import open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.gallery import case_image, look_of
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.scoremap_files import ScoremapSource, read_scoremap
from wsolviz.evaluation.sources import NetworkSource


def counts_of(data, scoremaps, size=SIZE):
    """num_correct of both policies over the test split."""
    metadata = read_metadata(data / "metadata" / "test")
    evaluator = BoxEvaluator(metadata, size=size)
    for image_id, scoremap in scoremaps.items():
        if image_id in metadata.boxes:
            evaluator.accumulate(scoremap, image_id)
    return evaluator.compute().num_correct


def assert_counts(results, method, expected):
    correct = results["methods"][method]["num_correct"]
    assert correct["MaxBoxAcc"] == expected["largest"][1].tolist()
    for row, name in enumerate(("BoxAccV2@30", "BoxAccV2@50", "BoxAccV2@70")):
        assert correct[name] == expected["all"][row].tolist()


def heatmaps_of(data, backbone, size, flipped, seen, compute):
    """Each image's heatmap in one view; `compute` gives those of a batch."""
    found = {}
    preprocess = replace(backbone.preprocessing, size=(size, size))
    with threads(1):
        for start in range(0, len(seen), BATCH):
            batch = seen[start : start + BATCH]
            photos = [Image.open(data / "images" / one.image_id) for one in batch]
            images = [preprocess(photo.convert("RGB")) for photo in photos]
            stacked = torch.stack(images)
            features = backbone.extract(stacked.flip(-1) if flipped else stacked)
            maps = compute(features, [one.label for one in batch])
            maps = maps.flip(-1) if flipped else maps
            found |= {one.image_id: maps[i].numpy() for i, one in enumerate(batch)}
    return found


def min_max(values):
    return (values - values.min()) / (values.max() - values.min())


def test_scales_and_mirrored_photos_are_averaged_as_score_maps(data, seen, backbone, tmp_path):
    options = CompareOptions(scales=(128, 160), flip=True)
    run = network_run(data, tmp_path, backbone, methods=["cam"], options=options)
    results = evaluate_run(run)
    views = [
        heatmaps_of(data, backbone, size, flipped, seen, wsolviz.METHODS["cam"])
        for size in (128, 160)
        for flipped in (False, True)
    ]
    merged = {
        one.image_id: min_max(
            sum(wsolviz.scoremap(view[one.image_id], SIZE) for view in views) / len(views)
        )
        for one in seen
    }
    expected = counts_of(data, merged)
    assert_counts(results, "cam", expected)
    alone = counts_of(data, {one.image_id: one.scoremaps["cam"] for one in seen})
    assert (expected["all"] != alone["all"]).any(), "several views are not one"
    assert results["settings"]["scales"] == (128, 160)
    assert results["settings"]["flip"] is True


def test_a_sum_of_methods_adds_each_scaled_to_its_own_range(data, seen, backbone, tmp_path):
    name = "cam+0.5*feature_norm"
    results = evaluate_run(network_run(data, tmp_path, backbone, methods=[name]))
    views = {
        method: heatmaps_of(data, backbone, SIZE, False, seen, wsolviz.METHODS[method])
        for method in METHODS
    }
    summed = {}
    for one in seen:
        cam, norm = (min_max(views[m][one.image_id].astype(np.float64)) for m in METHODS)
        summed[one.image_id] = wsolviz.scoremap(cam + 0.5 * norm, SIZE)
    assert list(results["methods"]) == [name, "centre_box"]
    assert_counts(results, name, counts_of(data, summed))


def test_score_maps_may_have_another_size(data, seen, backbone, tmp_path):
    run = network_run(data, tmp_path, backbone, methods=["cam"], map_size=96)
    results = evaluate_run(run)
    heatmaps = heatmaps_of(data, backbone, SIZE, False, seen, wsolviz.METHODS["cam"])
    scoremaps = {image: wsolviz.scoremap(heatmap, 96) for image, heatmap in heatmaps.items()}
    assert_counts(results, "cam", counts_of(data, scoremaps, 96))


def test_methods_that_do_not_exist_are_named(data, backbone):
    dataset = open_dataset(data, "test")
    for name in ("camm", "cam+camm", "-1*cam"):
        with pytest.raises(ValueError, match=r"camm|is not a sum of methods"):
            NetworkSource(dataset, backbone, ["cam", name])


def test_heatmaps_are_made_again_for_drawing(data, seen, backbone, tmp_path):
    source = network_run(data, tmp_path, backbone).source
    for one in seen[:2]:
        for method in METHODS:
            (heatmap,) = source.heatmaps(one.image_id, method, one.label)
            np.testing.assert_allclose(
                wsolviz.scoremap(heatmap, SIZE), one.scoremaps[method], atol=1e-4
            )


def test_a_drawn_case_shows_the_box_of_its_row_and_the_true_one(measured):
    source = measured.run.source
    checked = 0
    for case in measured.results["cases"]["cam"]["best"]:
        drawn = case_image(source, case, look_of(case))
        width, height = source.dataset.metadata.image_sizes[case["image_id"]]
        assert max(drawn.shape[:2]) == 256
        assert drawn.shape[1] / drawn.shape[0] == pytest.approx(width / height, rel=0.05)
        scale = drawn.shape[1] / width
        white = (drawn > 240).all(axis=2)
        top = white[:, round((case["x0"] + case["x1"]) / 2 * scale)]
        side = white[round((case["y0"] + case["y1"]) / 2 * scale)]
        for line, edge, length in ((top, case["y0"], height), (side, case["x0"], width)):
            if edge > 0.05 * length:
                assert np.abs(np.flatnonzero(line) / scale - edge).min() < 0.03 * length
                checked += 1
    assert checked >= 4


# --- score maps of files ---


@pytest.fixture(scope="module")
def folder(seen, tmp_path_factory):
    """CAM's score maps of the test split, as another program would write them."""
    folder = tmp_path_factory.mktemp("maps") / "their_cam"
    for i, one in enumerate(seen):
        name = one.image_id if i % 2 else one.image_id.rpartition(".")[0]
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, one.scoremaps["cam"])
    return folder


@pytest.fixture
def changed(folder, tmp_path):
    """A copy of the folder that may be changed."""
    return shutil.copytree(folder, tmp_path / "their_cam")


def test_score_maps_of_files_give_what_the_network_gives(data, measured, folder, tmp_path):
    source = ScoremapSource(open_dataset(data, "test"), folder)
    assert source.methods == ("their_cam", "centre_box")
    results = evaluate_run(Run(source, tmp_path))
    theirs, ours = results["methods"]["their_cam"], measured.results["methods"]["cam"]
    for name in ("MaxBoxAcc", "BoxAccV2@30", "BoxAccV2@50", "BoxAccV2@70"):
        assert theirs["num_correct"][name] == ours["num_correct"][name]
        assert theirs["swept"][name] == ours["swept"][name]
    assert theirs["swept"]["MaxBoxAccV2"] == ours["swept"]["MaxBoxAccV2"]
    assert theirs["PxAP"] == ours["PxAP"]
    assert results["classification"] == {}
    unknown = {"Top-1 Loc", "Top-5 Loc", "GT-known Loc"}
    assert not unknown & theirs["swept"].keys(), "files do not tell which class they explain"
    assert results["settings"]["scoremaps"] == str(folder)
    ours, theirs = ([*case["best"], *case["worst"]] for case in (
        measured.results["cases"]["cam"], results["cases"]["their_cam"]
    ))  # fmt: skip
    for name in ("image_id", "iou", "x0", "y0", "x1", "y1", "oracle_iou"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_score_maps_may_be_of_lower_precision(data, seen, folder, changed, tmp_path, dtype):
    rounded = {one.image_id: one.scoremaps["cam"].astype(dtype) for one in seen}
    for path in changed.rglob("*.npy"):
        np.save(path, np.load(path).astype(dtype))
    results = evaluate_run(Run(ScoremapSource(open_dataset(data, "test"), changed), tmp_path / "o"))
    assert_counts(results, "their_cam", counts_of(data, rounded))


def test_a_missing_score_map_is_named_before_anything_is_measured(data, changed):
    for name in ("cat_whole.npy", "cup_whole.jpg.npy"):
        (changed / "test" / name).unlink()
    with pytest.raises(FileNotFoundError, match="2 of 11 images have no score map") as raised:
        ScoremapSource(open_dataset(data, "test"), changed)
    assert str(raised.value).endswith("test/cat_whole.png, test/cup_whole.jpg.")
    for path in changed.rglob("*.npy"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"test/cup_right\.jpg, …\.$"):
        ScoremapSource(open_dataset(data, "test"), changed)


def test_no_folder_of_score_maps(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of score maps"):
        ScoremapSource(open_dataset(data, "test"), tmp_path / "absent")


@pytest.mark.parametrize("shape", [(SIZE, SIZE - 1), (1, SIZE, SIZE), (SIZE * SIZE,), (7, 7)])
def test_a_score_map_of_another_size_is_named(data, changed, shape):
    np.save(changed / "test" / "cat_whole.npy", np.zeros(shape))
    with pytest.raises(ValueError, match=r"cat_whole\.npy has shape .*--map-size"):
        ScoremapSource(open_dataset(data, "test"), changed)


def test_score_maps_of_another_size_are_measured_at_that_size(data, seen, changed, tmp_path):
    scoremaps = {one.image_id: cv2.resize(one.scoremaps["cam"], (50, 50)) for one in seen}
    for path in changed.rglob("*.npy"):
        np.save(path, cv2.resize(np.load(path), (50, 50)))
    source = ScoremapSource(open_dataset(data, "test"), changed, map_size=50)
    results = evaluate_run(Run(source, tmp_path / "out"))
    assert_counts(results, "their_cam", counts_of(data, scoremaps, 50))


def test_score_maps_with_values_out_of_range_are_skipped_and_named(data, seen, changed, tmp_path):
    good = seen[0].scoremaps["cam"]
    nan = good.copy()
    nan[3, 4] = np.nan
    wrong = {
        "test/cat_whole.png": ("cat_whole.npy", good * 1.01),
        "test/cup_whole.jpg": ("cup_whole.jpg.npy", good - 0.01),
        "test/cup_right.jpg": ("cup_right.npy", nan),
        "test/rocket_near.png": ("rocket_near.png.npy", good * 255),  # it has masks alone
    }
    for name, scoremap in wrong.values():
        assert (changed / "test" / name).is_file()
        np.save(changed / "test" / name, scoremap)
    source = ScoremapSource(open_dataset(data, "test"), changed)
    results = evaluate_run(Run(source, tmp_path / "out"))
    assert [skipped["image_id"] for skipped in results["skipped"]] == list(wrong)
    assert all("[0,1]" in skipped["reason"] for skipped in results["skipped"])
    left = {one.image_id: one.scoremaps["cam"] for one in seen if one.image_id not in wrong}
    assert_counts(results, "their_cam", counts_of(data, left))


def test_photos_are_not_needed_where_score_maps_are_there(data, folder, measured, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    for path in list((copy / "images" / "test").iterdir())[1:]:
        path.unlink()
    results = evaluate_run(Run(ScoremapSource(open_dataset(copy, "test"), folder), tmp_path / "o"))
    assert results["skipped"] == []
    ours = measured.results["methods"]["cam"]["num_correct"]
    assert results["methods"]["their_cam"]["num_correct"]["MaxBoxAcc"] == ours["MaxBoxAcc"]


@pytest.mark.parametrize("kind", ["empty", "npz", "text", "cut off", "words", "complex"])
def test_a_file_that_holds_no_score_map_is_named(tmp_path, kind):
    path = tmp_path / "map.npy"
    np.save(path, np.zeros((8, 8)))
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "npz":
        np.savez(tmp_path / "other.npz", np.zeros((8, 8)))
        path.write_bytes((tmp_path / "other.npz").read_bytes())
    elif kind == "text":
        path.write_text("0.5 0.5")
    elif kind == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        np.save(path, np.full((8, 8), "a" if kind == "words" else 1j))
    for mmap_mode in (None, "r"):
        with pytest.raises(ValueError, match=r"map\.npy (is not|does not hold)"):
            read_scoremap(path, mmap_mode)
