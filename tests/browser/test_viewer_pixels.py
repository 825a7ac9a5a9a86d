"""The viewer's overlay, pixel by pixel, against an erosion by OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.harness import (
    NEXT_FRAME,
    SETTLED,
    canvas_pixels,
    map_cells,
    open_viewer,
    render,
    set_state,
    slide,
    through_a_canvas,
)
from tests.browser.payloads import SIZE, Map, heatmap_cell, make_payload, noise_map

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


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
    page.evaluate(NEXT_FRAME)
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
