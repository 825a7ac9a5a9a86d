"""Self-produced guidance: seeds and losses against loops, and who learns from whom."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from tests.training.methods.conftest import MOMENT, SIDE, classify, gradients, method_for, trainable
from training.methods import METHODS
from training.methods.spg import guidance_loss, seeds

EVERYWHERE = {"channels": 8, "b2_thresholds": (0.5, 0.5), "fused_thresholds": (0.5, 0.5)}


def loss_by_loops(logits, scores, low, high):
    """The mean over the images of each one's mean binary cross entropy over its seeds."""
    losses = []
    for image, guide in zip(logits.tolist(), scores.tolist(), strict=True):
        found = []
        for row, guide_row in zip(image, guide, strict=True):
            for value, score in zip(row, guide_row, strict=True):
                probability = 1 / (1 + math.exp(-value))
                if score > high:
                    found.append(-math.log(probability))
                elif score < low:
                    found.append(-math.log(1 - probability))
        losses.append(sum(found) / len(found) if found else 0.0)
    return sum(losses) / len(losses)


def test_seeds():
    scores = torch.tensor([[[0.0, 0.05, 0.1, 0.5, 0.7, 0.71, 1.0]]])
    foreground, background = seeds(scores, (0.1, 0.7))
    assert foreground.tolist() == [[[False] * 5 + [True] * 2]]
    assert background.tolist() == [[[True] * 2 + [False] * 5]]


def test_loss_on_seeds_only():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, generator=generator)
    scores = torch.rand(3, 5, 4, generator=generator)
    scores[2] = 0.4  # no seeds at all
    given = guidance_loss(logits, scores, (0.2, 0.8))
    torch.testing.assert_close(float(given), loss_by_loops(logits, scores, 0.2, 0.8))
    logits.requires_grad_()
    scores.requires_grad_()
    guidance_loss(logits, scores, (0.2, 0.8)).backward()
    known = (scores > 0.8) | (scores < 0.2)
    assert torch.equal(logits.grad != 0, known)
    assert scores.grad is None


def resized(maps):
    return functional.interpolate(maps, (SIDE, SIDE), mode="bilinear")[:, 0]


def branches_by_hand(method, network, images):
    """B1, B2 and C, (B,H,W), of timm/test_resnet's layers 2, 3 and 4."""
    module = network.module
    x = module.maxpool(module.act1(module.bn1(module.conv1(images))))
    second = module.layer2(module.layer1(x))
    third = module.layer3(second)
    last = module.layer4(third)
    (shared, _), shared_last = method.shared
    (c, _), c_last = method.c
    maps = []
    for own, feature_map in ((method.b1[0], second), (method.b2[0], third)):
        inner = shared(own(feature_map).clamp_min(0)).clamp_min(0)
        maps.append(resized(shared_last(inner)))
    maps.append(resized(c_last(c(last).clamp_min(0))))
    return maps, last


def test_every_loss_by_hand(batch):
    network = trainable()
    # With thresholds in the middle of what random branches say, there are seeds of both kinds.
    thresholds = {"b2_thresholds": (0.49, 0.5), "fused_thresholds": (0.495, 0.505)}
    method = method_for("spg", network, channels=8, **thresholds)
    assert [place.layer for place in method.places] == ["layer2.0", "layer3.0"]
    with torch.no_grad():
        logits, terms = method.terms(network, batch, classify, MOMENT)
        (b1, b2, c), last = branches_by_hand(method, network, batch.images)
        weight = network.module.fc.weight
        cam = torch.stack(
            [(last[b] * weight[batch.target[b]][:, None, None]).sum(dim=0) for b in range(4)]
        )
        attention = resized(cam[:, None])
        for b in range(4):
            attention[b] -= attention[b].min()
            attention[b] /= attention[b].max()
        torch.testing.assert_close(logits, network(batch.images).logits)
    expected = {
        "classification": float(classify(logits, batch)),
        "b2": loss_by_loops(b2, attention, 0.01, 0.7),
        "b1": loss_by_loops(b1, b2.sigmoid(), 0.49, 0.5),
        "c": loss_by_loops(c, (b1.sigmoid() + b2.sigmoid()) / 2, 0.495, 0.505),
    }
    assert terms.keys() == expected.keys()
    assert min(expected.values()) > 0
    for name, value in expected.items():
        assert float(terms[name].value) == pytest.approx(value, rel=1e-4), name
        assert terms[name].weight == 1


@pytest.mark.parametrize(
    ("term", "learning", "not_learning"),
    [
        ("b2", ("b2", "shared"), ("b1", "c")),
        ("b1", ("b1", "shared"), ("b2", "c")),
        ("c", ("c",), ("b1", "b2", "shared")),
        ("classification", (), ("b1", "b2", "shared", "c")),
    ],
)
def test_guides_do_not_learn_from_whom_they_guide(term, learning, not_learning, batch):
    network = trainable()
    method = method_for("spg", network, **EVERYWHERE)
    terms = method.terms(network, batch, classify, MOMENT)[1]
    terms[term].value.backward()
    own = gradients(method)
    for part in learning:
        assert all(v for k, v in own.items() if k.startswith(f"{part}.")), part
    for part in not_learning:
        assert not any(v for k, v in own.items() if k.startswith(f"{part}.")), part
    of_network = gradients(network.module)
    # B1 looks at layer 2, B2 at layer 3, C at the map behind layer 4.
    deepest = {"b1": "layer2", "b2": "layer3", "c": "layer4", "classification": "fc"}[term]
    order = ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
    for number, layer in enumerate(order):
        reached = [v != 0 for k, v in of_network.items() if k.startswith(layer)]
        assert set(reached) == {number <= order.index(deepest)}, layer


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet50_cam", ["layer3.0", "layer3.5"]),  # as in the benchmark
        ("timm/test_convnext", ["stages.2.blocks.0", "stages.2.blocks.3"]),
        ("timm/test_resnet", ["layer2.0", "layer3.0"]),
    ],
)
def test_where_it_looks_by_default(name, layers):
    method = method_for("spg", trainable(name), channels=8)
    assert [place.layer for place in method.places] == layers


def test_a_network_without_stages_asks_for_layers(batch):
    network = trainable("vgg16_cam")
    with pytest.raises(ValueError, match=r"vgg16_cam does not have two blocks.*method\.after"):
        method_for("spg", network)
    with pytest.raises(ValueError, match="has no layer 'conv4'"):
        method_for("spg", network, after=("conv4", "features.29"))
    method = method_for("spg", network, channels=8, after=("features.22", "features.29"))
    assert method.b1[0].in_channels == method.b2[0].in_channels == 512
    assert method.c[0][0].in_channels == 1024


def test_the_lower_threshold_comes_first():
    with pytest.raises(ValidationError, match=r"0\.7 is above 0\.1"):
        METHODS["spg"].Options(name="spg", attention_thresholds=(0.7, 0.1))
