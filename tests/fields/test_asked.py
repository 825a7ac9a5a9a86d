"""The field of one place of one photo."""

from dataclasses import replace

import numpy as np
import pytest

import wsolviz
from tests.fields.conftest import BACKBONE
from wsolviz.analysis.erf import erf_area
from wsolviz.explain import inspect_photo
from wsolviz.fields import asked
from wsolviz.fields.asked import cell_at, field_at
from wsolviz.fields.photos import EXAMPLES
from wsolviz.photo import read_photo
from wsolviz.receptive_field import measure_erf
from wsolviz.views import ViewOptions

PHOTO = EXAMPLES / "chelsea.png"  # 451×300


@pytest.fixture
def inspected():
    def inspect(*sizes, flip=False):
        options = ViewOptions(scales=sizes, flip=flip)
        return inspect_photo(PHOTO, wsolviz.load_backbone(BACKBONE), options=options)

    return inspect


@pytest.mark.parametrize(
    ("point", "cell"),
    [((0, 0), (0, 0)), ((450, 299), (6, 6)), ((64, 43), (1, 1)), ((63, 42), (0, 0))],
)
def test_a_pixel_lies_under_the_cell_that_covers_its_middle(point, cell):
    (x, y), (row, column) = point, cell
    assert cell_at(point, (451, 300), (7, 7)) == (row, column)
    assert column * 451 / 7 <= x + 0.5 < (column + 1) * 451 / 7
    assert row * 300 / 7 <= y + 0.5 < (row + 1) * 300 / 7


@pytest.mark.parametrize("point", [(-1, 0), (451, 0), (0, 300)])
def test_a_point_outside_is_refused(inspected, point):
    with pytest.raises(ValueError, match="outside of the photo's 451×300"):
        field_at(inspected(64), point)


@pytest.mark.parametrize("class_index", [None, 285])
def test_it_is_the_field_that_measure_erf_gives(inspected, class_index):
    inspection = inspected(96)
    found = field_at(inspection, (400, 10), class_index)
    expected = measure_erf(inspection.backbone, [PHOTO], 96, (0, 2), class_index)
    assert found.erf.position == (0, 2)
    np.testing.assert_allclose(found.erf.contribution, expected.contribution, rtol=1e-6)
    shares = erf_area(expected.contribution, centre=expected.centre)[:, 1]
    np.testing.assert_allclose([area.share for area in found.areas], shares)
    assert found.milliseconds > 0


def test_of_several_views_it_is_the_first(inspected):
    assert field_at(inspected(64, 96, flip=True), (0, 0)).erf.contribution.shape == (64, 64)


def test_it_is_measured_once_and_anew_where_anything_differs(inspected, monkeypatch):
    calls = []

    def measure(*arguments, **options):
        calls.append(options)
        return measure_erf(*arguments, **options)

    monkeypatch.setattr(asked, "measure_erf", measure)
    inspection = inspected(80)
    first = field_at(inspection, (100, 100))
    assert field_at(inspection, (101, 101)) is first, "the same cell"
    field_at(inspection, (100, 100), 3)
    field_at(inspected(112), (100, 100))
    flipped = read_photo(PHOTO).image.rotate(180)
    field_at(replace(inspection, photo=read_photo(flipped)), (100, 100))
    assert len(calls) == 4
