"""Clicks on maps in Compare, answered by the server."""

from __future__ import annotations

import pytest

import wsolviz
from tests.browser.test_app import app, wait_for_status
from wsolviz.receptive_field import measure_erf
from wsolviz.ui.controls import EXAMPLES

__all__ = ["app"]  # the fixture

pytestmark = pytest.mark.browser

NET = "efficientnet_lite0"


def click_map(page, index, u, v):
    view = page.locator("#viewer .wv-is-map").nth(index)
    view.scroll_into_view_if_needed()
    spot = view.bounding_box()
    view.click(position={"x": u * spot["width"], "y": v * spot["height"]})


def wait_for_note(page, text):
    page.wait_for_function(
        "text => document.querySelector('#viewer .wv-field').innerText.includes(text)", arg=text
    )


def areas_of(position, class_index):
    found = measure_erf(
        wsolviz.load_backbone(NET), EXAMPLES[:1], position=position, class_index=class_index
    )
    return wsolviz.erf_area(found.contribution, (0.2, 0.99), found.centre)[:, 1]


def test_a_click_shows_the_field_that_the_library_measures(app):
    click_map(app, 0, 3.5 / 7, 2.5 / 7)
    wait_for_note(app, "Field of row 2, column 3")
    note = app.locator("#viewer .wv-field").first.inner_text()
    assert "CAM of Egyptian cat" in note
    assert "224×224 px" in note
    classes = wsolviz.load_backbone(NET).class_names
    for share in areas_of((2, 3), classes.index("Egyptian cat")):
        assert f"{100 * share:.1f} %" in note
    assert app.locator("#viewer .wv-field-map").count() == 1
    click_map(app, 2, 5.5 / 7, 2.5 / 7)
    wait_for_note(app, "Field of row 2, column 5")
    note = app.locator("#viewer .wv-field").first.inner_text()
    assert "all channels" in note
    for share in areas_of((2, 5), None):
        assert f"{100 * share:.1f} %" in note


def test_a_new_photo_takes_the_field_away_and_can_be_asked_about(app):
    click_map(app, 0, 0.5, 0.5)
    wait_for_note(app, "Field of row 3, column 3")
    app.locator("#photo input[type=file]").set_input_files(EXAMPLES[1])
    wait_for_status(app, "coffee.png")
    wait_for_note(app, "click a map")
    assert app.locator("#viewer .wv-field-map").count() == 0
    click_map(app, 0, 0.5, 0.5)
    wait_for_note(app, "CAM of espresso")


def test_by_keyboard_and_then_sliding_asks_nothing_more(app):
    app.locator("#viewer .wv-is-map").first.focus()
    app.keyboard.press("ArrowRight")
    app.keyboard.press("Enter")
    wait_for_note(app, "Field of row 3, column 4")
    requests = []
    app.on("request", lambda request: requests.append(request.url))
    slider = app.get_by_label("threshold", exact=True).first
    slider.fill("0.6")
    app.get_by_label("opacity").first.fill("0.3")
    app.wait_for_timeout(400)
    assert requests == []
    opacity = app.locator(".wv-field-map").first.evaluate("(canvas) => canvas.style.opacity")
    assert opacity == "0.3"
    app.locator("#viewer .wv-is-map").first.focus()
    app.keyboard.press("Escape")
    wait_for_note(app, "click a map")


@pytest.mark.parametrize("width", [390, 1280])
def test_an_open_field_makes_no_page_scroll_sideways(app, width):
    app.set_viewport_size({"width": width, "height": 900})
    click_map(app, 0, 0.5, 0.5)
    wait_for_note(app, "took")
    assert app.evaluate("document.documentElement.scrollWidth") <= width
