"""Small networks: exact, told apart by their files, and with the kernels that their names say."""

import numpy as np
import pytest
import torch

import wsolviz
from wsolviz.backends.own_format import WeightsHeader, save_checkpoint
from wsolviz.backends.replknet import LargeKernel
from wsolviz.backends.slak import ThinKernels

FAMILY = (
    "small_convnext",
    "small_convnext/31",
    "small_replknet",
    "small_replknet/31",
    "small_slak",
    "small_slak/13",
)


def build(name):
    torch.manual_seed(0)
    backbone = wsolviz.load_backbone(name, None, 200)
    for layer in backbone.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return backbone


@pytest.mark.parametrize("name", FAMILY)
def test_cam_plus_bias_averages_to_the_logits(name):
    backbone = build(name)
    images = torch.randn(2, 3, 64, 64)
    features = backbone.extract(images)
    assert features.exact and features.feature_map.shape[2:] == (8, 8)
    with torch.no_grad():
        expected = backbone.module(images)
    pooled = features.feature_map.mean(dim=(2, 3)) @ features.weight.T + features.bias
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("small_convnext", (7, 7, 7)),
        ("small_convnext/31", (31, 31, 15)),
        ("small_replknet", (13, 13, 13)),
        ("small_slak", (31, 31, 15)),
    ],
)
def test_kernels_are_as_wide_as_the_name_says_and_no_wider_than_the_map(name, sides):
    stages = build(name).module.stages
    kernels = []
    for stage in stages:
        layer = stage[0].large_kernel
        if isinstance(layer, ThinKernels):
            assert layer.LoRA1.conv.kernel_size[::-1] == layer.LoRA2.conv.kernel_size
            layer = layer.LoRA1.conv
        elif isinstance(layer, LargeKernel):
            assert layer.small_conv.conv.kernel_size == (5, 5)
            layer = layer.lkb_origin.conv
        kernels.append(max(layer.kernel_size))
    assert tuple(kernels) == sides


def test_the_networks_are_of_equal_size_but_for_their_kernels():
    counts = {}
    for name in FAMILY:
        module = build(name).module
        kernels = sum(p.numel() for n, p in module.named_parameters() if "large_kernel" in n)
        counts[name] = sum(p.numel() for p in module.parameters()) - kernels
    assert max(counts.values()) < 1.05 * min(counts.values()), counts


@pytest.mark.parametrize("name", FAMILY)
def test_a_file_says_which_network_it_is_of(name, tmp_path):
    backbone = build(name)
    path = tmp_path / "small.safetensors"
    save_checkpoint(
        backbone.module.state_dict(), path, WeightsHeader(backbone=name, num_classes=200)
    )
    images = torch.randn(1, 3, 64, 64)
    loaded = wsolviz.load_backbone(f"file/{path}")
    expected = backbone.extract(images).logits.numpy()
    np.testing.assert_array_equal(loaded.extract(images).logits.numpy(), expected)
    family = name.partition("/")[0]
    by_state = wsolviz.load_backbone(family, path)  # the kernel is read off the weights
    np.testing.assert_array_equal(by_state.extract(images).logits.numpy(), expected)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="an odd one from 5 to 63"):
        wsolviz.load_backbone("small_slak/12", None)
