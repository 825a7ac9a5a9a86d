"""Attention-based dropout, against loops over positions and layers run by hand."""

import math

import pytest
import torch

from tests.training.methods.conftest import MOMENT, classify, gradients, method_for, trainable
from training.methods.adl import AttentionDropout


def some_map(batch=3, channels=5, height=6, width=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, height, width, generator=generator) + 0.5


def by_loops(feature_map, threshold, dropping):
    result = feature_map.clone()
    for b in range(len(feature_map)):
        mean = feature_map[b].mean(dim=0)
        for y in range(mean.shape[0]):
            for x in range(mean.shape[1]):
                if dropping:
                    factor = 0.0 if mean[y, x] > threshold * mean.max() else 1.0
                else:
                    factor = 1 / (1 + math.exp(-float(mean[y, x])))
                result[b, :, y, x] = factor * feature_map[b, :, y, x]
    return result


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_the_two_maps(threshold):
    feature_map = some_map()
    dropped = AttentionDropout(1.0, threshold)(feature_map)
    torch.testing.assert_close(dropped, by_loops(feature_map, threshold, True), rtol=0, atol=0)
    assert (dropped == 0).all(dim=1).flatten(1).any(dim=1).all(), "in every image, its maximum"
    weighted = AttentionDropout(0.0, threshold)(feature_map)
    torch.testing.assert_close(weighted, by_loops(feature_map, threshold, False))


def test_one_of_the_two_is_drawn_for_the_whole_batch():
    torch.manual_seed(0)
    feature_map = some_map()
    masks, importances = (by_loops(feature_map, 0.9, dropping) for dropping in (True, False))
    layer, dropped = AttentionDropout(0.75, 0.9), 0
    for _ in range(200):
        given = layer(feature_map)
        of_mask = torch.allclose(given, masks)
        assert of_mask != torch.allclose(given, importances)
        dropped += of_mask
    assert abs(dropped - 150) < 4 * math.sqrt(200 * 0.75 * 0.25)


def test_the_gradient_goes_through_the_importance_map_and_through_no_mask():
    feature_map = some_map().double().requires_grad_()
    AttentionDropout(0.0, 0.9)(feature_map).sum().backward()
    x = feature_map.detach()
    s = 1 / (1 + torch.exp(-x.mean(dim=1, keepdim=True)))
    # d/dx_c of Σ_k x_k·s(m), m = mean_k x_k: s + Σ_k x_k·s·(1 − s) / C.
    expected = s + x.sum(dim=1, keepdim=True) * s * (1 - s) / x.shape[1]
    torch.testing.assert_close(feature_map.grad, expected.expand_as(x))
    feature_map.grad = None
    AttentionDropout(1.0, 0.9)(feature_map).sum().backward()
    kept = (by_loops(x, 0.9, True) != 0).to(x)
    assert torch.equal(feature_map.grad, kept)


@pytest.mark.parametrize("drop_rate", [0.0, 1.0])
def test_the_layers_run_by_hand(drop_rate, batch):
    network = trainable()
    method = method_for("adl", network, drop_rate=drop_rate, threshold=0.8)
    assert [place.layer for place in method.places] == ["layer3.0", "layer4.0"]
    with torch.no_grad():
        logits, terms = method.terms(network, batch, classify, MOMENT)
        module = network.module
        x = module.maxpool(module.act1(module.bn1(module.conv1(batch.images))))
        x = by_loops(module.layer3(module.layer2(module.layer1(x))), 0.8, drop_rate == 1)
        x = by_loops(module.layer4(x), 0.8, drop_rate == 1)
        expected = module.fc(x.mean(dim=(2, 3)))
        plain = network(batch.images).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        terms["classification"].value, classify(expected, batch), rtol=1e-4, atol=1e-5
    )
    assert (plain - logits).abs().max() > 1e-3, "without the method, the network is as it was"


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet50_cam", ["layer3.0", "layer4.0", "layer4.2"]),  # as in the benchmark
        ("timm/test_convnext", ["stages.2.blocks.0", "stages.3.blocks.0", "stages.3.blocks.1"]),
    ],
)
def test_where_it_stands_by_default(name, layers):
    assert [place.layer for place in method_for("adl", trainable(name)).places] == layers


def test_named_layers(batch):
    network = trainable()
    method = method_for("adl", network, drop_rate=1.0, after=("layer1", "layer4"))
    assert [place.layer for place in method.places] == ["layer1", "layer4"]
    method.terms(network, batch, classify, MOMENT)[1]["classification"].value.backward()
    assert all(gradients(network).values())


def test_a_network_without_stages_asks_for_layers():
    network = trainable("vgg16_cam")
    with pytest.raises(ValueError, match=r"vgg16_cam has no stages.*method\.after"):
        method_for("adl", network)
    named = method_for("adl", network, after=("features.16", "features.22", "features.29"))
    assert len(named.places) == 3
