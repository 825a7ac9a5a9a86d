"""The adapted methods against grad-cam run the usual way: on the whole model, with hooks."""

import numpy as np
import pytest
import pytorch_grad_cam as package
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from tests.analysis.test_pc1 import make_features
from wsolviz import METHODS, Features
from wsolviz.progress import StoppedError, listening
from wsolviz.types import Replay

PAIRS = {
    "gradcam": package.GradCAM,
    "gradcam_plusplus": package.GradCAMPlusPlus,
    "layercam": package.LayerCAM,
    "hirescam": package.HiResCAM,
    "xgradcam": package.XGradCAM,
    "ablationcam": package.AblationCAM,
    "scorecam": package.ScoreCAM,
}
CLASS = 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = timm.create_model("resnet10t", num_classes=9).eval()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return built


@pytest.fixture(scope="module")
def features(model):
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        activation = model.forward_features(images)
        logits = model.forward_head(activation)
    replay = Replay(activation, model.forward_head, images, lambda x: model(x).detach())
    return Features(activation, model.fc.weight, model.fc.bias, logits, replay=replay)


def scaled(heatmap):
    """As grad-cam's scale_cam_image leaves a map."""
    heatmap = heatmap - heatmap.min()
    return heatmap / (1e-7 + heatmap.max())


@pytest.mark.parametrize("name", PAIRS)
def test_equals_the_package_on_the_whole_model(name, model, features):
    (images,) = [features.replay.images]
    with PAIRS[name](model, [model.layer4]) as cam:
        cam.get_target_width_height = lambda _: (3, 3)  # leave the map on its own grid
        expected = cam(images, [ClassifierOutputTarget(CLASS)])[0]
    heatmap = METHODS[name](features, CLASS)
    assert heatmap.shape == (1, 3, 3)
    assert heatmap.max() > 0
    np.testing.assert_allclose(scaled(heatmap[0].numpy()), expected, atol=2e-4)


def test_finercam_equals_the_package(model, features):
    with package.FinerCAM(model, [model.layer4]) as cam:
        cam.base_cam.get_target_width_height = lambda _: (3, 3)
        expected = cam(features.replay.images, target_idx=CLASS)[0]
    heatmap = METHODS["finercam"](features, CLASS)
    np.testing.assert_allclose(scaled(heatmap[0].numpy()), expected, atol=2e-4)


def test_gradcam_of_a_linear_head_is_cams_positive_part():
    features = make_features()
    positions = features.feature_map[0, 0].numel()
    expected = METHODS["cam"](features, 1).clamp_min(0) / positions
    torch.testing.assert_close(METHODS["gradcam"](features, 1), expected)


def test_features_made_by_hand_without_a_linear_head_are_refused():
    made = make_features()
    inexact = Features(made.feature_map, made.weight, made.bias, made.logits, exact=False)
    with pytest.raises(ValueError, match=r"backbone\.extract"):
        METHODS["gradcam"](inexact, 0)
    with pytest.raises(ValueError, match="whole network"):
        METHODS["scorecam"](made, 0)


def test_slow_methods_report_and_can_be_stopped(features):
    shares = []

    def stop_at_half(share, text):
        shares.append(share)
        if share > 0.5:
            raise StoppedError(text)

    with listening(stop_at_half), pytest.raises(StoppedError):
        METHODS["scorecam"](features, CLASS)
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] < 1
