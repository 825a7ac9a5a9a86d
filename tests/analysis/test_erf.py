"""Areas, profiles and widths of receptive fields, found again pixel by pixel."""

import math

import numpy as np
import pytest

from wsolviz.analysis.erf import (
    erf_area,
    fit_gaussian,
    log_scaled,
    radial_profile,
    square_shares,
    top_energy_pixels,
)

SHAPES = [(9, 9), (8, 8), (7, 12), (1, 1)]


def some_contribution(shape, seed=0):
    return np.random.default_rng(seed).gamma(0.3, 50.0, shape)


def squares(values, centre):
    """Sums of the squares about a centre, cut off at the border, one after the other."""
    y, x = centre
    for half in range(max(values.shape) + 1):
        square = values[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        yield 2 * half + 1, square.sum(), square.size / values.size


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("centre", [None, (0, 0)])
def test_the_area_is_the_first_square_that_holds_more_than_the_share(shape, centre):
    contribution = some_contribution(shape)
    scaled = np.log10(contribution + 1) / np.log10(contribution + 1).max()
    at = centre or (shape[0] // 2, shape[1] // 2)
    for threshold, (side, share) in zip(
        (0.2, 0.5, 0.99), erf_area(contribution, (0.2, 0.5, 0.99), centre), strict=True
    ):
        found = next(s for s in squares(scaled, at) if s[1] > threshold * scaled.sum())
        assert (side, share) == (found[0], pytest.approx(found[2]))


def test_a_single_bright_pixel_has_the_smallest_area():
    contribution = np.zeros((5, 5))
    contribution[2, 2] = 7
    assert erf_area(contribution, [0.99]).tolist() == [[1, 1 / 25]]
    assert top_energy_pixels(contribution) == 1


def test_an_even_field_needs_the_whole_image():
    assert erf_area(np.ones((5, 5)), [0.99]).tolist() == [[5, 1]]
    assert erf_area(np.ones((4, 4)), [0.99]).tolist() == [[5, 1]]  # the fifth row lies outside


def test_nothing_has_no_area():
    assert np.isnan(erf_area(np.zeros((4, 4)), [0.5])).all()
    assert top_energy_pixels(np.zeros((4, 4))) == 0
    assert fit_gaussian(np.zeros((4, 4))) is None
    assert log_scaled(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("contribution", "thresholds", "centre", "said"),
    [
        (np.ones((3, 3)), [0.5, 1.0], None, "threshold 1.0"),
        (np.ones((3, 3)), [0.5], (3, 0), "lies outside"),
        (np.ones(3), [0.5], None, r"\(H,W\)"),
        (-np.ones((3, 3)), [0.5], None, "not negative"),
        (np.full((3, 3), np.nan), [0.5], None, "finite"),
    ],
)
def test_what_has_no_area_is_refused(contribution, thresholds, centre, said):
    with pytest.raises(ValueError, match=said):
        erf_area(contribution, thresholds, centre)


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_the_strongest_pixels_are_counted_one_by_one(share):
    contribution = some_contribution((6, 7))
    wanted, held = share * np.square(contribution).sum(), 0.0
    strongest = sorted(contribution.ravel(), reverse=True)
    taken = 0
    while held < wanted * (1 - 1e-12):
        held += strongest[taken] ** 2
        taken += 1
    assert top_energy_pixels(contribution, share) == taken


def test_a_share_of_energy_is_a_share():
    with pytest.raises(ValueError, match=r"share 1\.5"):
        top_energy_pixels(np.ones((2, 2)), 1.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_profile_is_the_mean_at_each_distance(shape):
    contribution = some_contribution(shape)
    rings: dict[int, list[float]] = {}
    for y in range(shape[0]):
        for x in range(shape[1]):
            distance = round(math.hypot(y - shape[0] // 2, x - shape[1] // 2))
            rings.setdefault(distance, []).append(contribution[y, x])
    profile = radial_profile(contribution)
    assert len(profile) == max(rings) + 1
    for distance, values in rings.items():
        assert profile[distance] == pytest.approx(np.mean(values))


@pytest.mark.parametrize("shape", SHAPES)
def test_shares_of_squares_grow_to_the_whole(shape):
    contribution = some_contribution(shape)
    scaled = log_scaled(contribution)
    found = {side: total for side, total, _ in squares(scaled, (shape[0] // 2, shape[1] // 2))}
    for side, share in square_shares(contribution):
        assert share == pytest.approx(found[side] / scaled.sum())
    assert share == pytest.approx(1)


@pytest.mark.parametrize("shape", [(60, 80), (300, 280)])
def test_a_gaussian_is_found_again(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centre, widths = (shape[0] * 0.45, shape[1] * 0.6), (shape[0] * 0.08, shape[1] * 0.15)
    contribution = 3e6 * np.exp(
        -((rows - centre[0]) ** 2) / (2 * widths[0] ** 2)
        - (columns - centre[1]) ** 2 / (2 * widths[1] ** 2)
    )
    fitted = fit_gaussian(contribution)
    assert fitted.centre == pytest.approx(centre, abs=0.1)
    assert fitted.widths == pytest.approx(widths, rel=0.01)
    assert fitted.amplitude == pytest.approx(3e6, rel=0.01)
    assert fitted.explained > 0.999
