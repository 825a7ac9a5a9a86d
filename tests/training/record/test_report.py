"""The report holds what was recorded; in a real browser one slider scrubs through the epochs."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.training.record.conftest import make_network
from training.record.epoch import EpochRecord
from training.record.files import CONFIG, GALLERY, JOURNAL, epoch_folder
from training.record.gallery import PANELS, GalleryPhoto, draw_gallery
from training.record.journal import Journal
from training.record.plots import figures_of
from training.record.report import report_html, summary, table, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

DRAWN = (0, 1, 3, 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, photos: list[GalleryPhoto]) -> Path:
    """A folder of a run; the second epoch was not measured and not drawn."""
    from tests.training.record.conftest import record_of

    folder = tmp_path_factory.mktemp("out") / "aligned"
    network, journal = make_network(), Journal(folder / JOURNAL)
    for epoch, v2 in enumerate((60.25, 61.5, None, 66.75, 64.0)):
        record = record_of(epoch, v2)
        if epoch in DRAWN:
            draw_gallery(folder / GALLERY, epoch, network, photos, record.validation)
        journal.append(record)
        for parameter in network.module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    (folder / CONFIG).write_text("name: aligned\nnote: </pre><script>\n")
    write_report(folder)
    return folder


def test_the_curves_are_the_records(records: list[EpochRecord]) -> None:
    curves = {
        curve.name: list(zip(curve.x, curve.y, strict=True))
        for figure in figures_of(records)
        for curve in figure.data
    }
    assert curves["cam"] == [(0, 60.25), (1, 61.5), (3, 66.75), (4, 64.0)]
    assert curves["IoU 70"] == [(0, 39.25), (1, 40.5), (3, 45.75), (4, 43.0)]
    assert curves["best epoch"] == [(3, 66.75)]
    assert curves["sim (counts × 0.5)"] == [(1, -0.25), (2, -0.5), (3, -0.75), (4, -1.0)]
    assert curves["total"] == [(1, 2.875), (2, 1.25), (3, 0.625), (4, 0.25)]
    assert curves["lr"][3] == (4, 0.0025)
    assert curves["top-1, training batches"] == [(1, 51), (2, 52), (3, 53), (4, 54)]
    assert curves["top-1, validation"] == [(0, 80.5), (1, 80.5), (3, 80.5), (4, 80.5)]
    assert curves["waiting for data"] == [(epoch, 12.5 / 8) for epoch in (1, 2, 3, 4)]
    assert curves["computing"] == [(epoch, 12.5 * 7 / 8) for epoch in (1, 2, 3, 4)]


def test_the_table_and_the_summary_tell_the_numbers(records: list[EpochRecord]) -> None:
    columns, rows = table(records)
    best = dict(zip(columns, rows[3], strict=True))
    assert best == {
        "epoch": "3 best",
        "loss": "0.6250",
        "lr": "0.00333",
        "top-1 training": "53.0",
        "top-1": "80.5 [78.5, 83.5]",
        "MaxBoxAccV2": "66.8 [64.8, 69.8]",
        "seconds": "12.5",
        "images/s": "20.2",
        "waiting": "12%",
    }
    told = summary(records)
    assert "Best after epoch 3: cam MaxBoxAccV2 66.8 [64.8, 69.8] on shots/val." in told
    assert "Before any training: 60.2 [58.2, 63.2]." in told
    assert "1 broken images" in told


def test_a_run_that_has_just_begun_has_a_report(tmp_path: Path) -> None:
    assert "Nothing was recorded yet" in report_html(tmp_path)


def test_the_page_fetches_nothing_and_keeps_foreign_text_apart(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)=['\"]?http", outside)
    assert "note: &lt;/pre&gt;&lt;script&gt;" in text
    assert text.count("plotly.js v") == 1
    assert not list(run.glob(".*")), "nothing unfinished is left"


def picture(run: Path, epoch: int, photo: int, panel: str) -> str:
    """The address that the page should show."""
    content = (epoch_folder(run / GALLERY, epoch) / f"{photo:02d}-{panel}.webp").read_bytes()
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def shown(page: Page) -> dict[tuple[int, str], str]:
    found = page.eval_on_selector_all(
        "figure[data-panel]",
        "places => places.map("
        "p => [+p.dataset.photo, p.dataset.panel, p.querySelector('img').src])",
    )
    return {(photo, panel): source for photo, panel, source in found}


def expected(run: Path, epoch: int) -> dict[tuple[int, str], str]:
    return {(i, panel): picture(run, epoch, i, panel) for i in (0, 1) for panel in PANELS}


@pytest.mark.browser
def test_the_slider_scrubs_through_the_epochs_by_keyboard(run: Path, page: Page) -> None:
    page.goto((run / "report.html").as_uri())
    assert shown(page) == expected(run, 4)
    assert "after epoch 4" in page.locator("#shown").inner_text()
    assert "probability" in page.locator("h3 span").first.inner_text()
    slider = page.get_by_label("epoch", exact=True)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert shown(page) == expected(run, 3)
    told = "after epoch 3 · MaxBoxAccV2 66.8 [64.8, 69.8] · best"
    assert page.locator("#shown").inner_text() == told
    assert slider.get_attribute("aria-valuetext") == told
    page.keyboard.press("Home")
    assert shown(page) == expected(run, 0)
    assert "before any training" in page.locator("#shown").inner_text()
    assert "τ 0.250, IoU" in page.locator("figcaption").first.inner_text()
    decoded = page.eval_on_selector_all(
        "figure img",
        "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))",
    )
    assert decoded == [384] * 6


@pytest.mark.browser
def test_the_curves_are_drawn(run: Path, page: Page) -> None:
    page.goto((run / "report.html").as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
    titles = page.locator(".js-plotly-plot .gtitle").all_text_contents()
    assert any("MaxBoxAccV2 on shots/val" in title for title in titles)
    assert len(titles) == 6
    boxes = [plot.bounding_box() for plot in page.locator(".js-plotly-plot .main-svg").all()]
    spots = {(box["x"], box["y"], box["width"]) for box in boxes if box}
    assert len(spots) == 6, "two columns of three"
    assert {x for x, _, _ in spots} == {min(x for x, _, _ in spots), max(x for x, _, _ in spots)}
    assert all(x + width <= 1280 for x, _, width in spots)
    assert max(width for _, _, width in spots) <= max(x for x, _, _ in spots)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(run: Path, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto((run / "report.html").as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    widths = page.eval_on_selector_all("figure img", "images => images.map(i => i.clientWidth)")
    assert min(widths) >= 100
    page.locator("figure").last.scroll_into_view_if_needed()
    assert page.locator("#epoch").is_visible()
    bar = page.locator(".scrub").bounding_box()
    assert bar is not None
    assert bar["y"] >= 0, "the slider stays in view while the pictures scroll"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(14, 19, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
