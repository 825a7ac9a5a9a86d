"""The choices beside the grid, as a visitor makes them in a real browser."""

from __future__ import annotations

from urllib.parse import parse_qs, urlparse

import pytest

from tests.browser.harness import SETTLED
from tests.browser.test_app import TIMEOUT, app, row_titles, wait_for_status
from tests.browser.test_viewer import luminance
from wsolviz.defaults import DEFAULTS
from wsolviz.ui.compare_tab import jobs

__all__ = ["app"]  # the fixture

pytestmark = pytest.mark.browser


def type_class(page, text):
    """Write a class into its field, key by key."""
    page.locator("#class input").click()
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


def wait_for_class(page, name):
    page.wait_for_function(
        "name => document.querySelector('#viewer .wv-row-subtitle').innerText.startsWith(name)",
        arg=name,
    )


@pytest.mark.parametrize(
    ("typed", "name"),
    [("cup", "cup "), ("968", "cup "), ("tabby cat", "tabby, tabby cat"), ("porcup", "porcupine")],
)
def test_a_typed_class_is_the_class_of_that_name(app, typed, name):
    type_class(app, typed)
    app.wait_for_timeout(200)  # Gradio marks the first entry of its menu
    app.keyboard.press("Enter")
    wait_for_class(app, name)


@pytest.mark.parametrize(
    ("typed", "said"),
    [("shark", "'shark' occurs in"), ("purple unicorn", "There is no class 'purple unicorn'")],
)
def test_a_typed_class_that_is_not_one_is_said(app, typed, said):
    type_class(app, typed)
    app.wait_for_timeout(200)
    app.keyboard.press("Enter")
    wait_for_status(app, said)
    assert "Egyptian cat" in app.locator("#viewer").inner_text()


def test_arrow_keys_and_mouse_choose_from_the_class_menu(app):
    type_class(app, "cup")
    app.wait_for_timeout(200)
    app.keyboard.press("ArrowDown")
    app.wait_for_timeout(200)
    marked = app.locator("#class [role=option].active").get_attribute("aria-label")
    app.keyboard.press("Enter")
    wait_for_class(app, marked.split(maxsplit=1)[1])
    type_class(app, "cup")
    app.get_by_role("option", name="968 cup").first.click()
    wait_for_class(app, "cup ")
    assert parse_qs(urlparse(app.url).query)["class_choice"] == ["cup"]


def open_menus(page):
    return page.locator("#class ul[role=listbox]").count()


@pytest.mark.parametrize("leave", ["Enter", "Tab"])
def test_the_class_menu_is_closed_once_the_field_is_left(app, leave):
    type_class(app, "espresso")
    assert open_menus(app) == 1
    app.keyboard.press(leave)
    wait_for_class(app, "espresso")  # with which the server has renewed the menu
    app.wait_for_timeout(300)
    assert open_menus(app) == 0


def test_passing_through_the_class_field_leaves_no_menu_and_stops_nowhere_else(app):
    app.locator("#class input").focus()
    app.wait_for_timeout(200)
    app.keyboard.press("Tab")
    app.wait_for_timeout(500)
    assert open_menus(app) == 0
    assert app.evaluate("document.activeElement.closest('#advanced') !== null")


def test_a_click_into_the_class_field_selects_what_stands_there(app):
    app.locator("#class input").click()
    app.keyboard.type("espresso")
    assert app.locator("#class input").input_value() == "espresso"


@pytest.mark.parametrize("typed", ["lite1", "efficientnet_lite1"])
def test_a_typed_backbone_is_shown_at_once(app, typed):
    app.locator("#backbones input").click()
    app.keyboard.type(typed)
    app.wait_for_timeout(200)  # the menu is filtered
    app.keyboard.press("Enter")
    titles = [*DEFAULTS.backbones, "efficientnet_lite1"]
    app.wait_for_function(
        "n => document.querySelectorAll('#viewer .wv-row-title').length === n", arg=len(titles)
    )
    assert row_titles(app) == titles


def test_a_typed_backbone_that_is_none_is_said_at_once(app):
    app.locator("#backbones input").click()
    app.keyboard.type("efficientnet_lite9")
    app.wait_for_timeout(200)
    app.keyboard.press("Enter")
    wait_for_status(app, "There is no backbone 'efficientnet_lite9'. Did you mean 'efficientnet_li")
    assert len(app.locator("#status").inner_text()) < 400, "a few names, not all"


def test_back_at_what_is_shown_the_slow_method_is_stopped(app):
    app.locator("#methods label", has_text="Score-CAM").click()
    wait_for_status(app, "Score-CAM")
    app.locator("#methods label", has_text="Score-CAM").click()
    for _ in range(40):  # the job ends at its next report
        if not jobs._running:
            break
        app.wait_for_timeout(100)
    assert jobs._running == {}
    wait_for_status(app, "chelsea.png, 451×300")
    assert "Score-CAM" not in app.locator("#viewer").inner_text()


def test_progress_is_not_written_over_what_was_said(app):
    app.locator("#methods label", has_text="Score-CAM").click()
    wait_for_status(app, "Score-CAM")
    seen = "() => getComputedStyle(document.querySelector('#status [role=status]')).visibility"
    app.wait_for_function(f"({seen})() === 'hidden'")
    app.locator("#stop").click()
    wait_for_status(app, "Stopped")
    app.wait_for_function(f"({seen})() === 'visible'")


def test_a_ticked_box_shows_the_keyboards_focus(app):
    box = app.locator("#methods label", has_text="PC1").first
    outline = "element => getComputedStyle(element).outlineStyle"
    assert box.evaluate(outline) == "none"
    box.locator("input").focus()
    app.keyboard.press("Shift+Tab")
    app.keyboard.press("Tab")
    assert box.evaluate(outline) == "solid"


def test_no_backbone_at_all_is_said(app):
    app.locator("#backbones .remove-all").click()
    wait_for_status(app, "Choose at least one backbone and one method.")
    assert row_titles(app) == list(DEFAULTS.backbones)


def test_on_a_phone_only_a_new_photo_and_the_button_lead_down_to_the_grid(app):
    app.set_viewport_size({"width": 390, "height": 844})
    app.locator("#methods label", has_text="Eigen").scroll_into_view_if_needed()
    before = app.evaluate("scrollY")
    app.locator("#methods label", has_text="Eigen").click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('Eigen')")
    app.wait_for_timeout(300)
    assert app.evaluate("scrollY") == before
    top = "document.querySelector('#viewer').getBoundingClientRect().top"
    assert app.evaluate(top) > 400
    app.locator("#explain").click()
    app.wait_for_function(f"{top} < 200")
    app.evaluate("scrollTo(0, 0)")
    app.locator("#controls .gallery-item").nth(1).click()
    wait_for_status(app, "coffee.png, 600×400")
    app.wait_for_function(f"{top} < 200")


COVERED = """() => {
  const focused = document.activeElement.closest("label, button") ?? document.activeElement;
  const bar = document.querySelector("#run");
  if (bar.contains(focused)) return false;
  return focused.getBoundingClientRect().bottom > bar.getBoundingClientRect().top + 1;
}"""
OVER_THE_BAR = """() => {
  const bar = document.querySelector("#run");
  const { left, top, right, bottom } = bar.getBoundingClientRect();
  const strangers = new Set();
  for (let x = left + 5; x < right; x += 12) {
    for (let y = top + 3; y < Math.min(bottom, innerHeight); y += 6) {
      const found = document.elementFromPoint(x, y);
      if (!bar.contains(found)) strangers.add(found.innerText);
    }
  }
  return [...strangers];
}"""


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
def test_nothing_is_under_or_over_the_bar_of_buttons(app, size):
    app.set_viewport_size({"width": size[0], "height": size[1]})
    app.locator("#methods input").first.focus()
    for _ in range(app.locator("#methods input").count() - 1):
        app.keyboard.press("Tab")
        assert not app.evaluate(COVERED)
    for y in range(0, 500, 25):
        app.evaluate("(y) => scrollTo(0, y)", y)
        assert app.evaluate(OVER_THE_BAR) == []
    assert app.locator("#run").bounding_box()["height"] < 80


def test_a_size_applies_once_its_field_is_left(app):
    app.locator("#advanced > button").click()
    app.wait_for_timeout(SETTLED)  # Gradio makes the fields when they are first unfolded
    size = app.get_by_label("Input size", exact=True)
    size.fill("320")
    app.locator("#title").click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('320×320 px')")
    app.wait_for_timeout(SETTLED)  # in the moment of an answer Gradio may miss that a field is left
    size.fill("100.7")
    app.locator("#title").click()
    wait_for_status(app, "Input size: 100.7 is not a whole number of pixels")
    size.fill("")
    app.locator("#title").click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('224×224 px')")


def test_what_was_stopped_does_not_start_by_passing_through_a_field(app):
    app.locator("#methods label", has_text="Score-CAM").click()
    wait_for_status(app, "Score-CAM")
    app.locator("#stop").click()
    wait_for_status(app, "Stopped; what was shown stays")
    app.locator("#class input").click()
    app.locator("#title").click()
    app.wait_for_timeout(500)
    assert jobs._running == {}
    wait_for_status(app, "Stopped; what was shown stays")


CONTRAST = """(selector) => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const element = document.querySelector(selector);
  let ground = element;
  while (channels(getComputedStyle(ground).backgroundColor)[3] < 255) ground = ground.parentElement;
  const style = getComputedStyle(element);
  const colour = element instanceof SVGElement ? style.fill : style.color;
  return [channels(colour), channels(getComputedStyle(ground).backgroundColor)];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_texts_reach_a_contrast_of_4_5(page, address, theme):
    page.set_default_timeout(TIMEOUT)
    page.goto(f"{address}?__theme={theme}")
    page.wait_for_selector("#viewer canvas")
    page.locator("#plots button.label-wrap").click()
    page.wait_for_selector("#plots .js-plotly-plot .xtick text")
    for selector in (
        "#status p",
        "#title p",
        "#class .info-text",
        "#methods span",
        ".plot-caption p",
        "#plots .xtick text",
        "#plots .legendtext",
    ):
        colours = page.evaluate(CONTRAST, selector)
        bright, dim = sorted((luminance(colour[:3]) for colour in colours), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, selector


def test_reset_brings_the_defaults_back_and_keeps_the_photo(app):
    app.locator("#controls .gallery-item").nth(1).click()
    wait_for_status(app, "coffee.png, 600×400")
    type_class(app, "cup")
    app.keyboard.press("Enter")
    wait_for_class(app, "cup ")
    app.locator("#methods label", has_text="Eigen").click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('Eigen')")
    app.get_by_label("threshold", exact=True).first.fill("0.8")
    app.wait_for_function("new URLSearchParams(location.search).has('threshold')")
    app.locator("#reset").click()
    wait_for_class(app, "espresso")
    app.wait_for_function("location.search === ''")
    assert "Eigen" not in app.locator("#viewer").inner_text()
    assert app.locator("#viewer .wv-value").inner_text() == "0.30"
    assert not app.locator("#methods label", has_text="Eigen").locator("input").is_checked()
    wait_for_status(app, "coffee.png, 600×400")
