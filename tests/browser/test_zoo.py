"""Absent backbones, the Model zoo and sent checkpoints in a real browser."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qs, quote, urlparse
from zipfile import ZipFile

import pytest

from tests.browser.harness import SETTLED
from tests.browser.test_app import TIMEOUT, app, row_titles, viewer_state, wait_for_status
from tests.browser.test_choices import CONTRAST
from tests.browser.test_viewer import luminance
from wsolviz.backends import uploads
from wsolviz.backends.uploads import take_upload
from wsolviz.backends.zoo import FOLDER_VARIABLE, ZOO
from wsolviz.defaults import DEFAULTS
from wsolviz.ui.backbones import absent_backbones

__all__ = ["app"]  # the fixture

pytestmark = pytest.mark.browser

ENTRY = ZOO["replknet_31b.cub"]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where the served app looks for checkpoints."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def send(page, path):
    """Send a weights file."""
    page.locator("#weights > button").click()
    page.wait_for_timeout(SETTLED)  # Gradio makes the fields when they are first unfolded
    page.locator("#weights-file input[type=file]").set_input_files(path)


def wait_for_word(page, text):
    page.wait_for_function(
        "text => document.querySelector('#weights-told').innerText.includes(text)", arg=text
    )


def wait_for_rows(page, *titles):
    page.wait_for_function(
        "titles => [...document.querySelectorAll('#viewer .wv-row-title')]"
        ".map((title) => title.innerText).join() === titles.join()",
        arg=titles,
    )


def test_absent_backbones_are_under_a_fold_and_reached_by_the_keyboard(folder, app):
    boxes = app.get_by_role("checkbox", name=ENTRY.name, disabled=True)
    assert boxes.count() == 0, "folded"
    app.locator("#absent summary").focus()
    app.keyboard.press("Enter")
    assert boxes.count() == 1
    assert app.locator("#absent li").count() == len(absent_backbones())
    assert app.get_by_text(ENTRY.file).first.is_visible()
    app.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('role')"
    assert app.evaluate(focused) == "checkbox"
    app.keyboard.press("Space")
    boxes.click(force=True)
    assert row_titles(app) == list(DEFAULTS.backbones)


def test_the_menu_offers_what_is_here(folder, app):
    app.locator("#backbones input").click()
    offered = app.locator("#backbones [role=option]").all_inner_texts()
    assert not any(ENTRY.name in text for text in offered)
    assert any("efficientnet_lite1" in text for text in offered)


def test_a_checkpoint_that_came_since_is_offered_and_compared(folder, page, address):
    (folder / ENTRY.file).write_bytes(b"nonsense")
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.wait_for_selector("#viewer canvas")
    wait_for_status(page, "chelsea.png")
    page.wait_for_timeout(SETTLED)
    page.get_by_role("tab", name="Model zoo").click()
    assert page.locator("#zoo tbody tr").count() == len(ZOO)
    assert page.locator("#zoo tbody tr").first.inner_text().startswith(ENTRY.name)
    page.get_by_role("button", name=f"Compare with {ENTRY.name}").focus()
    page.keyboard.press("Enter")
    wait_for_rows(page, *DEFAULTS.backbones, ENTRY.name)
    assert page.locator("#viewer").is_visible(), "Compare is open"
    wait_for_status(page, f"{ENTRY.file} cannot be read safely")
    assert str(folder) not in page.content()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1600])
def test_the_zoo_fits_every_width_and_can_be_read(folder, page, address, width, theme):
    page.set_default_timeout(TIMEOUT)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}?__theme={theme}")
    page.wait_for_selector("#viewer canvas")
    page.get_by_role("tab", name="Model zoo").click()
    assert page.locator("#zoo button").first.is_visible(), "what is here is seen at once"
    row = page.get_by_role("row", name=ENTRY.name)
    assert row.count() == 0, "folded"
    for summary in page.locator("#zoo summary").all():
        summary.focus()
        page.keyboard.press("Enter")
    row.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = "[...document.querySelectorAll('#zoo td > div')].every((cell) => {"
    inside += " const { left, right } = cell.getBoundingClientRect();"
    assert page.evaluate(inside + " return left >= 0 && right <= innerWidth; })")
    for selector in ("#zoo td small", "#zoo td a", "#zoo td:nth-child(2)", "#zoo summary small"):
        colours = page.evaluate(CONTRAST, selector)
        bright, dim = sorted((luminance(colour[:3]) for colour in colours), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, selector


def test_a_sent_checkpoint_is_one_more_row_under_its_own_name(app, checkpoint):
    send(app, checkpoint)
    wait_for_word(app, "mine.safetensors: timm/mobilenetv3_small_050, 7 classes")
    wait_for_rows(app, *DEFAULTS.backbones, "mine.safetensors")
    assert "mine.safetensors" in app.locator("#backbones").inner_text()
    app.locator("#viewer .wv-own-button").last.click()
    app.wait_for_timeout(SETTLED)
    assert list(viewer_state(app)["overrides"]) == ["mine.safetensors/cosine"]
    assert urlparse(app.url).query == "", "an address is passed on, the file is not"
    with app.expect_download() as archive:
        app.get_by_role("button", name="ZIP: PNG, NPZ, manifest").click()
    with ZipFile(archive.value.path()) as opened:
        manifest = json.loads(opened.read("manifest.json"))
    assert manifest["rows"][-1]["backbone"] == "mine.safetensors"
    assert (
        manifest["rows"][-1]["cells"][3]["cam_threshold"]
        == viewer_state(app)["overrides"]["mine.safetensors/cosine"]
    )
    # Another choice goes on with it, and it can be taken away and chosen again.
    app.locator("#methods label", has_text="Eigen").click()
    app.wait_for_function("document.querySelector('#viewer').innerText.includes('Eigen')")
    assert row_titles(app) == [*DEFAULTS.backbones, "mine.safetensors"]
    assert parse_qs(urlparse(app.url).query).keys() == {"methods"}


def test_a_file_of_another_kind_is_told_and_the_next_one_works(app, tmp_path, checkpoint):
    wrong = tmp_path / "mine.pth"
    wrong.write_bytes(b"anything")
    send(app, wrong)
    wait_for_word(app, "python -m wsolviz zoo convert")
    assert row_titles(app) == list(DEFAULTS.backbones)
    app.locator("#weights-file").get_by_label("Clear").or_(
        app.locator("#weights-file").get_by_label("Remove this file")
    ).first.click()
    app.locator("#weights-file input[type=file]").set_input_files(checkpoint)
    wait_for_rows(app, *DEFAULTS.backbones, "mine.safetensors")


def test_of_several_networks_the_visitor_chooses(app, checkpoint, monkeypatch):
    (upload,) = take_upload(checkpoint)
    names = (upload.network, f"{upload.network}.lamb_in1k")
    found = replace(upload.found, backbones=names)
    monkeypatch.setattr(uploads, "identify", lambda _: found)  # as if both had its tensors
    send(app, checkpoint)
    wait_for_word(app, "fits several networks: choose one")
    assert row_titles(app) == list(DEFAULTS.backbones)
    titles = list(DEFAULTS.backbones)
    for name in names:
        app.locator("#weights-network").get_by_label(name, exact=True).click()
        titles.append(f"mine.safetensors as {name}")
        wait_for_rows(app, *titles)


def test_an_address_that_names_a_file_of_the_server_gets_a_notice(page, address, checkpoint):
    page.set_default_timeout(TIMEOUT)
    page.goto(f"{address}?backbones={quote(f'file/{checkpoint}')}")
    page.wait_for_selector("#viewer canvas")
    page.get_by_text("Files of this server cannot be named").wait_for()
    assert row_titles(page) == list(DEFAULTS.backbones)


@pytest.mark.parametrize("where", ["backbones", "timm-name"])
def test_a_typed_path_is_refused(app, checkpoint, where):
    field = app.locator(f"#{where} input, #{where} textarea").first
    field.fill(f"file/{checkpoint}")
    field.press("Enter")
    if where == "backbones":
        app.locator("#explain").click()
    app.get_by_text("Files of this server cannot be named").first.wait_for()
    assert row_titles(app) == list(DEFAULTS.backbones)
