"""python -m wsolviz evaluate: what it prints and writes, what it refuses, and its report."""

from __future__ import annotations

import csv
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import chromium
from tests.evaluation.conftest import BACKBONE, kept, network_run, results_in
from wsolviz.commands.messages import messages
from wsolviz.evaluation.report import write_report
from wsolviz.evaluation.results import FixedThresholds, evaluate_run

CAM = ("--backbone", BACKBONE, "--method", "cam")


@pytest.fixture
def wide(monkeypatch):
    """A terminal in which nothing is cut."""
    monkeypatch.setattr(messages, "_width", 220)


def row_of(said, *starts):
    """The numbers of the table's row that begins so."""
    (line,) = (line for line in said.splitlines() if line.split()[: len(starts)] == list(starts))
    return line.split()[len(starts) :]


def test_the_table_shows_the_figures_and_the_files_hold_them(cli, wide, data, measured, tmp_path):
    options = ("--backbone", BACKBONE, "--method", "cam", "feature_norm")
    status, said = cli("--data", data, "--out", tmp_path, *options)
    assert status == 0, said
    folder = tmp_path / BACKBONE / "test"
    assert {path.name for path in folder.iterdir()} == {
        "records-0.jsonl", "records-0.lock", "results.json", "images.csv", "report.html"
    }  # fmt: skip
    assert kept(folder) == kept(measured.run.folder)
    assert (folder / "images.csv").read_bytes() == measured.table
    assert "shots/test, 11 images, class: label; per cent" in said
    for name, figures in measured.results["methods"].items():
        swept = figures["swept"]
        low, high = swept["MaxBoxAccV2"]["interval"]
        masks = figures["PxAP"]["interval"]
        assert row_of(said, name, "swept", "test") == [
            f"{swept['MaxBoxAccV2']['value']:.1f}", f"[{low:.1f},", f"{high:.1f}]",
            *(f"{swept[f'BoxAccV2@{iou}']['value']:.1f}" for iou in (30, 50, 70)),
            *(f"{swept[n]['value']:.1f}" for n in ("MaxBoxAcc", "Top-1 Loc", "Top-5 Loc")),
            f"{figures['PxAP']['value']:.1f}", f"[{masks[0]:.1f},", f"{masks[1]:.1f}]",
        ]  # fmt: skip
    assert "top-1 accuracy 45.5 % [" in said
    assert str(folder / "report.html") in said


def test_the_same_command_again_is_answered_from_the_journal(cli, data, tmp_path, monkeypatch):
    command = ("--data", data, "--out", tmp_path, *CAM, "--split", "val")
    assert cli(*command)[0] == 0
    folder = tmp_path / BACKBONE / "val"
    before, rows = kept(folder), (folder / "images.csv").read_bytes()
    monkeypatch.setattr("wsolviz.evaluation.sources.NetworkSource.measure", None)
    status, said = cli(*command)
    assert status == 0, said
    assert kept(folder) == before
    assert (folder / "images.csv").read_bytes() == rows


def test_other_settings_are_refused_without_force_and_start_anew_with_it(cli, data, tmp_path):
    command = ("--data", data, "--out", tmp_path, *CAM, "--split", "val")
    assert cli(*command)[0] == 0
    folder = tmp_path / BACKBONE / "val"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    status, said = cli(*command, "--image-size", 160)
    assert status == 2
    assert_one_line(said, "image_size: None there, 160 now")
    assert "--force" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    status, said = cli(*command, "--image-size", 160, "--force")
    assert status == 0, said
    assert results_in(folder)["settings"]["image_size"] == 160
    assert (folder / "records-0.jsonl").read_bytes().count(b"\n") == 1 + 5


def test_force_measures_again_what_was_measured(cli, data, tmp_path):
    command = ("--data", data, "--out", tmp_path, *CAM, "--split", "val")
    assert cli(*command)[0] == 0
    journal = tmp_path / BACKBONE / "val" / "records-0.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b'"label": 285', b'"label": 1'))
    assert cli(*command)[0] == 0
    assert journal.read_bytes() != whole
    assert cli(*command, "--force")[0] == 0
    assert journal.read_bytes() == whole


def test_thresholds_of_another_split_give_figures_beside_the_swept_ones(
    cli, wide, data, backbone, tmp_path
):
    status, said = cli("--data", data, "--out", tmp_path, *CAM, "--threshold-from", "val")
    assert status == 0, said
    by_split = {split: tmp_path / BACKBONE / split for split in ("val", "test")}
    assert all((folder / "report.html").is_file() for folder in by_split.values())
    alone = evaluate_run(network_run(data, tmp_path / "v", backbone, "val", ["cam"]))
    fixed = FixedThresholds.of(alone)
    evaluate_run(network_run(data, tmp_path / "t", backbone, "test", ["cam"]), fixed)
    assert kept(by_split["val"]) == kept(tmp_path / "v")
    assert kept(by_split["test"]) == kept(tmp_path / "t")
    results = results_in(by_split["test"])
    assert results["fixed_on"] == "val"
    for method in ("cam", "centre_box"):
        fixed_row = row_of(said, method, "fixed", "val")
        assert fixed_row[0] == f"{results['methods'][method]['fixed']['MaxBoxAccV2']['value']:.1f}"
        value = results["methods"][method]["swept"]["MaxBoxAccV2"]["value"]
        assert row_of(said, method, "swept", "test")[0] == f"{value:.1f}"
        assert row_of(said, method, "swept", "val")


def test_thresholds_of_images_that_are_measured_are_refused(cli, data, tmp_path):
    for split in ("val", "val+test"):
        status, said = cli(
            *("--data", data, "--out", tmp_path, *CAM),
            *("--split", split, "--threshold-from", "val"),
        )
        assert status == 2
        assert_one_line(said, "share 5 images")
        assert list(tmp_path.iterdir()) == []


def test_views_and_sums_of_methods_are_named_in_the_settings(cli, wide, data, tmp_path):
    status, said = cli(
        *("--data", data, "--out", tmp_path, "--split", "val", "--backbone", BACKBONE),
        *("--method", "cam", "cam+0.5*feature_norm", "--scales", "128", "160", "--flip"),
    )
    assert status == 0, said
    assert "scales [128, 160]" in said.replace("(128, 160)", "[128, 160]")
    assert "flip True" in said
    settings = results_in(tmp_path / BACKBONE / "val")["settings"]
    assert settings["methods"] == ["cam", "cam+0.5*feature_norm", "centre_box"]
    assert settings["scales"] == [128, 160]
    assert settings["flip"] is True
    assert row_of(said, "cam+0.5*feature_norm", "swept", "val")


def test_several_backbones_have_a_folder_each_and_splits_may_be_joined(cli, data, tmp_path):
    status, said = cli(
        *("--data", data, "--out", tmp_path, "--split", "test+val", "--method", "cam"),
        *("--backbone", BACKBONE, "efficientnet_lite1"),
    )
    assert status == 0, said
    for name in (BACKBONE, "efficientnet_lite1"):
        results = results_in(tmp_path / name / "test+val")
        assert results["settings"]["backbone"] == name
        assert results["settings"]["data"] == "shots/test+val"
        assert results["num_images"] == 16


def test_score_maps_of_files_are_measured(cli, wide, data, seen, tmp_path):
    for one in seen:
        path = tmp_path / "theirs" / f"{one.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, one.scoremaps["cam"])
    command = ("--data", data, "--out", tmp_path / "out", "--scoremaps", tmp_path / "theirs")
    status, said = cli(*command)
    assert status == 0, said
    results = results_in(tmp_path / "out" / "theirs" / "test")
    assert list(results["methods"]) == ["theirs", "centre_box"]
    value = results["methods"]["theirs"]["swept"]["MaxBoxAccV2"]["value"]
    assert row_of(said, "theirs", "swept", "test")[0] == f"{value:.1f}"
    assert "Top-1" not in said


@pytest.mark.parametrize(
    "option",
    [
        *(("--backbone", BACKBONE), ("--method", "cam"), ("--space", "logit")),
        *(("--class-from", "label"), ("--image-size", 224), ("--scales", "224"), ("--flip",)),
        *(("--output-stride", 32), ("--precision", "float32")),
    ],
)
def test_options_of_networks_are_refused_beside_score_maps(cli, data, tmp_path, option):
    command = ("--data", data, "--out", tmp_path / "out", "--scoremaps", tmp_path / "theirs")
    status, said = cli(*command)
    assert status == 2
    assert_one_line(said, "There is no folder of score maps")
    status, said = cli(*command, *option)
    assert status == 2
    assert_one_line(said, f"so {option[0]} would change nothing; leave out either.")


def test_skipped_images_are_named_and_the_others_measured(cli, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    names = [line.rstrip() for line in (copy / "metadata/test/image_ids.txt").open()]
    for name in names[:7]:
        (copy / "images" / name).unlink()
    status, said = cli("--data", copy, "--out", tmp_path / "out", *CAM)
    assert status == 0, said
    for name in names[:5]:
        assert f"skipped {name}: There is no photo {name}." in said
    assert f"skipped {names[5]}" not in said
    assert "7 images were skipped in all" in said
    report = (tmp_path / "out" / BACKBONE / "test" / "report.html").read_text()
    assert "11 images, 7 skipped" in report
    for name in names:
        (copy / "images" / name).write_text("no photo")
    status, said = cli("--data", copy, "--out", tmp_path / "all", *CAM)
    assert status == 2
    assert_one_line(said, "Every image was skipped; the first, test/cat_whole.png")


def assert_one_line(said, expected):
    """One line of complaint, behind whatever progress was shown."""
    complaint = said[said.index("wsolviz: ") :]
    assert expected in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"--data": "absent"}, "There is no data folder"),
        ({"--split": "tset"}, "There are no metadata of 'tset'"),
        ({"--split": "tset"}, "Splits here: test, val."),
        ({"--threshold-from": "vla"}, "There are no metadata of 'vla'"),
        ({"--method": "camm"}, "Did you mean 'cam'?"),
        ({"--method": "cam+camm"}, "camm"),
        ({"--backbone": "timm/resnet5O"}, "Did you mean resnet50"),
        ({"--images": "absent.zip"}, "Not one of the 11 photos"),
        ({"--metadata": "absent"}, "There are no metadata of 'test'"),
        ({"--scoremaps": "absent"}, "so --backbone and --method would change nothing"),
        ({"--scales": "9"}, "between 32 and 2048"),
        ({"--class-from": "truth"}, "class-from"),
        ({"--batch-size": "x"}, "batch-size"),
    ],
)
def test_mistakes_are_one_line_and_status_2(cli, data, tmp_path, changed, expected, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"--data": data, "--out": "out", "--backbone": BACKBONE, "--method": "cam", **changed}
    status, said = cli(*(part for option in options.items() for part in option))
    assert status == 2
    assert_one_line(said, expected)
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_not_the_networks_are_one_line(cli, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    names = [f"{i},my own cat {i}" for i in range(986)]
    (copy / "class_names.txt").write_text("\n".join(names))
    status, said = cli("--data", copy, "--out", tmp_path / "out", *CAM)
    assert status == 2
    assert_one_line(said, "my own cat 0 is not one of the network's 1000")
    assert "--class-from prediction" in said


def test_classes_of_the_data_set_are_found_by_name_in_the_network(cli, data, measured, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    names = {"daisy": 985, "Egyptian cat": 285, "espresso": 967, "missile": 657, "coffee mug": 504}
    text = "".join(f"{index},n0000000{index},{name}\n" for index, name in enumerate(names))
    (copy / "class_names.txt").write_text(text)
    labels = copy / "metadata" / "test" / "class_labels.txt"
    own = {str(label): str(index) for index, label in enumerate(names.values())}
    lines = [line.split(",") for line in labels.read_text().splitlines()]
    labels.write_text("".join(f"{image},{own[label]}\n" for image, label in lines))
    status, said = cli("--data", copy, "--out", tmp_path / "out", *CAM)
    assert status == 0, said
    results = results_in(tmp_path / "out" / BACKBONE / "test")
    theirs, ours = results["methods"]["cam"], measured.results["methods"]["cam"]
    assert theirs["num_correct"] == ours["num_correct"]
    top_1 = measured.results["classification"]["top-1"]["value"]
    assert results["classification"]["top-1"]["value"] == top_1
    with (tmp_path / "out" / BACKBONE / "test" / "images.csv").open(newline="") as file:
        assert {int(row["label"]) for row in csv.DictReader(file)} == set(names.values())


# --- the report ---

LOOK = """() => ({
  text: document.body.innerText,
  images: [...document.querySelectorAll("figure img")].map(
    (image) => ({ width: image.naturalWidth, alt: image.alt })
  ),
  plots: [...document.querySelectorAll(".js-plotly-plot")].map((plot) => ({
    title: plot.querySelector(".gtitle")?.textContent,
    curves: [...plot.querySelectorAll(".scatterlayer .trace .js-line")].map(
      (line) => line.getBoundingClientRect().width
    ),
    data: plot.data.map((curve) => ({
      name: curve.name, mode: curve.mode, x: [...curve.x], y: [...curve.y],
    })),
  })),
  overflow: document.documentElement.scrollWidth - window.innerWidth,
})"""


def looked_at(path, width):
    """What a browser without a connection makes of a page, and what went wrong there."""
    with chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        page = context.new_page()
        wrong, asked = [], []
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else 0)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg", state="attached")
        page.evaluate("() => Promise.all([...document.images].map((image) => image.decode()))")
        found = page.evaluate(LOOK)
    return {**found, "wrong": wrong, "asked": [url for url in asked if url[:5] != "data:"]}


def in_a_browser(path, width=1280):
    """`looked_at` in a thread of its own, since a thread drives one browser at a time."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(looked_at, path, width).result()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_opens_offline_and_shows_figures_curves_and_images(unbroken, width):
    results = results_in(unbroken)
    seen = in_a_browser(unbroken / "report.html", width)
    assert seen["wrong"] == []
    assert seen["asked"] == [(unbroken / "report.html").as_uri()]
    assert seen["overflow"] <= 0
    assert "shots/test" in seen["text"]
    assert "11 images, 0 skipped; image_size 352; top-1 accuracy 45.5 %" in seen["text"]
    for method, figures in results["methods"].items():
        value = figures["swept"]["MaxBoxAccV2"]
        low, high = value["interval"]
        assert f"{method}\tswept test\t{value['value']:.1f} [{low:.1f}, {high:.1f}]" in seen["text"]
    titles = [plot["title"] for plot in seen["plots"]]
    assert [title.split(": ")[1].split(",")[0] for title in titles] == [
        "MaxBoxAcc", "BoxAccV2@50", "PxAP"
    ]  # fmt: skip
    for plot, name in zip(seen["plots"], ("MaxBoxAcc", "BoxAccV2@50"), strict=False):
        curves = {curve["name"]: curve for curve in plot["data"] if curve["mode"] != "markers"}
        assert list(curves) == list(results["methods"])
        for method, curve in curves.items():
            correct = results["methods"][method]["num_correct"][name]
            np.testing.assert_allclose(curve["y"], 100 * np.array(correct) / 10)
            np.testing.assert_allclose(curve["x"], np.arange(0, 1, 0.001))
        assert len(plot["curves"]) >= 3
        assert all(length > 0.3 * (width - 200) for length in plot["curves"])
    assert len(seen["images"]) == 3 * 2 * 4, "best and worst four of each method"
    assert all(image["width"] in range(100, 257) for image in seen["images"])
    for method in results["methods"]:
        for kind in ("best", "worst"):
            for case in results["cases"][method][kind][:4]:
                caption = f"{case['image_id']}, IoU {case['iou']:.2f}"
                assert any(image["alt"].startswith(caption) for image in seen["images"])
    assert "<script src" not in (unbroken / "report.html").read_text(encoding="utf-8")


@pytest.mark.browser
def test_a_report_of_masks_alone_has_a_curve_and_no_cases(cli, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    folder = copy / "metadata" / "test"
    masks = (folder / "masks.txt").read_text()
    (folder / "masks.txt").unlink()
    (folder / "localization.txt").write_text(masks)
    wanted = {line.split(",")[0] for line in masks.splitlines()}
    names = [line for line in (folder / "image_ids.txt").read_text().splitlines() if line in wanted]
    (folder / "image_ids.txt").write_text("\n".join(names))
    status, said = cli("--data", copy, "--out", tmp_path / "out", *CAM)
    assert status == 0, said
    assert "PxAP" in said
    assert "MaxBoxAcc" not in said
    seen = in_a_browser(tmp_path / "out" / BACKBONE / "test" / "report.html")
    assert seen["wrong"] == seen["images"] == []
    (plot,) = seen["plots"]
    assert "PxAP" in plot["title"]
    assert len(plot["data"]) == 2


def test_a_photo_that_is_replaced_or_gone_is_measured_again(cli, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    command = ("--data", copy, "--out", tmp_path / "out", *CAM, "--split", "val")
    folder = tmp_path / "out" / BACKBONE / "val"
    assert cli(*command)[0] == 0
    whole = kept(folder)
    photo = copy / "images" / "val" / "cup_near.jpg"
    content = photo.read_bytes()
    photo.unlink()
    status, said = cli(*command)
    assert status == 0, said
    assert "There is no photo val/cup_near.jpg." in said
    assert results_in(folder)["skipped"][0]["image_id"] == "val/cup_near.jpg"
    photo.write_bytes(content)
    assert cli(*command)[0] == 0
    assert kept(folder) == whole, "it is measured again as soon as it is back"
    photo.write_bytes((copy / "images" / "val" / "flower_left.jpg").read_bytes())
    assert cli(*command)[0] == 0
    assert kept(folder) != whole


def test_a_report_still_shows_what_can_be_drawn_when_a_photo_is_gone(data, tmp_path, backbone):
    copy = shutil.copytree(data, tmp_path / data.name)
    run = network_run(copy, tmp_path / "out", backbone, "val", methods=["cam"])
    results = evaluate_run(run)
    (copy / "images" / "val" / "cup_near.jpg").unlink()
    assert "There is no photo val/cup_near.jpg." in write_report(run, results).read_text()


# --- photos that may not be shipped ---


@pytest.fixture
def photos():
    """The folder of research photos."""
    folder = Path(os.environ.get("WSOLVIZ_DATA") or "-")
    if not folder.is_dir():
        pytest.skip("WSOLVIZ_DATA names no folder of research photos")
    return folder


@pytest.mark.data
def test_plain_cam_on_imagenet_photos_reaches_what_is_known_of_it(cli, photos, tmp_path):
    status, said = cli(
        *("--data", photos / "ilsvrc", "--out", tmp_path, *CAM), *("--threshold-from", "val")
    )
    assert status == 0, said
    results = results_in(tmp_path / BACKBONE / "test")
    assert results["skipped"] == []
    assert results["num_images"] == results["methods"]["cam"]["num_with_boxes"] == 500
    cam = results["methods"]["cam"]
    assert cam["swept"]["MaxBoxAccV2"]["value"] == pytest.approx(63.7, abs=0.3)
    assert cam["fixed"]["MaxBoxAccV2"]["value"] <= cam["swept"]["MaxBoxAccV2"]["value"]
    low, high = cam["swept"]["MaxBoxAccV2"]["interval"]
    assert low < 63.7 < high
    centre = results["methods"]["centre_box"]["swept"]["MaxBoxAccV2"]["value"]
    assert centre < cam["swept"]["MaxBoxAccV2"]["value"]


@pytest.mark.data
def test_pxap_on_photos_of_pets(cli, photos, tmp_path):
    status, said = cli(
        *("--data", photos / "pets3", "--out", tmp_path, *CAM),
        *("--split", "val", "--class-from", "prediction"),
    )
    assert status == 0, said
    figures = results_in(tmp_path / BACKBONE / "val")["methods"]
    assert figures["cam"]["num_with_masks"] == 45
    assert figures["cam"]["PxAP"]["value"] > figures["centre_box"]["PxAP"]["value"] > 30
