"""Erasing integrated learning, against the same layers run by hand on both branches."""

import pytest
import torch
from torch.nn import functional

from tests.training.methods.conftest import MOMENT, classify, method_for, trainable
from training.methods import total
from training.places import behind

PLACE = "layer3.0"  # of timm/test_resnet, whose stages have one block each


def up_to_place(module, images):
    x = module.maxpool(module.act1(module.bn1(module.conv1(images))))
    return module.layer3(module.layer2(module.layer1(x)))


def from_place(module, feature_map):
    return module.fc(module.layer4(feature_map).mean(dim=(2, 3)))


def erased_by_loops(feature_map, threshold):
    erased = feature_map.clone()
    for b in range(len(feature_map)):
        mean = feature_map[b].mean(dim=0)
        for y in range(mean.shape[0]):
            for x in range(mean.shape[1]):
                if mean[y, x] > threshold * mean.max():
                    erased[b, :, y, x] = 0
    return erased


@pytest.mark.parametrize("threshold", [0.7, 0.9])
def test_both_branches_are_the_layers_run_by_hand(threshold, batch):
    network = trainable()
    method = method_for("eil", network, threshold=threshold, erased_weight=0.3)
    assert method.place == PLACE
    logits, terms = method.terms(network, batch, classify, MOMENT)
    with torch.no_grad():
        feature_map = up_to_place(network.module, batch.images)
        erased = erased_by_loops(feature_map, threshold)
        share = (erased == 0).all(dim=1).float().mean()
        assert 0 < share < 1
        plain_logits = from_place(network.module, feature_map)
        erased_logits = from_place(network.module, erased)
    torch.testing.assert_close(logits, plain_logits, rtol=1e-4, atol=1e-5)
    plain_loss = functional.cross_entropy(plain_logits, batch.target)
    erased_loss = functional.cross_entropy(erased_logits, batch.target)
    torch.testing.assert_close(terms["classification"].value, plain_loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["erased"].value, erased_loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(total(terms), plain_loss + 0.3 * erased_loss, rtol=1e-4, atol=1e-5)


def test_no_gradient_comes_through_what_is_erased(batch):
    network = trainable()
    method = method_for("eil", network)
    maps = []

    def keep(output):
        output.retain_grad()
        maps.append(output)

    with behind(network.module, {PLACE: keep}):
        terms = method.terms(network, batch, classify, MOMENT)[1]
    (feature_map,) = maps
    terms["erased"].value.backward(retain_graph=True)
    erased = (erased_by_loops(feature_map.detach(), 0.7) == 0).all(dim=1)
    arrived = (feature_map.grad != 0).any(dim=1)
    assert erased.any() and not arrived[erased].any()
    assert arrived[~erased].all()
    feature_map.grad = None
    terms["classification"].value.backward()
    assert (feature_map.grad != 0).any(dim=1).all()


def test_without_weight_nothing_is_erased(batch):
    network = trainable("timm/test_efficientnet")
    method = method_for("eil", network, erased_weight=0.0)
    logits, terms = method.terms(network, batch, classify, MOMENT)
    assert list(terms) == ["classification"]
    torch.testing.assert_close(logits, network(batch.images).logits)


def test_erasing_behind_a_named_layer(batch):
    network = trainable()
    method = method_for("eil", network, erase_after="layer2.0")
    with torch.no_grad():
        module = network.module
        x = module.maxpool(module.act1(module.bn1(module.conv1(batch.images))))
        erased = erased_by_loops(module.layer2(module.layer1(x)), 0.7)
        expected = classify(from_place(module, module.layer3(erased)), batch)
        loss = method.terms(network, batch, classify, MOMENT)[1]["erased"].value
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_stages_asks_for_a_layer():
    network = trainable("vgg16_cam")
    with pytest.raises(ValueError, match="vgg16_cam has no stages of blocks"):
        method_for("eil", network)
    with pytest.raises(ValueError, match="has no layer 'conv4_3'"):
        method_for("eil", network, erase_after="conv4_3")
    assert method_for("eil", network, erase_after="features.22").place == "features.22"
