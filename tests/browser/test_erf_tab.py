"""The ERF tab in a real browser, as a visitor uses it."""

from __future__ import annotations

import json
from zipfile import ZipFile

import numpy as np
import pytest

import wsolviz
from wsolviz.fields.photos import EXAMPLES, choose_photos
from wsolviz.ui.erf_tab import jobs

pytestmark = pytest.mark.browser

TIMEOUT = 60_000  # milliseconds; a slow machine, not a bound that is measured
NET = "efficientnet_lite0"


@pytest.fixture
def tab(page, address):
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("#viewer canvas")
    page.get_by_role("tab", name="ERF").click()
    return page


@pytest.fixture
def measured(tab):
    """The page after a measurement with what is chosen at first."""
    measure(tab)
    tab.wait_for_selector("#erf-results .js-plotly-plot .scatterlayer")
    return tab


def measure(page):
    page.locator("#erf-go").click()
    page.wait_for_selector("#erf-maps img")


def wait_for_status(page, text):
    page.wait_for_function(
        "text => document.querySelector('#erf-status').innerText.includes(text)", arg=text
    )


def titles(page):
    return page.locator("#erf-maps figcaption:first-child").all_inner_texts()


def test_the_first_run_shows_maps_areas_and_curves(measured):
    assert titles(measured) == [f"224×224: {NET}, {kind}" for kind in ("trained", "random")]
    assert "Effective receptive fields at 224×224, 3 photos" in measured.inner_text("#erf-head")
    assert "for this input size only" in measured.inner_text("#erf-head")
    photos = [photo.source for photo in choose_photos(EXAMPLES, 3)]
    contribution = wsolviz.erf(wsolviz.load_backbone(NET), photos, 224)
    cells = measured.locator("#erf-numbers tbody tr").first.locator("td").all_inner_texts()
    expected = wsolviz.erf_area(contribution, (0.2, 0.3, 0.5, 0.99))
    assert cells[2:6] == [f"{side:.0f} px, {100 * share:.1f} %" for side, share in expected]
    plots = measured.locator("#erf-results .js-plotly-plot")
    assert plots.count() >= 2, "where results are known already, the scatter plot makes three"
    for plot in plots.all():
        assert "224×224" in plot.locator(".gtitle").text_content()


def test_the_colours_change_without_a_measurement(measured):
    before = measured.locator("#erf-maps img").nth(1).get_attribute("src")
    status = measured.inner_text("#erf-status")
    measured.get_by_label("Each map up to its own maximum").check()
    measured.wait_for_function(
        "src => document.querySelectorAll('#erf-maps img')[1].src !== src", arg=before
    )
    assert "compare forms, not strengths" in measured.inner_text("#erf-maps")
    assert measured.inner_text("#erf-status") == status


def test_downloads_hold_what_is_shown(measured):
    with measured.expect_download() as archive:
        measured.get_by_role("button", name="ZIP: NPZ").click()
    with ZipFile(archive.value.path()) as opened:
        told = json.loads(opened.read("erf.json"))
        assert {"erf.csv", "report.html", f"{NET}_random_224.png"} <= set(opened.namelist())
        with opened.open(f"{NET}_trained_224.npz") as file:
            assert np.load(file)["contribution"].shape == (224, 224)
    assert told["title"] in measured.inner_text("#erf-head")
    with measured.expect_download() as report:
        measured.locator("#erf-downloads").get_by_role("button", name="report").last.click()
    text = report.value.path().read_text(encoding="utf-8")
    assert told["title"] in text


def test_photos_of_a_data_set_and_of_ones_own_are_taken(tab, tmp_path):
    tab.locator("#erf-source input").click()
    tab.get_by_role("option", name="crops/test").click()
    tab.locator("#erf-size input").fill("64")
    measure(tab)
    wait_for_status(tab, "2 fields of 3 photos")
    tab.locator("#erf-source input").click()
    tab.get_by_role("option", name="photos of your own").click()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    tab.locator("#erf-photos input[type=file]").set_input_files(
        [str(broken), str(EXAMPLES / "coffee.png")]
    )
    tab.wait_for_function("document.querySelector('#erf-photos').innerText.includes('coffee')")
    tab.locator("#erf-go").click()
    tab.wait_for_function(
        "document.querySelector('#erf-head').innerText.includes('Skipped broken.png')"
    )
    assert "64×64, 1 photo (1 skipped)" in tab.inner_text("#erf-head")
    wait_for_status(tab, "2 fields of 1 photo (1 skipped) in")
    assert (
        tab.locator("#erf-numbers tbody td:nth-child(2)").all_inner_texts() == ["1 + 1 skipped"] * 2
    )


def test_bad_input_is_said_and_what_was_shown_stays(measured):
    measured.locator("#erf-size input").fill("5")
    measured.locator("#erf-go").click()
    wait_for_status(measured, "5 is not a whole number of pixels from 32 to 1024")
    assert titles(measured)[0].startswith("224×224")


def test_a_long_measurement_can_be_stopped(tab):
    tab.locator("#erf-size input").fill("1024")
    tab.locator("#erf-seed input").fill("7")
    tab.locator("#erf-go").click()
    tab.wait_for_function("document.querySelector('#erf-status').innerText.includes('photo')")
    tab.locator("#erf-stop").click()
    wait_for_status(tab, "Stopped. What was measured is kept")
    assert jobs._running == {}


@pytest.mark.parametrize("width", [390, 768, 1600])
def test_no_width_makes_the_page_scroll_sideways(measured, width):
    measured.set_viewport_size({"width": width, "height": 900})
    measured.wait_for_timeout(300)
    assert measured.evaluate("document.documentElement.scrollWidth") <= width


def test_fields_are_set_against_localization_that_is_measured_on_the_spot(measured):
    measured.locator("#erf-localization button.label-wrap").click()
    measured.wait_for_function("document.querySelector('#erf-data input')?.value === 'crops/test'")
    measured.locator("#erf-evaluate").click()
    measured.wait_for_function(
        "text => document.querySelector('#erf-evaluate-status').innerText.includes(text)",
        arg=f"{NET} measured on crops/test",
    )
    button, status = (
        measured.locator(name).bounding_box() for name in ("#erf-evaluate", "#erf-evaluate-status")
    )
    assert 0 <= status["y"] - (button["y"] + button["height"]) < 50, "below its button"
    measured.wait_for_selector("#erf-scatter .scatterlayer .point")
    assert "no correlation is given for 1 backbone; it takes 3" in measured.inner_text(
        "#erf-correlation"
    )
    assert "224×224" in measured.locator("#erf-scatter .gtitle").text_content()
    assert "50%" in measured.locator("#erf-scatter .xtitle").text_content()
    measured.locator("#erf-threshold label").nth(1).click()
    measured.wait_for_function(
        "document.querySelector('#erf-scatter .xtitle').textContent.includes('30%')"
    )
