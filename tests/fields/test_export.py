"""What a measurement leaves behind, read again."""

import base64
import csv
import io
import json
import re
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

import wsolviz
from tests.fields.conftest import bell, row_of
from wsolviz.fields.export import write_fields, write_zip
from wsolviz.fields.figures import MapLook, heat_maps
from wsolviz.fields.report import report_html
from wsolviz.fields.request import SIZE_WARNING, BrokenPhoto, Fields, MissingRow
from wsolviz.fields.table import COLUMNS, record, table

BROKEN = (BrokenPhoto("<b>.jpg", "<b>.jpg is broken"),)


@pytest.fixture
def fields(request_of):
    rows = (
        row_of(bell(64, 6), "timm/net", broken=BROKEN, seconds=1.25),
        row_of(np.zeros((64, 64)), "dead", "random"),
    )
    missing = (MissingRow("gone", "trained", "no <weights>", "not here"),)
    return Fields(request_of(), rows, missing)


def test_every_row_leaves_its_field_and_its_picture(fields, tmp_path):
    folder = write_fields(fields, MapLook(), tmp_path / "out")
    names = ["dead_random_64", "timm-net_trained_64"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "erf.csv",
            "erf.json",
            "report.html",
            *(f"{n}{s}" for n in names for s in (".npz", ".png")),
        ]
    )
    kept = np.load(folder / "timm-net_trained_64.npz")
    assert np.array_equal(kept["contribution"], fields.rows[0].erf.contribution)
    assert json.loads(str(kept["metadata"]))["sha256"] == "abc"
    drawn = heat_maps(fields.rows, MapLook())[0]
    with Image.open(folder / "timm-net_trained_64.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(drawn.image()))


def test_a_zip_holds_the_same_files(fields, tmp_path):
    folder = write_fields(fields, MapLook(), tmp_path / "out")
    with ZipFile(write_zip(fields, MapLook(), tmp_path / "all.zip")) as archive:
        assert sorted(archive.namelist()) == sorted(path.name for path in folder.iterdir())
        assert archive.read("erf.csv") == (folder / "erf.csv").read_bytes()


def test_the_numbers_are_those_of_the_field(fields):
    row = fields.rows[0]
    found = record(row)
    areas = wsolviz.erf_area(row.erf.contribution, [0.2, 0.3, 0.5, 0.99])
    for name, (side, share) in zip(("20", "30", "50", "99"), areas, strict=True):
        assert (found[f"side_{name}"], found[f"area_{name}"]) == (side, share)
    energy = np.sort(np.square(row.erf.contribution).ravel())[::-1]
    count = found["top_20_energy_pixels"]
    assert energy[:count].sum() >= 0.2 * energy.sum() > energy[: count - 1].sum()
    assert (found["sigma_y"], found["sigma_x"]) == pytest.approx((6, 6), rel=1e-3)
    assert found["r2"] == pytest.approx(1)
    assert (found["num_photos"], found["num_skipped"]) == (3, 2)
    assert (found["num_broken"], found["num_not_finite"]) == (1, 1)
    assert (found["input_height"], found["input_width"]) == (64, 64)


def test_tables_and_json_hold_the_same_numbers(fields, tmp_path):
    folder = write_fields(fields, MapLook(), tmp_path)
    told = json.loads((folder / "erf.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((folder / "erf.csv").open(encoding="utf-8")))
    for row, kept, line in zip(fields.rows, told["rows"], rows, strict=True):
        expected = record(row)
        broken = kept.pop("broken")
        assert [photo["name"] for photo in broken] == [photo.name for photo in row.broken]
        assert kept == expected
        assert line == {k: "" if v is None else str(v) for k, v in expected.items()}
    assert told["rows"][1]["side_20"] is None
    assert told["missing"][0]["failure"] == "no <weights>"
    assert told["warning"] == SIZE_WARNING
    assert len(told["request"]["photos"]) == 3


def test_a_table_has_a_text_for_every_column(fields):
    columns, rows = table(fields.rows, "full")
    assert columns == list(COLUMNS)
    share = 100 * fields.rows[0].areas[0].share
    first = dict(zip(columns, rows[0], strict=True))
    assert first["network"] == "timm/net, trained"
    assert first["photos"] == "3 + 2 skipped"
    assert first["area 20%"] == f"{fields.rows[0].areas[0].side:.0f} px, {share:.1f} %"
    assert first["σ y × x"] == "6.0 × 6.0 px"
    assert "none" in rows[1]
    brief, short = table(fields.rows, "brief")
    assert len(brief) == len(short[0]) == 6
    assert short[0][2] == f"{share:.1f} %"


@pytest.mark.parametrize(
    ("position", "pixel", "side", "told"),
    [
        ((2, 2), 0, 65, "64 px, 100.0 %"),  # the centre is pixel 32
        ((2, 2), 1, 63, "63 px, 96.9 %"),
        ((0, 0), 63, 111, "64 px, 100.0 %"),  # the centre is pixel 8
        ((0, 0), 40, 65, "65 px, 41.0 %"),
    ],
)
def test_a_square_that_holds_the_image_is_told_as_the_image(position, pixel, side, told):
    """One pixel holds everything, so that every square reaches from the centre to it."""
    field = np.zeros((64, 64))
    field[pixel, pixel] = 1
    row = row_of(field)
    row = replace(row, erf=replace(row.erf, position=position))
    columns, (texts,) = table([row], "full")
    assert texts[columns.index("area 99%")] == told
    assert record(row)["side_99"] == side


def noisy_bell(sigma_y, sigma_x, share=1.0):
    """(64,64): a bell about the middle, of which a share of the pixels is kept, and some noise."""
    y, x = np.mgrid[-32:32, -32:32]
    bell = 5 * np.exp(-((y / sigma_y) ** 2 + (x / sigma_x) ** 2) / 2)
    generator = np.random.default_rng(0)
    return bell * (generator.random((64, 64)) < share) + generator.uniform(0, 0.2, (64, 64))


@pytest.mark.parametrize(
    ("field", "has_widths", "r2"),
    [
        (noisy_bell(6, 9), True, (0.9, 1)),
        (noisy_bell(6, 1000), False, (0.9, 1)),  # flat from left to right: no width there
        (noisy_bell(1000, 6), False, (0.9, 1)),
        (noisy_bell(10, 10, share=0.05), False, (0, 0.1)),  # single pixels stand out
    ],
)
def test_widths_of_what_is_no_bell_are_in_the_files_and_not_in_the_table(field, has_widths, r2):
    row = row_of(field)
    numbers = record(row)
    assert r2[0] <= numbers["r2"] < r2[1]
    columns, (texts,) = table([row], "full")
    told = dict(zip(columns, texts, strict=True))
    raw = f"{numbers['sigma_y']:.1f} × {numbers['sigma_x']:.1f} px"
    assert told["σ y × x"] == (raw if has_widths else "–")
    assert told["R²"] == f"{numbers['r2']:.2f}"


def test_the_report_stands_alone_and_warns(fields):
    page = report_html(fields, MapLook())
    body = page[page.index("<body>") :]
    assert not re.search(r"(?:src|href)=['\"](?!data:)", page[: page.index("<script>")] + body)
    assert "Effective receptive fields at 64×64, 3 photos" in body
    assert SIZE_WARNING.split("'")[0] in body
    assert "no &lt;weights&gt;" in body
    assert "skipped &lt;b&gt;.jpg" in body
    assert "<b>.jpg" not in body.split("<details>")[0]
    sources = re.findall(r"src='data:image/png;base64,([^']+)'", body)
    for source, drawn in zip(sources, heat_maps(fields.rows, MapLook()), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(source))) as shown:
            assert np.array_equal(np.asarray(shown), drawn.pixels())
        assert f"<figcaption>{drawn.title}</figcaption>" in body


def test_what_could_not_be_measured_at_all_is_still_told(fields, tmp_path):
    nothing = replace(fields, rows=())
    folder = write_fields(nothing, MapLook(), tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {"erf.csv", "erf.json", "report.html"}
    told = json.loads((folder / "erf.json").read_text(encoding="utf-8"))
    assert (told["rows"], told["missing"][0]["failure"]) == ([], "no <weights>")
    assert list(csv.DictReader((folder / "erf.csv").open(encoding="utf-8"))) == []
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "gone, trained: no &lt;weights&gt;" in page
    assert "<img" not in page
    with ZipFile(write_zip(nothing, MapLook(), tmp_path / "all.zip")) as archive:
        assert sorted(archive.namelist()) == sorted(path.name for path in folder.iterdir())
