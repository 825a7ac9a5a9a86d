"""The data path on real photos with real weights."""

import numpy as np
import pytest
import torch
from PIL import Image

import wsolviz
from wsolviz.explain import Inspection, inspect_photo
from wsolviz.photo import read_photo
from wsolviz.types import Explanation, Picture
from wsolviz.ui.controls import EXAMPLES
from wsolviz.views import ViewOptions, take_views

FREE = [name for name, panel in wsolviz.METHODS.items() if panel.cost != "slow"]


@pytest.fixture(scope="module")
def lite0():
    return wsolviz.load_backbone("efficientnet_lite0")


@pytest.mark.parametrize(
    ("photo", "name"), zip(EXAMPLES[:2], ["Egyptian cat", "espresso"], strict=True)
)
def test_real_weights_know_real_photos(lite0, photo, name):
    inspection = inspect_photo(photo, lite0)
    assert inspection.top()[0].name == name
    assert [s.probability for s in inspection.top()] == sorted(
        (s.probability for s in inspection.top()), reverse=True
    )


def test_cam_plus_bias_averages_to_the_logit(lite0):
    (cam,) = wsolviz.explain(EXAMPLES[0], lite0, ["cam"], class_index=281)
    bias = inspect_photo(EXAMPLES[0], lite0).features.bias[281]
    assert cam.exact
    assert cam.heatmap.mean() + float(bias) == pytest.approx(cam.target.logit, abs=1e-4)


def test_the_whole_path_by_hand(lite0):
    """From the photo to the box with timm, OpenCV and nothing of this project's."""
    import cv2

    photo = Image.open(EXAMPLES[1]).convert("RGB")
    pixels = np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC), np.float32) / 255
    images = torch.from_numpy((pixels - 0.5) / 0.5).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = lite0.module.forward_features(images)
        top = int(lite0.module(images).argmax())
        heatmap = torch.einsum("chw,c->hw", features[0], lite0.module.classifier.weight[top])
    resized = cv2.resize(heatmap.double().numpy(), (384, 256), interpolation=cv2.INTER_CUBIC)
    scores = (resized - resized.min()) / np.ptp(resized)
    mask = ((255 * scores).astype(np.uint8) > int(0.35 * 255)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    (cam,) = wsolviz.explain(photo, lite0, ["cam"])
    assert cam.target.index == top
    np.testing.assert_allclose(cam.heatmap, heatmap.numpy(), rtol=1e-3, atol=1e-3)
    (box,) = cam.boxes["largest"][int(0.35 * 255)]
    assert box.tolist() == [x, y, min(x + w, 383), min(y + h, 255)]


def test_every_method_gives_a_heatmap_and_every_picture_a_picture(lite0):
    inspection = inspect_photo(EXAMPLES[0], lite0)
    for name in FREE:
        explanation = inspection.panel(name)
        assert isinstance(explanation, Explanation)
        assert explanation.heatmap.shape == (7, 7)
        assert np.ptp(explanation.heatmap) > 0
        assert explanation.scoremap.max() == 1
        assert explanation.scoremap.shape == (255, 384)
    for name in wsolviz.PICTURES:
        picture = inspection.panel(name)
        assert isinstance(picture, Picture)
        assert picture.pixels.shape == (7, 7, 3)
        assert picture.pixels.std() > 0


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/mobilenetv3_small_050"])
def test_panels_made_side_by_side_are_those_made_alone(name):
    """With a constant class weight, and with one that is a gradient."""
    weights = "default" if name == "efficientnet_lite0" else None
    backbone = wsolviz.load_backbone(name, weights=weights)
    photo = read_photo(EXAMPLES[1])
    views = take_views(backbone, [photo.image], "logit", ViewOptions(flip=True))
    together, alone = (Inspection(photo, backbone, views, 0.0) for _ in range(2))
    started = {method: together.start(method, 7) for method in [*FREE, "pc_rgb"]}
    for method, future in started.items():
        panel, expected = future.result(), alone.panel(method, 7)
        assert (panel.method, panel.target) == (method, expected.target)
        if isinstance(expected, Picture):
            np.testing.assert_allclose(panel.pixels.astype(int), expected.pixels, atol=1)
        else:
            np.testing.assert_allclose(panel.scoremap, expected.scoremap, atol=1e-5)


def test_what_a_panel_raises_its_result_raises(lite0):
    inspection = inspect_photo(EXAMPLES[0], lite0)
    started = inspection.start("cam", "no such class")
    with pytest.raises(ValueError, match="no such class"):
        started.result()


def test_a_class_by_name_is_the_class_by_index(lite0):
    by_name, by_index = (
        wsolviz.explain(EXAMPLES[1], lite0, ["cam"], chosen)[0] for chosen in ("espresso", 967)
    )
    np.testing.assert_array_equal(by_name.heatmap, by_index.heatmap)
    with pytest.raises(ValueError, match=r"'shark' occurs in \d+ classes"):
        wsolviz.explain(EXAMPLES[1], lite0, ["cam"], "shark")


def test_features_are_kept_for_the_next_class(lite0, monkeypatch):
    photo = Image.effect_noise((60, 40), 80).convert("RGB")
    wsolviz.explain(photo, lite0, ["cam"], 1)
    monkeypatch.setattr(lite0, "extract", lambda *_: pytest.fail("the network ran again"))
    wsolviz.explain(photo, lite0, ["cam", "pc1", "cosine"], 2)


def test_new_weights_in_the_module_are_seen():
    backbone = wsolviz.load_backbone("timm/resnet10t", weights=None, num_classes=5)
    before = wsolviz.explain(EXAMPLES[0], backbone, ["cam"], 2)[0]
    with torch.no_grad():
        backbone.module.fc.weight[2] *= -2
    after = wsolviz.explain(EXAMPLES[0], backbone, ["cam"], 2)[0]
    np.testing.assert_allclose(after.heatmap, -2 * before.heatmap, rtol=1e-4, atol=1e-5)


def test_output_stride_and_input_size_make_finer_maps():
    backbone = wsolviz.load_backbone("efficientnet_lite0", output_stride=16)
    (cam,) = wsolviz.explain(EXAMPLES[0], backbone, ["cam"])
    assert cam.heatmap.shape == (14, 14)
    assert cam.target.name == "Egyptian cat"
    (larger,) = wsolviz.explain(EXAMPLES[0], backbone, ["cam"], image_size=320)
    assert larger.heatmap.shape == (20, 20)


def test_boxes_are_told_in_the_photos_own_pixels(lite0):
    small = Image.open(EXAMPLES[1]).convert("RGB")
    large = small.resize((1200, 800), Image.Resampling.BICUBIC)
    (cam,) = wsolviz.explain(large, lite0, ["cam"])
    x0, y0, x1, y1 = cam.boxes_at(0.3)[0]
    assert 0 <= x0 < x1 < 1200
    assert 0 <= y0 < y1 < 800
    assert x1 > 384, "in the photo's pixels, not the score map's"


def test_pre_norm_is_the_map_before_the_heads_norm():
    backbone = wsolviz.load_backbone("timm/convnext_atto", weights=None, num_classes=7)
    with torch.no_grad():
        backbone.module.head.norm.weight.uniform_(0.5, 2)
        backbone.module.head.fc.weight.normal_()
    images = backbone.preprocess(Image.open(EXAMPLES[0]))[None]
    before = backbone.extract(images, space="pre_norm")
    with torch.no_grad():
        expected = backbone.module.forward_features(images)
    torch.testing.assert_close(before.feature_map, expected, rtol=1e-3, atol=1e-4)
    assert not before.exact
    assert backbone.extract(images).exact
    (explanation,) = wsolviz.explain(EXAMPLES[0], backbone, ["cam"], space="pre_norm")
    assert (explanation.space, explanation.exact) == ("pre_norm", False)


def test_unknown_names_are_refused_before_anything_is_computed(lite0):
    with pytest.raises(ValueError, match="Did you mean 'cam'"):
        wsolviz.explain(EXAMPLES[0], lite0, ["camm"])
    with pytest.raises(ValueError, match="Did you mean 'efficientnet_lite0'"):
        wsolviz.load_backbone("efficientnet_light0")
    with pytest.raises(ValueError, match="allowed: logit, pre_norm"):
        wsolviz.explain(EXAMPLES[0], lite0, ["cam"], space="prenorm")
