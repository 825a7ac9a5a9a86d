"""A click on a map asks for the field of that place, which is laid over the row's photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.harness import NEXT_FRAME, READ_CANVAS, open_viewer, set_state, slide
from tests.browser.payloads import SIZE, colour_map, data_url

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

CELL = [0.25, 0.5, 0.5, 0.75]


@pytest.fixture
def asking(page: Page, payload: Any) -> Page:
    open_viewer(page, payload, asks=True)
    return page


def click_map(page: Page, index: int, u: float = 0.5, v: float = 0.5) -> None:
    view = page.locator(".wv-is-map").nth(index)
    spot = view.bounding_box()
    assert spot is not None
    view.click(position={"x": u * spot["width"], "y": v * spot["height"]})


def field(levels: np.ndarray, row: str = "net0", token: int = 1) -> dict[str, Any]:
    facts = [{"label": "area 20%", "value": "13.7 %", "help": "of the image"}]
    return {
        "row": row,
        "token": token,
        "levels": data_url(levels),
        "cell": CELL,
        "title": "Field of row 2, column 1",
        "of": "all channels",
        "facts": facts,
        "notes": ["Of several inputs the first."],
    }


def answer(page: Page, **told: Any) -> None:
    page.evaluate("(answer) => viewer.showField(answer)", told)
    page.wait_for_timeout(100)
    page.evaluate(NEXT_FRAME)


def ramp() -> np.ndarray:
    width, height = SIZE
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def notes(page: Page) -> list[str]:
    return page.locator(".wv-field").all_inner_texts()


def pixels(page: Page, index: int) -> np.ndarray:
    import base64

    text = page.locator(".wv-field-map").nth(index).evaluate(READ_CANVAS)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(SIZE[1], SIZE[0], 4)


def test_a_click_asks_once_and_says_that_it_is_waiting(asking: Page) -> None:
    click_map(asking, 2, 30.5 / 120, 60.5 / 90)
    point = {"x": int(30.5 * 301 / 120), "y": int(60.5 * 200 / 90)}
    question = {"row": "net1", "method": "cam", "token": 1, **point}
    assert asking.evaluate("asked") == [question]
    first, second = notes(asking)
    assert "click a map" in first
    assert "measuring" in second


def test_the_field_lies_over_the_rows_photo_with_its_place_and_numbers(asking: Page) -> None:
    click_map(asking, 0)
    answer(asking, **field(ramp()))
    np.testing.assert_array_equal(pixels(asking, 0)[..., :3], colour_map("turbo")[ramp()])
    shown = asking.locator(".wv-field-map")
    assert [canvas.is_visible() for canvas in shown.all()] == [True]
    assert shown.first.evaluate("(canvas) => canvas.style.opacity") == "0.6"
    path = asking.locator(".wv-is-photo path.wv-place").first.get_attribute("d")
    assert path == "M30 45H60V67.5H30Z"
    for text in ("Field of row 2, column 1", "all channels", "13.7 %", "Of several inputs"):
        assert text in notes(asking)[0]
    set_state(asking, colormap="viridis", opacity=0.25)
    np.testing.assert_array_equal(pixels(asking, 0)[..., :3], colour_map("viridis")[ramp()])
    assert shown.first.evaluate("(canvas) => canvas.style.opacity") == "0.25"


def test_each_row_keeps_its_own_field(asking: Page) -> None:
    click_map(asking, 0)
    click_map(asking, 2)
    answer(asking, **field(ramp()))
    answer(asking, **field(255 - ramp(), "net1", 2))
    np.testing.assert_array_equal(pixels(asking, 0)[..., :3], colour_map("turbo")[ramp()])
    np.testing.assert_array_equal(pixels(asking, 1)[..., :3], colour_map("turbo")[255 - ramp()])


def test_a_late_answer_is_not_shown(asking: Page, payload: Any) -> None:
    click_map(asking, 0)
    click_map(asking, 0, 0.1, 0.1)
    answer(asking, **field(ramp(), token=1))
    assert "measuring" in notes(asking)[0]
    asking.evaluate("(payload) => viewer.update(payload)", payload)
    answer(asking, **field(ramp(), token=2))
    assert all("click a map" in note for note in notes(asking))
    assert asking.locator(".wv-field-map").count() == 0


def test_close_and_escape_take_the_field_away(asking: Page) -> None:
    click_map(asking, 0)
    answer(asking, **field(ramp()))
    asking.get_by_role("button", name="close the field of net0").click()
    assert asking.locator(".wv-field-map").count() == 0
    assert asking.locator("path.wv-place").first.get_attribute("d") == ""
    assert "click a map" in notes(asking)[0]
    label = asking.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("CAM of net0"), "the focus is where the question came from"
    asking.keyboard.press("Enter")
    answer(asking, **field(ramp(), token=2))
    assert asking.locator(".wv-field-map").count() == 1
    asking.keyboard.press("Escape")
    assert asking.locator(".wv-field-map").count() == 0


def test_by_keyboard_enter_asks_at_the_crosshair_or_in_the_middle(asking: Page) -> None:
    asking.locator(".wv-is-map").nth(1).focus()
    asking.keyboard.press("Enter")
    asking.keyboard.press("ArrowLeft")
    asking.keyboard.press("Enter")
    first, second = asking.evaluate("asked")
    assert (first["x"], first["y"]) == (int(60.5 * 301 / 120), int(45.5 * 200 / 90))
    assert second["x"] == int((60 - 13 + 0.5) * 301 / 120)
    assert [first["token"], second["token"]] == [1, 2]


def test_a_failure_is_told_in_the_row(asking: Page) -> None:
    click_map(asking, 0)
    answer(asking, row="net0", token=1, message="<b>no</b> memory")
    assert "<b>no</b> memory" in notes(asking)[0]
    assert asking.locator(".wv-field-map").count() == 0


def test_a_drag_and_the_slider_ask_nothing(asking: Page) -> None:
    spot = asking.locator(".wv-is-map").first.bounding_box()
    assert spot is not None
    asking.mouse.move(spot["x"] + 20, spot["y"] + 20)
    asking.mouse.down()
    asking.mouse.move(spot["x"] + 60, spot["y"] + 30)
    asking.mouse.up()
    slide(asking, ".wv-threshold", 0.7)
    asking.locator(".wv-is-photo").first.click()
    assert asking.evaluate("asked") == []


def test_where_nobody_answers_nothing_is_offered(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    click_map(page, 0)
    assert page.evaluate("asked") == []
    assert page.locator(".wv-field:visible").count() == 0
