"""Drawing the true box, and pointing at a place in all maps at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.harness import NEXT_FRAME, SETTLED, open_viewer, set_state
from tests.browser.payloads import TRUE_BOX, Map

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


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


def test_a_finger_scrolls_and_draws_only_while_the_panel_is_open(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    touch = page.context.new_cdp_session(page)

    def drag() -> Any:
        spot = page.locator(".wv-is-photo").first.bounding_box()
        assert spot is not None
        for kind, u in (("touchStart", 0.25), ("touchMove", 0.5), ("touchMove", 0.7505)):
            point = {"x": spot["x"] + u * spot["width"], "y": spot["y"] + u * spot["height"]}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.evaluate(NEXT_FRAME)
        return page.evaluate("viewer.state().true_box")

    assert drag() is None
    page.locator(".wv-true-box summary").click()
    assert drag() == [75, 50, int(0.7505 * 301), 150]


@pytest.mark.parametrize("width", [320, 390, 600, 768, 1280])
@pytest.mark.parametrize("scroll", [0, 90])
def test_the_true_boxs_panel_is_on_the_screen_and_off_the_photo(
    page: Page, payload: Any, width: int, scroll: int
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    open_viewer(page, payload)
    page.evaluate("document.body.style.paddingTop = '90px'")
    page.evaluate("document.body.style.paddingBottom = '900px'")
    page.evaluate("(scroll) => scrollTo(0, scroll)", scroll)
    page.locator(".wv-true-box summary").click()
    page.evaluate(NEXT_FRAME)
    panel = page.locator(".wv-panel").bounding_box()
    photo = page.locator(".wv-is-photo").first.bounding_box()
    assert panel is not None
    assert photo is not None
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= width
    beside = panel["x"] >= photo["x"] + photo["width"]
    assert beside or panel["y"] + panel["height"] <= photo["y"]


def test_true_box_by_keyboard(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    page.locator(".wv-true-box summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    for value in ("250", "10", "40", "999"):
        page.keyboard.type(value)
        page.keyboard.press("Tab")
        page.mouse.move(600, 300 + int(value) / 9)  # hovering repaints, and keeps what is typed
        page.evaluate(NEXT_FRAME)
    page.wait_for_timeout(SETTLED)
    assert page.evaluate("told.at(-1).true_box") == [40, 10, 250, 199]
    page.get_by_label("true box x0").focus()
    page.keyboard.press("Escape")
    assert page.locator(".wv-true-box").get_attribute("open") is None


def test_a_field_in_use_is_left_alone(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX))
    page.locator(".wv-true-box summary").click()
    field = page.get_by_label("true box x0")
    field.focus()
    page.evaluate(
        "() => { for (const f of document.querySelectorAll('.wv-fields input'))"
        " Object.defineProperty(f, 'value', { set() { window.written = this; }, get() {"
        " return Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value')"
        ".get.call(this); }, configurable: true }); }"
    )
    set_state(page, true_box=[70, 41, 219, 163], threshold=0.4)
    assert page.evaluate("window.written === undefined"), "nothing differs"
    set_state(page, true_box=[60, 41, 219, 163])
    assert page.evaluate("window.written === undefined"), "what differs is in use"
    page.evaluate(
        "() => { for (const f of document.querySelectorAll('.wv-fields input')) delete f.value; }"
    )
    field.blur()
    page.evaluate(NEXT_FRAME)
    assert field.input_value() == "60"


def test_after_clear_escape_closes_the_panel(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX))
    page.locator(".wv-true-box summary").click()
    page.get_by_role("button", name="clear").click()
    page.evaluate(NEXT_FRAME)
    assert page.evaluate("viewer.state().true_box") is None
    assert page.get_by_label("true box x0").input_value() == ""
    page.keyboard.press("Escape")
    assert page.locator(".wv-true-box").get_attribute("open") is None


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
