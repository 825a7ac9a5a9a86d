"""Drawing, against pixels computed one at a time, and against what the browser's formulas say."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import wsolviz
from wsolviz.analysis.boxes import quantize
from wsolviz.compare import CompareRequest, compare
from wsolviz.export import manifest
from wsolviz.grid import grid_image
from wsolviz.render import (
    OUTSIDE_DIM,
    OUTSIDE_HEAT,
    Look,
    cell_image,
    colormap_table,
    colour_indices,
    draw_mask,
    picture_pixels,
)
from wsolviz.ui.controls import EXAMPLES
from wsolviz.ui.viewer import viewer_payload


def test_mask_is_drawn_as_by_plain_loops():
    rng = np.random.default_rng(0)
    height, width, level, opacity = 9, 12, 100, 0.7
    levels = rng.integers(0, 256, (height, width)).astype(np.uint8)
    photo, colours = (rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(2))
    drawn = draw_mask(photo, colours, levels, level, opacity)
    for y in range(height):
        for x in range(width):
            near = [
                levels[v, u]
                for v, u in ((y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                if 0 <= v < height and 0 <= u < width
            ]
            if levels[y, x] > level >= min(near):
                expected = [255, 255, 255]
            else:
                inside = levels[y, x] > level
                heat = opacity * (1 if inside else OUTSIDE_HEAT)
                light = 1 if inside else 1 - OUTSIDE_DIM
                mixed = (1 - heat) * photo[y, x].astype(float) + heat * colours[y, x]
                expected = np.round(light * mixed)
            np.testing.assert_array_equal(drawn[y, x], expected)


@pytest.fixture(scope="module")
def explanations():
    backbone = wsolviz.load_backbone("efficientnet_lite0")
    return wsolviz.explain(EXAMPLES[0], backbone, ["cosine", "feature_norm"])


def test_signed_maps_have_zero_in_the_middle_of_their_colours(explanations):
    signed, unsigned = explanations
    np.testing.assert_array_equal(colour_indices(unsigned), np.arange(256))
    indices = colour_indices(signed).astype(int)
    resized = wsolviz.analysis.scoremap.resize_heatmap(signed.heatmap, signed.scoremap.shape)
    values = np.linspace(resized.min(), resized.max(), 256)
    nearest_zero = np.abs(values).argmin()
    assert indices[nearest_zero] == pytest.approx(
        127.5 + 127.5 * values[nearest_zero] / np.abs(values).max(), abs=0.51
    )
    assert {0, 255} & {indices[0], indices[-1]}, "the far end takes the table's end"
    assert (np.diff(indices) >= 0).all()


def test_a_cell_shows_photo_map_and_box(explanations):
    cam = explanations[1]
    photo = Image.open(EXAMPLES[0])
    drawn = cell_image(photo, cam, Look(cam_threshold=0.5, opacity=0.0))
    assert drawn.shape == (*cam.scoremap.shape, 3)
    x0, y0, x1, _ = cam.boxes["largest"][int(0.5 * 255)][0]
    assert (drawn[y0, (x0 + x1) // 2] == 255).all(), "the box's upper edge"
    small = np.asarray(photo.resize(cam.scoremap.shape[::-1], Image.Resampling.BICUBIC))
    inside = quantize(cam.scoremap) > int(0.5 * 255)
    untouched = inside & (drawn == small).all(axis=2)
    assert untouched.sum() > 0.8 * inside.sum(), "with no opacity the photo shows inside the mask"


def test_own_thresholds_go_before_the_common_one():
    look = Look(cam_threshold=0.3, overrides={("a", "cam"): 0.7})
    assert look.threshold_of("a", "cam") == 0.7
    assert look.threshold_of("a", "pc1") == 0.3
    with pytest.raises(ValueError, match="between 0 and 1"):
        Look(opacity=2)
    with pytest.raises(ValueError, match="turbo"):
        Look(colormap="jet")


def test_class_pictures_have_a_legend_that_matches_their_pixels():
    winners = torch.tensor([[3, 3, 3], [5, 3, 5], [8, 3, 1]])
    names = [f"name {i}" for i in range(9)]
    pixels, legend = picture_pixels(winners, names)
    assert [name for name, _ in legend] == ["name 3", "name 5", "name 1", "name 8"]
    colour_of = {name: tuple(bytes.fromhex(colour[1:])) for name, colour in legend}
    for y in range(3):
        for x in range(3):
            assert tuple(pixels[y, x]) == colour_of[f"name {winners[y, x]}"]


def test_classes_beyond_the_legend_share_a_grey():
    winners = torch.arange(20).reshape(4, 5)
    pixels, legend = picture_pixels(winners, ())
    assert legend[-1][0] == "other classes"
    assert len(legend) == 9
    grey = tuple(bytes.fromhex(legend[-1][1][1:]))
    assert sum(tuple(p) == grey for p in pixels.reshape(-1, 3)) == 12


def test_colour_tables_are_matplotlibs():
    import matplotlib

    for index in (0, 77, 255):
        expected = np.round(255 * np.array(matplotlib.colormaps["viridis"](index)[:3]))
        np.testing.assert_array_equal(colormap_table("viridis")[index], expected)


def test_the_grid_holds_every_cell_in_its_place():
    request = CompareRequest(methods=("cam", "pc_rgb"))
    comparison = compare(EXAMPLES[0], request)
    look = Look(cam_threshold=0.5)
    grid = np.asarray(grid_image(comparison, look))
    cell = cell_image(comparison.photo.image, comparison.rows[0].cells[0], look)
    found = np.argwhere((grid == cell[0, 0]).all(axis=2))
    assert any(
        (grid[y : y + cell.shape[0], x : x + cell.shape[1]] == cell).all()
        for y, x in found
        if y + cell.shape[0] <= grid.shape[0] and x + cell.shape[1] <= grid.shape[1]
    )


def test_what_fails_is_drawn_in_its_place():
    request = CompareRequest(("efficientnet_lite0", "timm/resnet18.no_such_tag"), ("cam",))
    comparison = compare(EXAMPLES[0], request)
    assert [row.failure == "" for row in comparison.rows] == [True, False]
    assert "no weights tagged 'no_such_tag'" in comparison.rows[1].failure
    assert grid_image(comparison, Look()).height > 2 * 255


def test_captions_tell_box_share_and_iou():
    from wsolviz.grid import _captions

    backbone = wsolviz.load_backbone("efficientnet_lite0")
    (cam,) = wsolviz.explain(EXAMPLES[0], backbone, ["cam"])
    x0, y0, x1, y1 = (int(side) for side in cam.boxes_at(0.3)[0])
    first, second = _captions(cam, Look(cam_threshold=0.3, true_box=(x0, y0, x1, y1)))
    assert first == f"τ 0.30   box {x0}, {y0} – {x1}, {y1}"
    share = 100 * (x1 - x0 + 1) * (y1 - y0 + 1) / (451 * 300)
    assert second == f"{share:.1f} % of the photo   IoU 1.000"


def test_where_nothing_lies_above_the_threshold_there_is_no_box():
    from wsolviz.grid import _captions

    comparison = compare(EXAMPLES[0], CompareRequest(methods=("cam",)))
    cam = comparison.rows[0].cells[0]
    assert cam.boxes_at(1.0).shape == (0, 4)
    assert cam.boxes["largest"][255].tolist() == [[0, 0, 0, 0]], "the benchmark's stand-in stays"
    look = Look(cam_threshold=1.0, true_box=(3, 4, 50, 60))
    assert _captions(cam, look) == ("τ 1.00   no box", "IoU 0.000")
    assert manifest(comparison, look)["rows"][0]["cells"][0]["boxes"] == []
    payload = viewer_payload(comparison, look)["rows"][0]["cells"][0]
    rows = np.frombuffer(base64.b64decode(payload["boxes"]["all"]), "<u2").reshape(-1, 6)
    assert rows[:, 1].max() == 254
    dark = cell_image(comparison.photo.image, cam, replace(look, opacity=0, true_box=None))
    small = comparison.photo.image.resize(dark.shape[1::-1], Image.Resampling.BICUBIC)
    np.testing.assert_allclose(dark, np.asarray(small) / 2, atol=1)
