"""Receptive fields of networks whose fields are known in closed form."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from wsolviz import erf, load_backbone
from wsolviz.backends.architecture import NetworkBackbone
from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.replknet import RepLKNet
from wsolviz.preprocess import Preprocessing
from wsolviz.receptive_field import field_sum, measure_erf

SIDE = 24
CHANNELS = 4


class Stack(nn.Module):
    """3×3 convolutions of ones without bias, then average and a linear layer."""

    def __init__(self, depth: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                nn.Conv2d(3 if i == 0 else CHANNELS, CHANNELS, 3, padding=1, bias=False)
                for i in range(depth)
            ),
            nn.AvgPool2d(stride),
        )
        self.head = nn.Linear(CHANNELS, 2)
        for parameter in self.body.parameters():
            nn.init.ones_(parameter)

    def forward_features(self, images):
        return self.body(images)

    def forward_head(self, feature_map):
        return self.head(feature_map.mean(dim=(2, 3)))

    def forward(self, images):
        return self.forward_head(self.forward_features(images))


def backbone_of(module) -> NetworkBackbone:
    preprocessing = Preprocessing((SIDE, SIDE))
    return NetworkBackbone("stack", module, preprocessing, weights=WeightsInfo("random"))


def box_field(depth: int, at: tuple[int, int], side: int = SIDE) -> np.ndarray:
    """What counts for one cell: the n-fold convolution of the 3×3 box, cut off at the border."""
    field = np.zeros((side, side))
    field[at] = 1
    for _ in range(depth):
        padded = np.pad(field, 1)
        field = sum(padded[dy : dy + side, dx : dx + side] for dy in range(3) for dx in range(3))
    # Three colours; each of the paths goes through any of the channels of every layer.
    return 3 * CHANNELS**depth * field


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("position", [None, (0, 0), (2, SIDE - 1)])
def test_a_stack_of_boxes_has_the_field_of_their_convolution(depth, position):
    images = torch.ones(2, 3, SIDE, SIDE)
    found = measure_erf(backbone_of(Stack(depth)), images, position=position)
    at = position or (SIDE // 2, SIDE // 2)
    np.testing.assert_allclose(found.contribution, box_field(depth, at), rtol=1e-5)
    assert found.centre == at
    assert (found.grid, found.num_images) == ((SIDE, SIDE), 2)


def test_the_middle_of_a_coarse_map_with_an_even_number_of_cells():
    found = measure_erf(backbone_of(Stack(1, stride=2)), torch.ones(1, 3, SIDE, SIDE))
    assert found.grid == (12, 12)
    assert found.position == (6, 6)
    cells = [(12 + dy, 12 + dx) for dy in range(2) for dx in range(2)]
    expected = sum(box_field(1, cell) for cell in cells) / 4
    np.testing.assert_allclose(found.contribution, expected, rtol=1e-5)


def test_where_the_map_is_negative_nothing_counts():
    field = erf(backbone_of(Stack(1)), -torch.ones(1, 3, SIDE, SIDE))
    assert field.max() == 0


def test_a_dead_channel_counts_for_nothing():
    module = Stack(1)
    with torch.no_grad():
        module.body[0].weight[1] = -1  # its output is negative everywhere
    field = erf(backbone_of(module), torch.ones(1, 3, SIDE, SIDE))
    at = (SIDE // 2, SIDE // 2)
    np.testing.assert_allclose(field, box_field(1, at) * (CHANNELS - 1) / CHANNELS, rtol=1e-5)


def test_a_class_asks_for_its_own_weights_alone():
    module = Stack(1)
    with torch.no_grad():
        module.head.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-2, 0, 0, 0]]))
    backbone, images = backbone_of(module), -torch.ones(1, 3, SIDE, SIDE)
    at = (SIDE // 2, SIDE // 2)
    first = erf(backbone, images, class_index=0)
    np.testing.assert_allclose(first, box_field(1, at) / CHANNELS, rtol=1e-5)
    assert erf(backbone, images, class_index=1).max() == 0  # all of its gradient is negative


def test_images_whose_gradient_is_no_number_are_left_out_and_told():
    images = torch.ones(3, 3, SIDE, SIDE)
    images[1, 0, 5, 5] = torch.nan

    class Squared(Stack):
        def forward_features(self, images):
            return self.body(images).square()

    backbone = backbone_of(Squared(12))
    with pytest.warns(UserWarning, match="1 of 3 images were left out"):
        field = erf(backbone, images, batch_size=2)
    np.testing.assert_allclose(field, erf(backbone, images[:1]), rtol=1e-5)
    with pytest.raises(ValueError, match="None of the 1 images"):
        erf(backbone, images[1:2])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_mean_over_photos_is_the_mean_of_their_fields(batch_size):
    backbone = load_backbone("efficientnet_lite0", device="cpu")
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    told = []
    field = erf(
        backbone, images, batch_size=batch_size, progress=lambda share, _: told.append(share)
    )
    single = [erf(backbone, image[None]) for image in images]
    np.testing.assert_allclose(field, np.mean(single, axis=0), rtol=1e-3, atol=1e-4 * field.max())
    assert told[-1] == 1
    assert len(told) == -(-3 // batch_size)


class SmallRepLKNet(RepLKNet):
    """All that RepLKNet-31B has, with few channels and smaller kernels."""

    def __init__(self) -> None:
        super().__init__((16, 16, 32, 32), (9, 7, 7, 5), num_classes=2)


@pytest.mark.parametrize("class_index", [None, 1])
@pytest.mark.parametrize("position", [(2, 3), (0, 0), (5, 5), (0, 3)])
def test_a_field_is_that_of_autograd_in_double_precision(position, class_index):
    torch.manual_seed(0)
    module = SmallRepLKNet()
    backbone = backbone_of(module)
    images = torch.randn(2, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    field = measure_erf(backbone, images, None, position, class_index, batch_size=2)
    assert field.num_images == 2
    network = copy.deepcopy(module).eval().double()
    exact = images.double().requires_grad_()
    feature_map = network.forward_features(exact)
    assert field.grid == feature_map.shape[2:] == (6, 6)
    if class_index is None:
        asked = feature_map[:, :, position[0], position[1]].relu().sum()
    else:
        at_position = network.norm(feature_map)[:, :, position[0], position[1]]
        asked = (at_position * network.head.weight[class_index]).sum()
    (gradient,) = torch.autograd.grad(asked, exact)
    expected = gradient.relu().sum(dim=1).mean(dim=0).numpy()
    np.testing.assert_allclose(field.contribution, expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/mobilenetv3_small_050"])
def test_the_fused_network_has_the_field_of_the_plain_one(name):
    weights = "default" if name == "efficientnet_lite0" else None
    torch.manual_seed(0)
    backbone = load_backbone(name, weights, device="cpu")
    photo = Image.new("RGB", (90, 90), "olive")
    size = 96
    field = erf(backbone, [photo], size)
    images = Preprocessing((size, size), backbone.preprocessing.mean, backbone.preprocessing.std)(
        photo
    )[None].requires_grad_()
    feature_map = backbone.forward_map(backbone.module, images)
    h, w = feature_map.shape[2:]
    feature_map[:, :, h // 2, w // 2].relu().sum().backward()
    expected = images.grad.relu().sum(dim=(0, 1)).numpy()
    assert np.abs(field - expected).max() <= 1e-2 * expected.max()
    assert np.corrcoef(field.ravel(), expected.ravel())[0, 1] > 0.9999


def test_a_network_whose_map_lies_inside_has_a_field_too():
    backbone = load_backbone("timm/vit_tiny_patch16_224", None, device="cpu")
    found = measure_erf(backbone, torch.randn(1, 3, 224, 224), position=(0, 0), class_index=3)
    assert found.grid == (14, 14)
    assert found.contribution.sum() > 0


def test_a_size_that_a_network_does_not_take_is_said_in_our_words():
    class OfOneSize(Stack):
        def forward_features(self, images):
            assert images.shape[2:] == (SIDE, SIDE), "wrong size"
            return super().forward_features(images)

    with pytest.raises(ValueError, match="its own size is 24×24"):
        erf(backbone_of(OfOneSize(1)), torch.ones(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": torch.zeros(0, 3, 64, 64)}, "at least one image"),
        ({"images": torch.zeros(3, 64, 64)}, r"\(N,3,H,W\)"),
        ({"images": torch.zeros(1, 3, 64, 64), "size": 96}, "leave size out"),
        ({"images": torch.zeros(1, 3, 64, 64), "position": (2, 0)}, "2×2 feature map"),
        ({"images": torch.zeros(1, 3, 64, 64), "class_index": 1000}, "0 to 999"),
        ({"images": torch.zeros(1, 3, 64, 64), "batch_size": 0}, "batch_size is 0"),
        ({"images": [Image.new("RGB", (9, 9))], "size": 8}, "size is 8"),
    ],
)
def test_wrong_questions_are_answered_with_a_sentence(options, said):
    backbone = load_backbone("efficientnet_lite0", device="cpu")
    with pytest.raises(ValueError, match=said):
        erf(backbone, **options)


def test_the_callers_images_stay_without_gradient():
    backbone = load_backbone("efficientnet_lite0", device="cpu")
    images = torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    field_sum(backbone, images)
    assert not images.requires_grad
