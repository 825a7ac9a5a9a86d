"""The Evaluate tab in a real browser, as a visitor uses it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from PIL import Image

import wsolviz
from tests.browser.harness import SETTLED
from wsolviz.evaluation.dataset import open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.ui.app import build_app

pytestmark = pytest.mark.browser

TIMEOUT = 60_000  # milliseconds; a slow machine, not a bound that is measured
METHODS = ("cam", "pc1", "feature_norm", "cosine")
TITLES = ["CAM", "PC1", "‖F‖", "cosine", "centre box"]  # as the checkboxes call them


@pytest.fixture(scope="module")
def expected(crops, tmp_path_factory):
    """The same measurement by the library."""
    source = NetworkSource(
        open_dataset(crops, "test"), wsolviz.load_backbone("efficientnet_lite0"), METHODS
    )
    return evaluate_run(Run(source, tmp_path_factory.mktemp("run")))


@pytest.fixture
def measured(page, address):
    return measure(page, address)


def open_tab(page, address):
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("#viewer canvas")
    page.get_by_role("tab", name="Evaluate").click()


def measure(page, address):
    """The page after a measurement with what is chosen at first."""
    open_tab(page, address)
    page.locator("#evaluate-go").click()
    page.wait_for_selector("#evaluate-table tbody tr")
    page.wait_for_selector("#evaluate-results .js-plotly-plot .scatterlayer")
    page.wait_for_selector("#evaluate-cases .caption-label")
    return page


def viewer_state(page):
    return json.loads(page.evaluate("window.wsolvizState()"))


def test_the_table_says_what_the_library_measures(measured, expected):
    rows = measured.locator("#evaluate-table tbody tr").all()
    assert [row.locator("td").first.inner_text() for row in rows] == TITLES
    for row, method in zip(rows, expected["methods"].values(), strict=True):
        figure = method["swept"]["MaxBoxAccV2"]
        low, high = figure["interval"]
        assert row.locator("td").nth(1).inner_text() == "swept test"
        told = f"{figure['value']:.1f} [{low:.1f}, {high:.1f}]"
        assert row.locator("td").nth(2).inner_text() == told
    status = measured.locator("#evaluate-status").inner_text()
    assert "12 images" in status
    assert f"top-1 accuracy {expected['classification']['top-1']['value']:.1f} %" in status
    assert measured.locator("#evaluate-results .js-plotly-plot").count() == 1
    legend = measured.locator("#evaluate-results .legendtext").all_text_contents()
    assert legend == TITLES
    assert measured.locator("#evaluate-method label").all_inner_texts() == TITLES


def top_right(box):
    """The colours at a box's upper right corner and at its upper left, where no text stands."""
    drawn = Image.open(io.BytesIO(box.screenshot())).convert("RGB")
    return drawn.getpixel((drawn.width - 2, 2)), drawn.getpixel((2, 2))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_a_wide_table_shows_that_it_goes_on_and_scrolls_in_its_own_box(page, address, width, theme):
    page.set_viewport_size({"width": width, "height": 900})
    box = measure(page, f"{address}?__theme={theme}").get_by_role("region", name="Results")
    hidden = box.evaluate("box => box.scrollWidth - box.clientWidth")
    assert hidden > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    edge, ground = top_right(box)
    assert max(abs(a - b) for a, b in zip(edge, ground, strict=True)) > 40, "a shadow"
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#evaluate-table .wide').scrollLeft > 0")
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    page.wait_for_timeout(SETTLED)
    edge, ground = top_right(box)
    assert edge == ground, "there is no more"
    left = box.locator("tbody td").first.bounding_box()["x"]
    assert left == pytest.approx(box.bounding_box()["x"], abs=1), "the method stays in view"


def test_the_browser_has_nothing_to_complain_of(page, address):
    said = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.goto(address)
    page.wait_for_selector("#viewer canvas")
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#evaluate-class-from label").last.wait_for()
    page.wait_for_timeout(SETTLED)
    assert said == []


def test_the_chosen_class_is_explained(page, address):
    open_tab(page, address)
    page.get_by_label("the predicted class").check()
    page.locator("#evaluate-go").click()
    page.get_by_text("the predicted class was explained").wait_for()
    columns = page.locator("#evaluate-table th").all_inner_texts()
    assert "Top-1" in columns
    assert "GT-known" not in columns, "which is of the true class"


def test_worst_and_best_images_are_those_of_the_library(measured, expected):
    cases = expected["cases"]["cam"]
    captions = measured.locator("#evaluate-cases .caption-label").all_inner_texts()
    assert captions == [
        f"IoU {case['iou']:.2f}, oracle here {case['oracle_iou']:.2f}" for case in cases["worst"]
    ]
    whole = "image => getComputedStyle(image).objectFit"
    assert measured.locator("#evaluate-cases img").first.evaluate(whole) == "contain"
    measured.locator("#evaluate-kind label").nth(1).click()
    best = f"IoU {cases['best'][0]['iou']:.2f}"
    measured.wait_for_function(
        "text => document.querySelector('#evaluate-cases .caption-label')"
        "?.innerText.startsWith(text)",
        arg=best,
    )


def test_a_click_opens_the_image_in_compare(measured, expected, crops):
    case = expected["cases"]["cam"]["worst"][0]
    measured.locator("#evaluate-cases img").first.click()
    measured.wait_for_function(
        "id => document.querySelector('#status').innerText.includes(id)", arg=case["image_id"]
    )
    state = viewer_state(measured)
    assert state["threshold"] == case["cam_threshold"]
    with (crops / "metadata" / "test" / "localization.txt").open() as file:
        boxes = {row[0]: [int(side) for side in row[1:]] for row in csv.reader(file)}
    assert state["true_box"] == boxes[case["image_id"]]
    marks = measured.locator(".wv-mark")
    assert [mark.get_attribute("title") for mark in marks.all()] == [
        f"best for {title} on crops/test: {method['thresholds']['MaxBoxAcc']:.2f}"
        for title, method in zip(TITLES, expected["methods"].values(), strict=True)
    ]
    # Another method on the same photo keeps box and marks.
    measured.locator("#methods label").nth(1).click()
    measured.wait_for_function("document.querySelectorAll('#viewer .wv-cell').length === 3")
    assert viewer_state(measured)["true_box"] == state["true_box"]
    assert marks.count() == len(expected["methods"])


def test_without_an_allowed_folder_the_tab_says_how_to_allow_one(monkeypatch):
    monkeypatch.setattr("wsolviz.ui.evaluate_tab.datasets", {})  # the served app keeps its own
    blocks = build_app(()).blocks.values()
    texts = [block.value for block in blocks if isinstance(getattr(block, "value", None), str)]
    assert any("--data-root" in text for text in texts)
