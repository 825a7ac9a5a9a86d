"""Heat maps on one scale, and curves that show the numbers of the table."""

import numpy as np
import pytest

import wsolviz
from tests.fields.conftest import bell, row_of
from wsolviz.fields.figures import MapLook, heat_maps, radial_figure, share_figure
from wsolviz.render import colormap_table

STRONG, WEAK = row_of(bell(height=99)), row_of(bell(height=9, width=12), "weak", "random")


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_one_value_has_one_colour_in_all_maps(scale):
    maps = heat_maps([STRONG, WEAK], MapLook(scale))
    assert len({drawn.top for drawn in maps}) == 1
    colours: dict[float, tuple[int, ...]] = {}
    values = {"log": lambda c: np.log10(c + 1), "linear": lambda c: c}[scale]
    for drawn in maps:
        expected = values(drawn.row.erf.contribution) / values(99)
        np.testing.assert_allclose(drawn.values, expected, atol=1e-12)
        for level, pixel in zip(
            (255 * expected).round().ravel(), drawn.pixels().reshape(-1, 3), strict=True
        ):
            assert colours.setdefault(level, tuple(pixel)) == tuple(pixel)
    assert len(colours) > 80


def test_at_its_own_maximum_a_weak_map_is_as_bright():
    maps = heat_maps([STRONG, WEAK], MapLook(own_maximum=True))
    assert [drawn.top for drawn in maps] == pytest.approx([2, 1])
    for drawn in maps:
        expected = wsolviz.analysis.erf.log_scaled(drawn.row.erf.contribution)
        np.testing.assert_allclose(drawn.values, expected, atol=1e-12)


def test_a_field_of_zeros_can_be_drawn():
    (drawn,) = heat_maps([row_of(np.zeros((8, 8)))], MapLook())
    assert (drawn.pixels() == colormap_table("turbo")[0]).all()


@pytest.mark.parametrize("own_maximum", [False, True])
def test_no_rows_are_no_maps(own_maximum):
    assert heat_maps([], MapLook(own_maximum=own_maximum)) == []


def test_a_picture_shows_every_pixel_and_tells_the_size():
    (drawn,) = heat_maps([STRONG], MapLook())
    assert drawn.title == "64×64: net, trained"
    picture = np.asarray(drawn.image())
    enlarged = drawn.pixels().repeat(6, axis=0).repeat(6, axis=1)
    top, left = 32, 12
    assert np.array_equal(picture[top : top + 384, left : left + 384], enlarged)
    assert (picture[:top] < 128).any()  # the title's ink


def test_shares_rise_to_all_and_pass_through_the_areas():
    figure = share_figure([STRONG, WEAK])
    assert "64×64" in figure.layout.title.text
    for row, curve, dots in zip([STRONG, WEAK], figure.data[::2], figure.data[1::2], strict=True):
        assert row.label in curve.name
        assert curve.y[-1] == pytest.approx(100)
        at = dict(zip(curve.x, curve.y, strict=True))
        for t, side, share, text in zip((20, 30, 50, 99), dots.x, dots.y, dots.text, strict=True):
            assert share == at[side], "a dot lies on its curve"
            assert share > t >= at.get(side - 2, 0)
            assert text.endswith(f"above {t}%")
    _, dead = share_figure([row_of(np.zeros((8, 8)))]).data
    assert np.isnan(dead.y).all()


def test_the_radial_profile_of_a_bell_is_a_bell():
    figure = radial_figure([STRONG])
    (curve,) = figure.data
    near = curve.x <= 20
    expected = np.exp(-np.square(curve.x) / (2 * 6.0**2))
    np.testing.assert_allclose(curve.y[near], expected[near], rtol=0.25)
    assert figure.layout.yaxis.type == "log"
    assert "64×64" in figure.layout.title.text
    (dead,) = radial_figure([row_of(np.zeros((8, 8)))]).data
    assert np.isnan(dead.y).all()
