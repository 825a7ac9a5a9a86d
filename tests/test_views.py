"""Several views of a photo, and sums of methods, against doing each step by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import wsolviz
from wsolviz.analysis.scoremap import merged_scoremap
from wsolviz.compare import CompareOptions, CompareRequest, compare
from wsolviz.explain import display_grid, inspect_photo
from wsolviz.export import write_folder
from wsolviz.methods import METHODS, PICTURES, find_method, find_panel, is_panel
from wsolviz.registry import UnknownNameError
from wsolviz.render import Look
from wsolviz.types import Features
from wsolviz.ui.controls import EXAMPLES
from wsolviz.views import MAX_INPUT, MAX_SCALES, MIN_INPUT, ViewOptions, mean_logits, take_views


@pytest.fixture(scope="module")
def lite0():
    return wsolviz.load_backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def photo():
    return Image.open(EXAMPLES[1]).convert("RGB")


def network_input(photo, side, mirrored=False):
    pixels = np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    if mirrored:
        pixels = pixels[:, ::-1]
    scaled = (pixels / 255 - 0.5) / 0.5
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]


def views_by_hand(backbone, photo, sides, flip):
    """(features, mirrored) of every view."""
    return [
        (backbone.extract(network_input(photo, side, mirrored)), mirrored)
        for side in sides
        for mirrored in ([False, True] if flip else [False])
    ]


def min_max(values):
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def scores_of(heatmap, size):
    """The score map of one heatmap on a (height, width) grid."""
    return min_max(cv2.resize(heatmap, size[::-1], interpolation=cv2.INTER_CUBIC))


def averaged_by_hand(views, method, class_index, size):
    maps = []
    for features, mirrored in views:
        heatmap = METHODS[method](features, class_index)[0].double().numpy()
        maps.append(scores_of(heatmap[:, ::-1] if mirrored else heatmap, size))
    return min_max(sum(maps) / len(maps))


OPTIONS = {
    "two scales": ((160, 224), False),
    "flip": ((), True),
    "three scales and flip": ((224, 288, 192), True),
    "one scale and flip": ((256,), True),
}


@pytest.mark.parametrize(("scales", "flip"), OPTIONS.values(), ids=OPTIONS)
def test_score_maps_are_the_mean_over_the_views(lite0, photo, scales, flip):
    size = display_grid(photo.size)
    methods = ("cam", "pc1", "feature_norm")
    found = wsolviz.explain(photo, lite0, methods, 967, scales=scales, flip=flip)
    views = views_by_hand(lite0, photo, scales or (224,), flip)
    for method, explanation in zip(methods, found, strict=True):
        expected = averaged_by_hand(views, method, 967, size)
        np.testing.assert_allclose(explanation.scoremap, expected, atol=1e-5)
        np.testing.assert_array_equal(explanation.heatmap, np.float32(explanation.scoremap))
        assert not explanation.signed, "a mean of score maps has no zero that means something"
        boxes = wsolviz.boxes_at_levels(explanation.scoremap, "all")
        np.testing.assert_array_equal(explanation.boxes["all"].intervals, boxes.intervals)


@pytest.mark.parametrize(("scales", "flip"), OPTIONS.values(), ids=OPTIONS)
def test_the_class_is_told_from_the_mean_of_the_logits(lite0, photo, scales, flip):
    options = ViewOptions(scales=scales, flip=flip)
    inspection = inspect_photo(photo, lite0, options=options)
    views = views_by_hand(lite0, photo, scales or (224,), flip)
    assert len(inspection.views) == len(views)
    mean = sum(features.logits[0] for features, _ in views) / len(views)
    torch.testing.assert_close(inspection.logits, mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mean_logits(inspection.views)[0], inspection.logits)
    best = inspection.top()[0]
    assert best.index == int(mean.argmax()) == inspection.resolve(None)
    assert best.logit == pytest.approx(float(mean.max()), abs=1e-4)
    assert best.probability == pytest.approx(float(mean.softmax(dim=0).max()), abs=1e-4)
    (cam,) = wsolviz.explain(photo, lite0, ["cam"], scales=scales, flip=flip)
    assert cam.target == best


def test_a_class_that_no_view_prefers_may_win_on_average(lite0, photo):
    inspection = inspect_photo(photo, lite0, options=ViewOptions(flip=True))
    views = []
    for view, (first, second, third) in zip(inspection.views, [(3, 0, 2), (0, 3, 2)], strict=True):
        logits = view.features.logits.clone()
        logits[0, :3] = 100 + torch.tensor([first, second, third])
        views.append(replace(view, features=replace(view.features, logits=logits)))
    changed = replace(inspection, views=tuple(views))
    assert [int(view.features.logits.argmax()) for view in views] == [0, 1]
    assert changed.resolve(None) == changed.top()[0].index == 2
    assert changed.compute("cam").target.index == 2


@pytest.mark.parametrize("flip", [False, True])
def test_views_of_a_batch_are_those_of_its_photos(lite0, flip):
    photos = [Image.open(path).convert("RGB") for path in EXAMPLES[:3]]
    options = ViewOptions(scales=(224, 192), flip=flip)
    views = take_views(lite0, photos, options=options)
    sizes = [224, 224, 192, 192] if flip else [224, 192]
    assert [view.features.input_size for view in views] == [(side, side) for side in sizes]
    assert [view.flipped for view in views] == ([False, True] * 2 if flip else [False] * 2)
    for i, photo in enumerate(photos):
        by_hand = views_by_hand(lite0, photo, (224, 192), flip)
        for view, (features, mirrored) in zip(views, by_hand, strict=True):
            found = view.run(METHODS["cam"], 281)[0][i]
            expected = METHODS["cam"](features, 281)[0]
            expected = expected.flip(-1) if mirrored else expected
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(
                view.features.logits[i], features.logits[0], rtol=1e-3, atol=1e-3
            )


@pytest.mark.parametrize("method", ["cam", "pc1", "cam+0.5*feature_norm"])
def test_a_mirrored_photo_has_the_mirrored_map_when_both_sides_are_averaged(lite0, photo, method):
    square = photo.resize((224, 224), Image.Resampling.BICUBIC)
    straight, mirrored = (
        wsolviz.explain(side, lite0, [method], 967, flip=True)[0].scoremap
        for side in (square, ImageOps.mirror(square))
    )
    np.testing.assert_allclose(mirrored, straight[:, ::-1], atol=1e-5)
    assert abs(straight - straight[:, ::-1]).max() > 0.2, "the photo itself is not symmetric"
    alone = wsolviz.explain(ImageOps.mirror(square), lite0, [method], 967)[0].scoremap
    assert abs(alone - straight[:, ::-1]).max() > 0.02, "one side alone is not the same"


def test_a_photo_that_is_its_own_mirror_image_has_a_symmetric_map(lite0, photo):
    half = photo.resize((112, 224), Image.Resampling.BICUBIC)
    symmetric = Image.new("RGB", (224, 224))
    symmetric.paste(half, (0, 0))
    symmetric.paste(ImageOps.mirror(half), (112, 0))
    (cam,) = wsolviz.explain(symmetric, lite0, ["cam"], flip=True)
    np.testing.assert_allclose(cam.scoremap, cam.scoremap[:, ::-1], atol=1e-5)


def test_one_scale_is_an_image_size(lite0, photo):
    for side in (224, 160):
        (by_scale,) = wsolviz.explain(photo, lite0, ["cam"], scales=(side,))
        (by_size,) = wsolviz.explain(photo, lite0, ["cam"], image_size=side)
        assert by_scale.heatmap.shape == (side // 32, side // 32)
        np.testing.assert_array_equal(by_scale.heatmap, by_size.heatmap)
        np.testing.assert_array_equal(by_scale.scoremap, by_size.scoremap)
        assert by_scale.signed and by_size.signed
        assert by_scale.target == by_size.target
    (own,) = wsolviz.explain(photo, lite0, ["cam"])
    (named,) = wsolviz.explain(photo, lite0, ["cam"], image_size=224)
    np.testing.assert_array_equal(own.heatmap, named.heatmap)


def test_the_same_scale_twice_is_the_scale(lite0, photo):
    (once,) = wsolviz.explain(photo, lite0, ["cam"], image_size=192)
    (twice,) = wsolviz.explain(photo, lite0, ["cam"], scales=(192, 192))
    np.testing.assert_allclose(twice.scoremap, once.scoremap, atol=1e-6)


def test_numbers_and_pictures_are_of_the_first_view(lite0, photo):
    many = inspect_photo(photo, lite0, options=ViewOptions(scales=(160, 224), flip=True))
    alone = inspect_photo(photo, lite0, options=ViewOptions(160))
    assert many.features.input_size == many.input_size == (160, 160)
    assert many.panel("pc1", 967).numbers == pytest.approx(alone.panel("pc1", 967).numbers)
    for name in ("pc_rgb", "winning_class"):
        np.testing.assert_array_equal(many.panel(name).pixels, alone.panel(name).pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 224, "scales": (192,)}, "image_size or scales, not both"),
        ({"scales": (224,) * (MAX_SCALES + 1)}, "9 scales were given; at most 8 are"),
        ({"image_size": MIN_INPUT - 1}, "image_size is 31; it must lie between 32 and 2048"),
        ({"image_size": MAX_INPUT + 1}, "image_size is 2049; it must lie between"),
        ({"image_size": 0}, "image_size is 0; it must"),
        ({"image_size": -224}, "image_size is -224; it must"),
        ({"scales": (224, 31)}, "a scale is 31; it must lie between 32 and 2048 pixels"),
        ({"scales": (4096, 224)}, "a scale is 4096; it must"),
        ({"scales": (0,)}, "a scale is 0; it must"),
    ],
)
def test_views_out_of_bounds(lite0, photo, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ViewOptions(**options)
    with pytest.raises(ValueError, match=re.escape(message)):
        CompareOptions(**options)
    with pytest.raises(ValueError, match=re.escape(message)):
        wsolviz.explain(photo, lite0, ["cam"], **options)


def test_bounds_themselves_are_allowed():
    assert ViewOptions(MIN_INPUT).image_size == 32
    assert len(ViewOptions(scales=(MAX_INPUT,) * MAX_SCALES).scales) == 8


@pytest.mark.parametrize(
    ("options", "many"),
    [
        (ViewOptions(), False),
        (ViewOptions(224), False),
        (ViewOptions(scales=(224,)), False),
        (ViewOptions(scales=(224, 224)), True),
        (ViewOptions(flip=True), True),
        (ViewOptions(scales=(224,), flip=True), True),
    ],
)
def test_there_are_many_views_when_more_than_one_is_taken(lite0, photo, options, many):
    assert options.many == many == (len(take_views(lite0, [photo], options=options)) > 1)


def test_a_merged_map_is_the_mean_of_score_maps_of_any_sizes():
    rng = np.random.default_rng(0)
    heatmaps = [rng.standard_normal(shape) * scale for shape, scale in
                (((7, 7), 1), ((14, 9), 1000), ((3, 20), 1e-6))]  # fmt: skip
    expected = min_max(sum(scores_of(heatmap, (50, 70)) for heatmap in heatmaps) / 3)
    np.testing.assert_allclose(merged_scoremap(heatmaps, (50, 70)), expected, atol=1e-12)
    tensors = [torch.from_numpy(heatmap) for heatmap in heatmaps]
    np.testing.assert_allclose(merged_scoremap(tensors, (50, 70)), expected, atol=1e-12)
    alone = merged_scoremap(heatmaps[:1], (50, 70))
    np.testing.assert_array_equal(alone, wsolviz.scoremap(heatmaps[0], (50, 70)))
    with_constant = merged_scoremap([heatmaps[0], np.full((4, 4), 3.0)], (50, 70))
    np.testing.assert_allclose(with_constant, alone, atol=1e-12)
    assert not merged_scoremap([np.zeros((3, 3)), np.full((2, 2), np.nan)], 8).any()
    with pytest.raises(ValueError, match="no heatmap"):
        merged_scoremap([], 8)


SUMS = {
    "cam+0.5*feature_norm": {"cam": 1, "feature_norm": 0.5},
    "cam + 0.5 * feature_norm": {"cam": 1, "feature_norm": 0.5},
    " cam+ 5e-1*feature_norm ": {"cam": 1, "feature_norm": 0.5},
    ".5*cam+cosine+.25*pc1": {"cam": 0.5, "cosine": 1, "pc1": 0.25},
    "2*cam": {"cam": 2},
    "1e3*cam+pc1_paper": {"cam": 1000, "pc1_paper": 1},
}


@pytest.mark.parametrize(("name", "weights"), SUMS.items())
def test_a_sum_adds_the_methods_scaled_to_0_1_of_each_image(lite0, photo, name, weights):
    features = lite0.extract(
        torch.cat([network_input(photo, 224), network_input(photo, 224, True)])
    )
    classes = [967, 281]
    found = find_method(name)(features, classes)
    for i in range(2):
        expected = sum(
            weight * min_max(METHODS[method](features, classes)[i].double().numpy())
            for method, weight in weights.items()
        )
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-12, atol=1e-12)
        assert expected.min() >= 0
        assert expected.max() <= sum(weights.values())


def features_of_equal_norm():
    """The norm is 5 everywhere, exactly, while CAM of class 0 varies."""
    maps = torch.tensor([[[3.0, 4.0, -3.0], [5.0, 0.0, -4.0]], [[4.0, 3.0, 4.0], [0.0, -5.0, 3.0]]])
    weight = torch.tensor([[1.0, 2.0]])
    return Features(maps[None], weight, torch.zeros(1), maps.mean((1, 2))[None] @ weight.T)


@pytest.mark.parametrize("name", ["cam+3*feature_norm", "feature_norm+cam", "cam"])
def test_a_constant_map_adds_nothing_to_a_sum(name):
    features = features_of_equal_norm()
    assert METHODS["feature_norm"](features, 0).unique().tolist() == [5]
    expected = min_max(np.array([[11.0, 10, 5], [5, -10, 2]]))
    total = find_method(f"{name}+2*feature_norm")(features, 0)
    np.testing.assert_allclose(total[0], expected, atol=1e-12)
    assert not find_method("2*feature_norm")(features, 0).any()


def test_a_sum_may_name_a_method_twice():
    features = features_of_equal_norm()
    torch.testing.assert_close(
        find_method("cam+0.5*cam")(features, 0), find_method("1.5*cam")(features, 0)
    )


def test_a_sum_of_one_method_has_the_methods_score_map(lite0, photo):
    cam, weighted = wsolviz.explain(photo, lite0, ["cam", "3*cam"])
    np.testing.assert_allclose(weighted.scoremap, cam.scoremap, atol=1e-6)
    assert weighted.method == "3*cam"
    assert (weighted.heatmap.min(), weighted.heatmap.max()) == (0, 3)
    assert cam.signed and not weighted.signed


def test_how_a_sum_is_shown():
    panel = find_panel("cam + 0.5*feature_norm+ 2*gradcam")
    assert panel.name == "cam+0.5*feature_norm+2*gradcam"
    titles = [METHODS[name].title for name in ("cam", "feature_norm", "gradcam")]
    assert panel.title == f"{titles[0]} + 0.5·{titles[1]} + 2·{titles[2]}"
    assert not panel.signed
    assert panel.help
    costs = {"cam+pc1": "free", "gradcam+cam": "gradient", "cam+scorecam+gradcam": "slow"}
    assert {name: find_method(name).cost for name in costs} == costs
    assert find_method("cam") is METHODS["cam"]


def test_an_unknown_panel_is_told_the_pictures_too() -> None:
    assert find_panel("pc_rgb") is PICTURES["pc_rgb"]
    with pytest.raises(UnknownNameError) as caught:
        find_panel("pc_rbg")
    known = ", ".join([*METHODS, *PICTURES])
    assert str(caught.value) == (
        f"There is no method 'pc_rbg'. Did you mean 'pc_rgb'? Known: {known}."
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cam+", "is not a sum of methods: "),
        ("+cam", "is not a sum of methods: "),
        ("cam++pc1", "is not a sum of methods: "),
        ("cam+2*", "is not a sum of methods: "),
        ("+", "is not a sum of methods: "),
        ("cam+pc_rgb", "There is no method 'pc_rgb'"),
        ("2*winning_class", "There is no method 'winning_class'"),
        ("camm+pc1", "There is no method 'camm'. Did you mean 'cam'?"),
        (
            "cam+-1*pc1",
            "'-1*pc1' should be METHOD or WEIGHT*METHOD, with a weight from 0.001 to 1000",
        ),
        ("0*cam", "'0*cam' should be METHOD or WEIGHT*METHOD"),
        ("cam+ 0.0*pc1", "'0.0*pc1' should be"),
        ("nan*cam", "'nan*cam' should be"),
        ("inf*cam", "'inf*cam' should be"),
        ("half*cam", "'half*cam' should be"),
        ("*cam", "'*cam' should be"),
        ("cam*2", "'cam*2' should be"),
        ("2*3*cam", "'2*3*cam' should be"),
        ("0,5*cam", "'0,5*cam' should be"),
    ],
)
def test_what_is_no_sum_of_methods(lite0, photo, name, message):
    expected = UnknownNameError if message.startswith("There is no") else ValueError
    for find in (find_method, find_panel):
        with pytest.raises(expected, match=re.escape(message)) as raised:
            find(name)
        if expected is ValueError:
            assert str(raised.value).startswith(f"{name!r} is not a sum of methods")
    assert not is_panel(name)
    with pytest.raises(ValueError, match=re.escape(message)):
        wsolviz.explain(photo, lite0, ["cam", name])
    with pytest.raises(ValueError, match=re.escape(message)):
        CompareRequest(methods=(name,))


def test_a_sum_of_several_views_is_summed_in_each(lite0, photo):
    (found,) = wsolviz.explain(
        photo, lite0, ["cam+0.5*feature_norm"], 967, scales=(224, 160), flip=True
    )
    size, maps = display_grid(photo.size), []
    for features, mirrored in views_by_hand(lite0, photo, (224, 160), flip=True):
        cam, norm = (
            min_max(METHODS[name](features, 967)[0].double().numpy())
            for name in ("cam", "feature_norm")
        )
        total = cam + 0.5 * norm
        maps.append(scores_of(total[:, ::-1] if mirrored else total, size))
    np.testing.assert_allclose(found.scoremap, min_max(sum(maps) / 4), atol=1e-5)
    assert found.method == "cam+0.5*feature_norm"


def test_a_sum_is_exported_under_a_name_that_every_file_system_takes(lite0, photo, tmp_path):
    sums = ("cam+0.5*feature_norm", "2 * cam", "pc1")
    request = CompareRequest(("efficientnet_lite0",), sums, options=CompareOptions(flip=True))
    comparison = compare(photo, request)
    folder = write_folder(comparison, Look(cam_threshold=0.4), tmp_path / "out")
    cells = [
        "efficientnet_lite0_cam+0.5-feature_norm",
        "efficientnet_lite0_2-cam",
        "efficientnet_lite0_pc1",
    ]
    assert {path.name for path in folder.iterdir()} == {
        "grid.png", "maps.npz", "manifest.json", "report.html",
        *(f"{cell}.{kind}" for cell in cells for kind in ("png", "npy")),
    }  # fmt: skip
    maps = np.load(folder / "maps.npz")
    manifest = json.loads((folder / "manifest.json").read_text())
    found = wsolviz.explain(photo, lite0, sums, flip=True)
    told = manifest["rows"][0]["cells"]
    for cell, explanation, entry in zip(cells, found, told, strict=True):
        np.testing.assert_allclose(maps[cell], explanation.heatmap, atol=1e-5)
        scores = wsolviz.scoremap(explanation.heatmap, 224)
        np.testing.assert_allclose(np.load(folder / f"{cell}.npy"), scores, atol=1e-4)
        assert entry["method"] == explanation.method
        assert entry["boxes"] == explanation.boxes_at(0.4).tolist()
    assert set(maps) == set(cells)
    assert manifest["request"]["options"]["flip"] is True
    assert manifest["request"]["methods"] == list(sums)
