"""The Compare tab in a real browser, as a visitor uses it."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlparse
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

import wsolviz
from tests.browser.harness import SETTLED
from wsolviz.defaults import DEFAULTS
from wsolviz.ui.controls import EXAMPLES

pytestmark = pytest.mark.browser

COFFEE = EXAMPLES[1]
TIMEOUT = 60_000  # milliseconds; a slow machine, not a bound that is measured


@pytest.fixture
def app(page, address):
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("#viewer canvas")
    # The visit's answer sets every control; what is typed before would be overwritten.
    wait_for_status(page, "chelsea.png")
    page.wait_for_timeout(SETTLED)
    return page


def viewer_state(page):
    return json.loads(page.evaluate("window.wsolvizState()"))


def upload(page, path):
    """Put a file into the photo input."""
    page.locator("#photo input[type=file]").set_input_files(path)


def wait_for_status(page, text):
    page.wait_for_function(
        "text => document.querySelector('#status').innerText.includes(text)", arg=text
    )


def row_titles(page):
    return page.locator("#viewer .wv-row-title").all_inner_texts()


def test_first_visit_shows_a_finished_example(app):
    wait_for_status(app, "chelsea.png, 451×300")
    assert row_titles(app) == list(DEFAULTS.backbones)
    assert "Egyptian cat" in app.locator("#viewer").inner_text()
    assert urlparse(app.url).query == ""


def test_an_upload_is_explained_as_the_library_does(app):
    upload(app, COFFEE)
    wait_for_status(app, "coffee.png, 600×400")
    (cam,) = wsolviz.explain(COFFEE, wsolviz.load_backbone("efficientnet_lite0"), ["cam"])
    threshold = viewer_state(app)["threshold"]
    x0, y0, x1, y1 = cam.boxes_at(threshold)[0]
    assert "espresso 0.90" in app.locator("#viewer").inner_text()
    assert f"{x0}, {y0} – {x1}, {y1}" in app.locator("#viewer").inner_text()


def test_a_click_on_an_example_explains_it(app):
    app.locator("#controls .gallery-item").nth(1).click()
    wait_for_status(app, "coffee.png, 600×400")
    assert "espresso 0.90" in app.locator("#viewer").inner_text()


def test_what_an_address_says_never_becomes_markup(page, address):
    page.set_default_timeout(TIMEOUT)
    foreign = []
    page.on("request", lambda request: foreign.append(request.url))
    page.goto(f"{address}?class_choice=%3Cimg%20src%3Dhttp%3A%2F%2Fexample.invalid%2Ft.png%3E")
    page.wait_for_selector("#viewer canvas")
    page.wait_for_timeout(500)
    assert [url for url in foreign if url.split("//")[-1] == "example.invalid/t.png"] == []
    assert row_titles(page) == list(DEFAULTS.backbones), "the default is shown instead"
    assert urlparse(page.url).query == ""


def test_another_photo_takes_no_true_box_along(app):
    app.evaluate("document.querySelector('#viewer').scrollIntoView()")
    photo = app.locator("#viewer .wv-photo .wv-view").first.bounding_box()
    app.mouse.move(photo["x"] + 20, photo["y"] + 20)
    app.mouse.down()
    app.mouse.move(photo["x"] + 90, photo["y"] + 60)
    app.mouse.up()
    assert viewer_state(app)["true_box"] is not None
    upload(app, COFFEE)
    wait_for_status(app, "coffee.png")
    app.wait_for_function("JSON.parse(window.wsolvizState()).true_box === null")


def test_a_class_that_is_not_there_leaves_the_grid_alone(app):
    app.locator("#class input").fill("purple unicorn")
    app.keyboard.press("Enter")
    wait_for_status(app, "There is no class 'purple unicorn'")
    assert "Egyptian cat" in app.locator("#viewer").inner_text()
    assert "class_choice" not in app.url


def test_sliding_asks_the_server_for_nothing_and_stays_in_the_address(app):
    requests = []
    app.on("request", lambda request: requests.append(request.url))
    slider = app.get_by_label("threshold", exact=True).first
    box = slider.bounding_box()
    app.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
    app.mouse.down()
    for share in np.linspace(0.3, 0.7, 20):
        app.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    app.mouse.up()
    app.wait_for_function("new URLSearchParams(location.search).has('threshold')")
    assert requests == []
    threshold = viewer_state(app)["threshold"]
    assert threshold == pytest.approx(0.7, abs=0.03)
    assert float(parse_qs(urlparse(app.url).query)["threshold"][0]) == pytest.approx(
        threshold, abs=1e-3
    )


def test_another_class_and_method_come_without_another_forward_pass(app):
    upload(app, COFFEE)
    wait_for_status(app, "coffee.png")
    forward = app.locator("#viewer .wv-fact", has_text="forward").all_inner_texts()
    app.locator("#class input").click()
    app.get_by_role("option", name="cup", exact=False).first.click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('cup 0.03')")
    app.locator("#methods label", has_text="Grad-CAM++").click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('Grad-CAM++')")
    assert app.locator("#viewer .wv-fact", has_text="forward").all_inner_texts() == forward
    query = parse_qs(urlparse(app.url).query)
    assert query["class_choice"] == ["cup"]
    assert "gradcam_plusplus" in query["methods"][0]


def test_a_visited_address_restores_the_choices(page, address):
    page.set_default_timeout(TIMEOUT)
    query = (
        "backbones=efficientnet_lite1%2Cefficientnet_lite0&methods=cosine%2Cpc_rgb"
        "&class_choice=tabby%2C+tabby+cat&threshold=0.550&contours=all"
        "&overrides=efficientnet_lite0%2Fcosine%3A0.700"
    )
    page.goto(f"{address}?{query}")
    page.wait_for_selector("#viewer canvas")
    assert row_titles(page) == ["efficientnet_lite1", "efficientnet_lite0"]
    assert "tabby, tabby cat" in page.locator("#viewer").inner_text()
    state = viewer_state(page)
    assert state["threshold"] == pytest.approx(0.55)
    assert state["contours"] == "all"
    assert state["overrides"] == {"efficientnet_lite0/cosine": 0.7}
    page.wait_for_timeout(500)  # the page writes its own address once it has settled
    assert parse_qs(urlparse(page.url).query) == parse_qs(query)
    page.locator("#viewer .wv-own-button[aria-pressed=true]").click()
    page.get_by_label("threshold", exact=True).first.fill("0.3")
    page.wait_for_function("!new URLSearchParams(location.search).has('threshold')")
    assert "overrides" not in parse_qs(urlparse(page.url).query)


def test_a_drawn_box_gives_the_ious_that_numpy_gives(app):
    app.locator("#viewer .wv-photo .wv-view").first.scroll_into_view_if_needed()
    photo = app.locator("#viewer .wv-photo .wv-view").first.bounding_box()
    for move, (u, v) in (("down", (0.2, 0.1)), ("up", (0.8, 0.9))):
        app.mouse.move(photo["x"] + u * photo["width"], photo["y"] + v * photo["height"])
        getattr(app.mouse, move)()
    true_box = viewer_state(app)["true_box"]
    assert true_box == pytest.approx([0.2 * 451, 0.1 * 300, 0.8 * 451, 0.9 * 300], abs=4)
    threshold = viewer_state(app)["threshold"]
    (cam,) = wsolviz.explain(EXAMPLES[0], wsolviz.load_backbone("efficientnet_lite0"), ["cam"])
    masks = []
    for x0, y0, x1, y1 in (true_box, cam.boxes_at(threshold)[0]):
        mask = np.zeros((300, 451), bool)
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
        masks.append(mask)
    iou = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    app.wait_for_function(
        "text => document.querySelector('#viewer').innerText.includes(text)", arg=f"{iou:.2f}"
    )
    assert "oracle here" in app.locator("#viewer").inner_text()


def test_downloads_hold_what_is_shown(app, tmp_path):
    app.evaluate("window.wsolvizState")
    with app.expect_download() as grid:
        app.get_by_role("button", name="Grid as PNG").click()
    image = Image.open(grid.value.path())
    assert image.width > 4 * 384
    with app.expect_download() as archive:
        app.get_by_role("button", name="ZIP: PNG, NPZ, manifest").click()
    with ZipFile(archive.value.path()) as opened:
        names = set(opened.namelist())
        manifest = json.loads(opened.read("manifest.json"))
    assert {"grid.png", "maps.npz", "manifest.json", "efficientnet_lite0_cam.png"} <= names
    assert manifest["photo"]["name"] == "chelsea.png"
    assert manifest["cam_threshold"] == pytest.approx(viewer_state(app)["threshold"])


def test_the_report_works_offline(app, browser, tmp_path):
    with app.expect_download() as report:
        app.get_by_role("button", name="Offline HTML report").click()
    path = tmp_path / "report.html"
    report.value.save_as(path)
    context = browser.new_context(offline=True)
    offline = context.new_page()
    problems, requests = [], []
    offline.on("pageerror", lambda error: problems.append(str(error)))
    offline.on("request", lambda request: requests.append(request.url))
    offline.goto(path.as_uri())
    offline.wait_for_selector("canvas")
    before = offline.locator("#viewer").inner_text()
    offline.get_by_label("threshold", exact=True).first.fill("0.8")
    offline.wait_for_function(
        "text => document.querySelector('#viewer').innerText !== text", arg=before
    )
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_a_wrong_photo_gets_a_sentence_and_the_next_one_works(app, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a photo")
    upload(app, broken)
    wait_for_status(app, "not an image that can be read")
    assert "Egyptian cat" in app.locator("#viewer").inner_text(), "what was shown is still shown"
    upload(app, COFFEE)
    wait_for_status(app, "coffee.png, 600×400")


def test_a_slow_method_says_what_it_does_and_can_be_stopped(app):
    app.locator("#methods label", has_text="Score-CAM").click()
    app.wait_for_function("document.querySelector('#status').innerText.includes('Score-CAM')")
    app.locator("#stop").click()
    wait_for_status(app, "Stopped; what was shown stays")


def test_plots_are_drawn_for_the_boxes_as_they_are(app):
    app.locator("#plots button.label-wrap").click()
    app.wait_for_selector("#plots .js-plotly-plot")
    text = app.locator("#plots").inner_text()
    assert "inside or outside the box of CAM at threshold 0.30" in text


def test_a_timm_model_without_weights_is_told_in_its_row(app):
    app.locator("#timm-name input, #timm-name textarea").fill("resnet18.a1_in1k")
    app.keyboard.press("Enter")
    app.wait_for_function("document.querySelectorAll('#viewer .wv-row-title').length === 3")
    assert row_titles(app) == [*DEFAULTS.backbones, "timm/resnet18.a1_in1k"]
    wait_for_status(app, "The weights of timm/resnet18.a1_in1k are not on this server")
    told = app.locator("#viewer .wv-error").first.inner_text()
    for text in (told, app.locator("#status").inner_text()):
        assert "try again later" in text
        assert "weights=" not in text
        assert "/hub" not in text, "the server's folders are nobody's business"
    (row,) = [r for r in app.locator("#viewer .wv-row").all() if "resnet18" in r.inner_text()]
    heights = [cell.bounding_box()["height"] for cell in row.locator(".wv-error").all()]
    assert len(heights) == 4
    assert max(heights) < 200


@pytest.mark.parametrize("width", [390, 768, 1600])
def test_no_width_makes_the_page_scroll_sideways(app, width):
    app.set_viewport_size({"width": width, "height": 900})
    app.wait_for_timeout(300)
    assert app.evaluate("document.documentElement.scrollWidth") <= width
