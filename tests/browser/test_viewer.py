"""The browser viewer in a real Chromium, against numpy and OpenCV."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.harness import (
    NEXT_FRAME,
    READY,
    canvas_pixels,
    map_cells,
    open_viewer,
    render,
    set_state,
    slide,
    through_a_canvas,
)
from tests.browser.payloads import (
    Box,
    Map,
    box_in_photo,
    heatmap_cell,
    iou_by_counting,
    make_map,
    make_payload,
    noise_map,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SIZE = (120, 90)
IMAGE_SIZE = (301, 200)
TRUE_BOX = (70, 41, 219, 163)
SETTLED = 400  # milliseconds, beyond the viewer's own delay


@pytest.fixture(scope="module")
def maps() -> list[Map]:
    """Four maps of one photo: two plain, one signed, one constant."""
    constant = make_map(np.full((5, 7), 2.5), SIZE)
    return [
        noise_map(1, (14, 11), SIZE),
        noise_map(2, (9, 7), SIZE),
        noise_map(3, (14, 11), SIZE, signed=True),
        constant,
    ]


@pytest.fixture(scope="module")
def payload(maps: list[Map]) -> dict[str, Any]:
    """Two rows of two maps."""
    cells = [heatmap_cell(of) for of in maps]
    return make_payload([cells[:2], cells[2:]], SIZE, IMAGE_SIZE)


def boxes_in_photo(of: Map, level: int, contours: str) -> list[Box]:
    return [box_in_photo(box, SIZE, IMAGE_SIZE) for box in of.boxes(level, contours)]


def area(box: Box) -> int:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def drag_on_photo(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag on the first photo, between two places in [0,1] of its width and height."""
    spot = page.locator(".wv-is-photo").first.bounding_box()
    assert spot is not None
    places = [
        (spot["x"] + u * spot["width"], spot["y"] + v * spot["height"]) for u, v in (start, end)
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=5)


def test_canvas_equals_an_erosion_by_opencv(page: Page, payload: Any, maps: list[Map]) -> None:
    open_viewer(page, payload)
    for threshold in (0.0, 0.11, 0.5, 0.93, 1.0):
        set_state(page, threshold=threshold)
        for i, of in enumerate(maps):
            expected = render(of, of.level(threshold), opacity=0.6)
            shown = canvas_pixels(page, i, SIZE)
            assert np.array_equal(shown, through_a_canvas(page, expected, SIZE)), (threshold, i)


def test_colour_map_and_opacity_repaint_the_canvas(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    page.locator(".wv-colours").select_option("viridis")
    slide(page, ".wv-opacity", 0.25)
    for i, of in enumerate(maps):
        expected = render(of, of.level(0.23), opacity=0.25, colormap="viridis")
        assert np.array_equal(canvas_pixels(page, i, SIZE), through_a_canvas(page, expected, SIZE))


def test_outline_is_wider_on_a_large_map(page: Page) -> None:
    size = (384, 300)
    of = noise_map(5, (12, 12), size)
    open_viewer(page, make_payload([[heatmap_cell(of)]], size, size, threshold=0.4))
    expected = render(of, of.level(0.4), opacity=0.6)
    assert np.array_equal(canvas_pixels(page, 0, size), through_a_canvas(page, expected, size))


def test_many_moves_leave_what_a_fresh_paint_shows(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    random = np.random.default_rng(0)
    for threshold in random.uniform(0, 1, 60):
        set_state(page, threshold=float(threshold))
    set_state(page, threshold=0.37)
    moved = [canvas_pixels(page, i, SIZE) for i in range(len(maps))]
    open_viewer(page, payload)
    set_state(page, threshold=0.37, opacity=0.6)  # the opacity makes every pixel be painted
    for i, pixels in enumerate(moved):
        assert np.array_equal(pixels, canvas_pixels(page, i, SIZE))


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_boxes_shares_and_iou_equal_numpys(
    page: Page, payload: Any, maps: list[Map], contours: str
) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX), contours=contours)
    for threshold in (0.05, 0.23, 0.6, 1.0):
        set_state(page, threshold=threshold)
        for i, of in enumerate(maps):
            boxes = boxes_in_photo(of, of.level(threshold), contours)
            scores = [iou_by_counting(box, TRUE_BOX, IMAGE_SIZE) for box in boxes]
            cell = map_cells(page).nth(i)
            assert cell.locator(".wv-iou").inner_text() == f"{max(scores):.3f}"
            corners = tuple(map(int, re.findall(r"\d+", cell.locator(".wv-corners").inner_text())))
            assert corners in [
                box for box, s in zip(boxes, scores, strict=True) if s == max(scores)
            ]
            share = 100 * area(corners) / (IMAGE_SIZE[0] * IMAGE_SIZE[1])
            assert cell.locator(".wv-share").inner_text() == f"{share:.1f} %"
            drawn = cell.locator("path.wv-box:not(.wv-casing)").get_attribute("d") or ""
            assert set(drawn_boxes(drawn)) == set(of.boxes(of.level(threshold), contours))


def drawn_boxes(path: str) -> list[Box]:
    """Boxes on the display grid that an SVG path goes around."""
    found = re.findall(r"M(\d+) (\d+)H(\d+)V(\d+)H\1Z", path)
    assert path.count("M") == len(found)
    return [(int(x0), int(y0), int(x1) - 1, int(y1) - 1) for x0, y0, x1, y1 in found]


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_curve_and_oracle_equal_brute_force(
    page: Page, payload: Any, maps: list[Map], contours: str
) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX), contours=contours)
    for i, of in enumerate(maps[:3]):
        scores = [
            max(
                iou_by_counting(box, TRUE_BOX, IMAGE_SIZE)
                for box in boxes_in_photo(of, level, contours)
            )
            for level in range(256)
        ]
        cell = map_cells(page).nth(i)
        best = int(np.argmax(scores))
        text = cell.locator(".wv-oracle").inner_text().split("\n")
        assert text == ["oracle here", f"{best / 255:.2f} → {scores[best]:.3f}"]
        path = cell.locator(".wv-curve-line").get_attribute("d") or ""
        points = np.array([[float(v) for v in p.split()] for p in re.split("[ML]", path) if p])
        assert np.array_equal(points[:, 0], np.arange(256))
        np.testing.assert_allclose(points[:, 1], 100 - 100 * np.array(scores), atol=0.0051)


def test_curve_shows_the_boxs_share_without_a_true_box(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    shares = [
        area(boxes_in_photo(maps[0], level, "largest")[0]) / (IMAGE_SIZE[0] * IMAGE_SIZE[1])
        for level in range(256)
    ]
    cell = map_cells(page).first
    path = cell.locator(".wv-curve-line").get_attribute("d") or ""
    heights = [float(point.split()[1]) for point in re.split("[ML]", path) if point]
    np.testing.assert_allclose(heights, 100 - 100 * np.array(shares), atol=0.0051)
    assert "box share" in cell.locator(".wv-curve-title").inner_text()
    assert cell.locator(".wv-oracle").inner_text().strip() == "IoU needs a true box"
    assert cell.locator(".wv-iou").inner_text() == "–"


def test_box_drawn_by_mouse_is_in_the_photos_pixels(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    drag_on_photo(page, (0.8005, 0.9005), (0.2505, 0.3005))
    page.mouse.up()
    page.wait_for_timeout(SETTLED)
    expected = [int(0.2505 * 301), int(0.3005 * 200), int(0.8005 * 301), int(0.9005 * 200)]
    assert page.evaluate("viewer.state().true_box") == expected
    assert page.evaluate("told.at(-1).true_box") == expected
    text = f"{expected[0]}, {expected[1]} – {expected[2]}, {expected[3]}"
    assert page.locator(".wv-hint").all_inner_texts() == [f"true box {text}"] * 2
    paths = page.locator("path.wv-true:not(.wv-casing)").evaluate_all(
        "paths => paths.map((path) => path.getAttribute('d'))"
    )
    assert len(paths) == 6
    sides = [float(v) for v in re.findall(r"[\d.]+", paths[0])][:4]
    scales = [301 / 120, 200 / 90] * 2
    edges = [expected[0], expected[1], expected[2] + 1, expected[3] + 1]
    np.testing.assert_allclose(sides, np.array(edges) / scales)
    assert len(set(paths)) == 1


def test_escape_cancels_a_drawing_and_clear_takes_the_box_away(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX))
    drag_on_photo(page, (0.1, 0.1), (0.9, 0.9))
    page.evaluate(NEXT_FRAME)
    assert page.evaluate("viewer.state().true_box") == [30, 20, 270, 180]
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.evaluate("viewer.state().true_box") == list(TRUE_BOX)
    page.locator(".wv-true-box summary").click()
    page.locator(".wv-clear").click()
    assert page.evaluate("viewer.state().true_box") is None


def test_a_click_on_the_photo_draws_nothing(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    page.locator(".wv-is-photo").first.click()
    assert page.evaluate("viewer.state().true_box") is None


def test_box_drawn_by_touch(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    spot = page.locator(".wv-is-photo").first.bounding_box()
    assert spot is not None
    touch = page.context.new_cdp_session(page)
    for kind, u in (("touchStart", 0.25), ("touchMove", 0.5), ("touchMove", 0.7505)):
        point = {"x": spot["x"] + u * spot["width"], "y": spot["y"] + u * spot["height"]}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.evaluate(NEXT_FRAME)
    assert page.evaluate("viewer.state().true_box") == [75, 50, int(0.7505 * 301), 150]


def test_true_box_by_keyboard(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    page.locator(".wv-true-box summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    for value in ("250", "10", "40", "999"):
        page.keyboard.type(value)
        page.keyboard.press("Tab")
    page.wait_for_timeout(SETTLED)
    assert page.evaluate("told.at(-1).true_box") == [40, 10, 250, 199]
    page.get_by_label("true box x0").focus()
    page.keyboard.press("Escape")
    assert page.locator(".wv-true-box").get_attribute("open") is None


def test_threshold_by_keyboard_is_told_once_settled(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    page.get_by_label("threshold", exact=True).focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(SETTLED)
    told = page.evaluate("told.at(-1)")
    assert told["threshold"] == pytest.approx(0.29)
    assert page.locator(".wv-value").inner_text() == "0.29"
    label = page.locator(".wv-is-map").first.get_attribute("aria-label")
    corners = map_cells(page).first.locator(".wv-corners").inner_text()
    assert label is not None and f"threshold 0.29, box {corners}" in label


def test_a_mark_sets_its_threshold(page: Page, payload: Any) -> None:
    marks = [{"threshold": 0.31, "label": "best on val"}]
    open_viewer(page, payload | {"settings": payload["settings"] | {"marks": marks}})
    page.get_by_role("button", name="best on val: 0.31").click()
    assert page.evaluate("viewer.state().threshold") == 0.31


def test_a_cell_with_its_own_threshold_leaves_the_global_one(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    cell = map_cells(page).nth(1)
    cell.get_by_role("button", name="own threshold").click()
    slide(page, ".wv-own-slider:not([hidden])", 0.7)
    slide(page, ".wv-threshold", 0.4)
    assert page.evaluate("viewer.state().overrides") == {"net0/pc1": 0.7}
    button = cell.locator(".wv-own-button")
    assert (button.inner_text(), button.get_attribute("aria-pressed")) == ("own 0.70", "true")
    for i, threshold in ((0, 0.4), (1, 0.7)):
        expected = render(maps[i], maps[i].level(threshold), opacity=0.6)
        assert np.array_equal(canvas_pixels(page, i, SIZE), through_a_canvas(page, expected, SIZE))
    button.click()
    page.evaluate(NEXT_FRAME)
    expected = render(maps[1], maps[1].level(0.4), opacity=0.6)
    assert np.array_equal(canvas_pixels(page, 1, SIZE), through_a_canvas(page, expected, SIZE))
    assert page.evaluate("viewer.state().overrides") == {}


def readings(page: Page) -> list[float]:
    texts = page.locator(".wv-is-map .wv-reading").all_inner_texts()
    return [float(text.replace("−", "-")) for text in texts]


def test_hover_reads_every_raw_map_at_the_same_place(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    spot = page.locator(".wv-is-map").nth(1).bounding_box()
    assert spot is not None
    for x, y in ((0, 0), (119, 89), (63, 40), (17, 71)):
        left = spot["x"] + (x + 0.5) / 120 * spot["width"]
        top = spot["y"] + (y + 0.5) / 90 * spot["height"]
        page.mouse.move(left, top)
        page.evaluate(NEXT_FRAME)
        for value, of in zip(readings(page), maps, strict=True):
            h, w = of.raw.shape
            raw = of.raw[int((y + 0.5) * h / 90), int((x + 0.5) * w / 120)]
            assert value == float(f"{raw:.4g}")
        photo = f"{int((x + 0.5) * 301 / 120)}, {int((y + 0.5) * 200 / 90)}"
        assert page.locator(".wv-is-photo .wv-reading").all_inner_texts() == [photo] * 2
    page.mouse.move(1, 1)
    page.evaluate(NEXT_FRAME)
    assert page.locator(".wv-reading:not([hidden])").count() == 0


def test_arrow_keys_move_the_crosshair_by_a_raw_cell(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    page.locator(".wv-is-map").nth(1).focus()  # a 9×7 map: steps of 13 pixels
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.evaluate(NEXT_FRAME)
    x, y = 60 - 13, 45 + 13 + 1
    path = page.locator("path.wv-crosshair").last.get_attribute("d")
    assert path == f"M{x + 0.5} 0V90M0 {y + 0.5}H120"
    raw = maps[1].raw[int((y + 0.5) * 7 / 90), int((x + 0.5) * 9 / 120)]
    assert readings(page)[1] == float(f"{raw:.4g}")
    page.keyboard.press("Enter")
    picked = page.evaluate("picked")
    point = {"x": int((x + 0.5) * 301 / 120), "y": int((y + 0.5) * 200 / 90)}
    assert picked == [{"row": "net0", "method": "pc1", **point}]
    page.keyboard.press("Escape")
    page.evaluate(NEXT_FRAME)
    assert page.locator(".wv-reading:not([hidden])").count() == 0


def test_a_click_picks_the_place_in_the_photos_pixels(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    view = page.locator(".wv-is-map").nth(2)
    spot = view.bounding_box()
    assert spot is not None
    view.click(position={"x": spot["width"] * 30.5 / 120, "y": spot["height"] * 60.5 / 90})
    point = {"x": int(30.5 * 301 / 120), "y": int(60.5 * 200 / 90)}
    assert page.evaluate("picked") == [{"row": "net1", "method": "cam", **point}]


def test_update_keeps_what_still_applies(page: Page, payload: Any, maps: list[Map]) -> None:
    open_viewer(page, payload)
    choice = {
        "threshold": 0.6,
        "contours": "all",
        "opacity": 0.3,
        "colormap": "viridis",
        "true_box": list(TRUE_BOX),
    }
    set_state(page, **choice, overrides={"net0/pc1": 0.1, "net1/cam": 0.2})
    fewer = payload | {"rows": payload["rows"][:1]}
    page.evaluate("(payload) => viewer.update(payload)", fewer)
    assert page.evaluate("viewer.state()") == choice | {"overrides": {"net0/pc1": 0.1}}
    expected = render(maps[0], maps[0].level(0.6), opacity=0.3, colormap="viridis")
    assert np.array_equal(canvas_pixels(page, 0, SIZE), through_a_canvas(page, expected, SIZE))
    other_photo = payload | {"photo": payload["photo"] | {"src": payload["photo"]["src"] + "="}}
    page.evaluate("(payload) => viewer.update(payload)", other_photo)
    assert page.evaluate("viewer.state().true_box") is None


def test_the_last_of_two_updates_wins(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    fewer = payload | {"rows": payload["rows"][1:]}
    page.evaluate("([a, b]) => Promise.all([viewer.update(a), viewer.update(b)])", [payload, fewer])
    assert page.locator(".wv-row-title").all_inner_texts() == ["net1"]
    page.evaluate("viewer.destroy()")
    assert page.locator(".wsolviz").count() == 0


def test_state_that_cannot_be_shown_is_ignored(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    before = page.evaluate("viewer.state()")
    set_state(page, threshold="high", contours="some", colormap="none", true_box=[1, 2, 3])
    assert page.evaluate("viewer.state()") == before
    set_state(page, threshold=7, true_box=[500, -3, 20, 40.4])
    after = page.evaluate("viewer.state()")
    assert (after["threshold"], after["true_box"]) == (1, [20, 0, 300, 40])


def test_pictures_and_errors_stand_beside_maps(page: Page, maps: list[Map]) -> None:
    picture = {
        "kind": "picture",
        "src": make_payload([[{}]], (3, 2), (3, 2))["photo"]["src"],
        "legend": [["tabby", "#e69f00"], ["<b>tiger</b>", "#56b4e9"]],
        "facts": [],
    }
    error = {"kind": "error", "message": "no map: <i>attention</i> pooling"}
    open_viewer(page, make_payload([[heatmap_cell(maps[0]), picture, error]], SIZE, IMAGE_SIZE))
    assert page.locator(".wv-legend li").all_inner_texts() == ["tabby", "<b>tiger</b>"]
    assert page.locator(".wv-error").inner_text() == "no map: <i>attention</i> pooling"
    set_state(page, true_box=list(TRUE_BOX))
    assert page.locator(".wv-is-picture path.wv-true").first.get_attribute("d")


def test_a_map_that_cannot_be_read_gets_a_sentence(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    broken = make_payload([[heatmap_cell(maps[0])]], (60, 45), IMAGE_SIZE)
    page.evaluate("(payload) => viewer.update(payload)", broken)
    assert "120×90 pixels came with a photo of 60×45" in page.get_by_role("alert").inner_text()
    page.evaluate("(payload) => viewer.update(payload)", payload)
    assert map_cells(page).count() == 4


def test_nothing_is_shown_before_the_first_result(page: Page, payload: Any) -> None:
    open_viewer(page, None)
    assert page.evaluate("viewer.state()") is None
    set_state(page, threshold=0.5)
    assert page.locator(".wsolviz > *").count() == 0
    page.evaluate("(payload) => viewer.update(payload)", payload)
    assert page.evaluate("viewer.state().threshold") == 0.23


def test_sliding_sends_no_request(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    slider = page.locator(".wv-threshold").bounding_box()
    assert slider is not None
    page.mouse.move(slider["x"] + 20, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] - 20, slider["y"] + 5, steps=20)
    page.mouse.up()
    page.wait_for_timeout(SETTLED)
    assert page.evaluate("told.at(-1).threshold") > 0.9
    assert requests == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1600])
def test_the_page_never_overflows_and_cells_stay_legible(
    page: Page, payload: Any, width: int, dark: bool
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    row = payload["rows"][0]
    wide = payload | {
        "columns": [{"method": f"m{i}", "title": f"method {i}", "help": ""} for i in range(6)],
        "rows": [row | {"cells": row["cells"] * 3, "title": "timm/" + "convnext_base_" * 6}],
    }
    open_viewer(page, wide, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    views = page.locator(".wv-is-map").evaluate_all("views => views.map((v) => v.clientWidth)")
    assert min(views) >= 149
    first = page.locator(".wv-table .wv-first").bounding_box()
    page.locator(".wv-scroll").evaluate("scroll => { scroll.scrollLeft = 1000; }")
    page.evaluate(NEXT_FRAME)
    assert page.locator(".wv-table .wv-first").bounding_box() == first
    assert first is not None and first["width"] < 0.4 * width
    shifts = page.evaluate(
        "[document.querySelector('.wv-heads').scrollLeft,"
        " document.querySelector('.wv-scroll').scrollLeft]"
    )
    assert shifts[0] == shifts[1]


def test_texts_reach_the_contrast_of_wcag_aa(page: Page, payload: Any) -> None:
    for dark in (False, True):
        open_viewer(page, payload, dark=dark)
        ground = luminance((11, 15, 25) if dark else (255, 255, 255))
        for selector in (".wv-share", ".wv-hint", ".wv-row-title", ".wv-value", ".wv-own-button"):
            colour = page.locator(selector).first.evaluate(
                "element => { const canvas = document.createElement('canvas');"
                "const context = canvas.getContext('2d');"
                "context.fillStyle = getComputedStyle(element).color;"
                "context.fillRect(0, 0, 1, 1);"
                "return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3); }"
            )
            bright, dim = sorted((luminance(colour), ground), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (dark, selector)


def luminance(colour: Any) -> float:
    """WCAG 2.2's relative luminance of an sRGB colour."""
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_inside_a_gradio_app(page: Page, payload: Any, maps: list[Map]) -> None:
    import gradio as gr

    from tests.browser.payloads import viewer_script, viewer_style

    glue = """
    const viewer = mountWsolviz(element.querySelector(".host"), props.value);
    watch("value", () => viewer.update(props.value));
    """
    with gr.Blocks() as app:
        html = gr.HTML(
            payload,
            html_template="<div class='host'></div>",
            css_template=viewer_style(),
            js_on_load=viewer_script() + glue,
            apply_default_css=False,
        )
        button = gr.Button("fewer")
        gr.HTML("<div style='height: 1500px'></div>")
        button.click(lambda: payload | {"rows": payload["rows"][1:]}, outputs=html)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        page.goto(url)
        page.wait_for_selector(READY)
        slide(page, ".wv-threshold", 0.5)
        expected = render(maps[0], maps[0].level(0.5), opacity=0.6)
        assert np.array_equal(canvas_pixels(page, 0, SIZE), through_a_canvas(page, expected, SIZE))
        page.evaluate("document.querySelector('.wv-table').scrollIntoView()")
        assert page.evaluate("scrollY") > 0
        assert page.locator(".wv-top").evaluate("e => e.getBoundingClientRect().top") == 0
        page.get_by_role("button", name="fewer").click()
        page.wait_for_function("document.querySelectorAll('.wv-row-title').length === 1")
        assert page.locator(".wv-value").inner_text() == "0.50"
        expected = render(maps[2], maps[2].level(0.5), opacity=0.6)
        assert np.array_equal(canvas_pixels(page, 0, SIZE), through_a_canvas(page, expected, SIZE))
    finally:
        app.close()
