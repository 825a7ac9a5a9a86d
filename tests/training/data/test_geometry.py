"""Parts of photos: drawn as the configuration says, and the same part of a photo and of its map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import AugmentationConfig
from training.data.geometry import WHOLE, Geometry, draw_geometry
from training.data.randomness import Purpose, seed_of, seeded

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
DRAWS = 3000


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, *channels), np.uint8)


def draws(number: int = DRAWS, photo=(90, 60), side: int = 32, **config) -> list[Geometry]:
    with seeded(Purpose.PHOTO, 7):
        options = AugmentationConfig(**config)
        return [draw_geometry(options, photo, (side, side)) for _ in range(number)]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_random_crop_is_a_slice_of_the_warped_photo(flip):
    pixels = noise(50, 50, 3)
    for geometry in draws(50, (50, 50), resize=50, crop="random", flip=flip):
        left, top, right, bottom = (round(50 * share) for share in geometry.box)
        assert (right - left, bottom - top) == (32, 32)
        expected = pixels[top:bottom, left:right]
        expected = expected[:, ::-1] if flip else expected
        found = geometry.picture(Image.fromarray(pixels), (32, 32), BICUBIC)
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_without_a_warp_it_is_a_slice_of_the_photo_itself():
    pixels = noise(60, 90, 3)
    for geometry in draws(50, (90, 60), resize=None, crop="random"):
        left, right = (round(90 * share) for share in (geometry.box[0], geometry.box[2]))
        top, bottom = (round(60 * share) for share in (geometry.box[1], geometry.box[3]))
        expected = pixels[top:bottom, left:right]
        expected = expected[:, ::-1] if geometry.flipped else expected
        found = geometry.picture(Image.fromarray(pixels), (32, 32), BICUBIC)
        np.testing.assert_allclose(np.asarray(found).astype(int), expected, atol=1)


def test_one_resize_is_close_to_warping_first_and_cutting_then():
    photo = Image.fromarray(noise(5, 7, 3)).resize((150, 100), BICUBIC)
    warped = photo.resize((48, 48), BICUBIC)
    for geometry in draws(20, photo.size, resize=48, crop="random", flip=0.0):
        box = tuple(round(48 * share) for share in geometry.box)
        expected = np.asarray(warped.crop(box)).astype(int)
        found = np.asarray(geometry.picture(photo, (32, 32), BICUBIC)).astype(int)
        assert np.abs(found - expected)[2:-2, 2:-2].max() <= 2  # at its edge a part has no outside


def test_a_photo_smaller_than_the_crop_is_taken_whole():
    (geometry,) = draws(1, (20, 10), resize=None, crop="random")
    assert geometry.box == WHOLE


def test_random_crops_reach_every_place_equally_often():
    boxes = np.array([geometry.box for geometry in draws(resize=40, crop="random")]) * 40
    for axis in (0, 1):
        starts, counts = np.unique(boxes[:, axis].round().astype(int), return_counts=True)
        assert starts.tolist() == list(range(9))
        expected = DRAWS / 9
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 5 / np.sqrt(DRAWS)


@pytest.mark.parametrize(("resize", "frame"), [(None, (900, 600)), (600, (600, 600))])
def test_random_resized_crops_have_the_areas_and_sides_that_are_asked_for(resize, frame):
    area_range, ratio_range = (0.2, 0.4), (0.5, 1.5)  # all of which fit, so that none is refused
    found = draws(
        photo=(900, 600), resize=resize, crop="random_resized", crop_area=area_range,
        crop_ratio=ratio_range,
    )  # fmt: skip
    left, top, right, bottom = np.array([geometry.box for geometry in found]).T
    width, height = (right - left) * frame[0], (bottom - top) * frame[1]
    area, ratio = width * height / (frame[0] * frame[1]), np.log(width / height)
    for values, (low, high) in ((area, area_range), (ratio, np.log(ratio_range))):
        assert low - 0.01 < values.min()
        assert values.max() < high + 0.01
        spread = (high - low) / np.sqrt(12)  # of a uniform distribution
        assert abs(values.mean() - (low + high) / 2) < 5 * spread / np.sqrt(DRAWS)
        assert values.std() == pytest.approx(spread, rel=0.05)
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 1


@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_as_many_are_mirrored_as_asked_for(flip):
    share = np.mean([geometry.flipped for geometry in draws(flip=flip, crop="none")])
    assert abs(share - flip) <= 5 * np.sqrt(flip * (1 - flip) / DRAWS)


def test_the_whole_photo_is_taken_without_a_crop():
    assert {geometry.box for geometry in draws(100, crop="none")} == {WHOLE}


@pytest.mark.parametrize("crop", ["random", "random_resized", "none"])
def test_a_map_is_cut_and_mirrored_like_the_same_map_as_a_picture(crop):
    values = noise(37, 53)
    for geometry in draws(30, (530, 370), side=24, resize=40, crop=crop):
        on_map = geometry.target_map(values.astype(np.float32), 24)
        assert on_map.dtype == torch.float32
        as_picture = geometry.picture(Image.fromarray(values), (24, 24), BILINEAR)
        # A picture is rounded after its columns, and again after its rows.
        assert np.abs(on_map.numpy() - np.asarray(as_picture)).max() <= 1.01


def test_a_map_of_another_size_stays_in_register_with_its_photo():
    ramp = np.add.outer(np.linspace(0, 120, 80), np.linspace(0, 100, 120)).astype(np.float32)
    small = np.asarray(Image.fromarray(ramp).resize((30, 20), BILINEAR))
    photo = Image.fromarray(ramp.round().astype(np.uint8))
    for geometry in draws(30, (120, 80), side=16, crop="random_resized", crop_area=(0.3, 1.0)):
        shown = np.asarray(geometry.picture(photo, (16, 16), BILINEAR))
        on_map = geometry.target_map(small, 16).numpy()
        assert np.abs(on_map - shown)[1:-1, 1:-1].max() < 3  # of 220; a cell of the map is 9 high


def test_maps_keep_their_range():
    values = np.zeros((20, 20), np.float32)
    values[5:15, 5:15] = 1
    for geometry in draws(30, (200, 200), side=28, crop="random_resized"):
        on_map = geometry.target_map(values, 28)
        assert on_map.min() >= 0
        assert on_map.max() <= 1


def test_a_read_only_map_may_be_given():
    values = np.ones((4, 4), np.float32)
    values.setflags(write=False)
    on_map = Geometry().target_map(values, 2)
    on_map += 1
    assert values.max() == 1


def test_seeds_differ_with_every_number_and_purpose():
    given = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
    seeds = {seed_of(purpose, *numbers) for purpose in Purpose for numbers in given}
    assert len(seeds) == len(Purpose) * len(given)


def test_drawing_leaves_torch_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with seeded(Purpose.PHOTO, 1, 2):
        inside = torch.rand(3)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    with seeded(Purpose.PHOTO, 1, 2):
        assert torch.equal(torch.rand(3), inside)
