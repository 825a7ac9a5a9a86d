"""The viewer's own state: updates, refusals, layout, and life inside Gradio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.harness import (
    NEXT_FRAME,
    READY,
    SETTLED,
    canvas_pixels,
    map_cells,
    open_viewer,
    render,
    set_state,
    slide,
    through_a_canvas,
)
from tests.browser.payloads import (
    IMAGE_SIZE,
    SIZE,
    TRUE_BOX,
    Map,
    heatmap_cell,
    make_payload,
    viewer_script,
    viewer_style,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


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


@pytest.mark.parametrize("width", [390, 1600])
def test_a_long_reason_does_not_blow_up_its_row(page: Page, maps: list[Map], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    error = {"kind": "error", "message": "The weights of timm/resnet18.a1_in1k are missing. " * 9}
    open_viewer(page, make_payload([[heatmap_cell(maps[0]), error]], SIZE, IMAGE_SIZE))
    cell = page.locator(".wv-error").bounding_box()
    assert cell is not None
    assert cell["height"] <= 180


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
