"""Adversarial complementary learning, against loops over positions and layers run by hand."""

import pytest
import torch

from tests.training.methods.conftest import (
    CLASSES,
    MOMENT,
    classify,
    gradients,
    method_for,
    trainable,
)
from training.methods import total
from training.methods.acol import unseen


def kept_by_loops(cam, threshold):
    keep = torch.ones_like(cam)
    for b in range(len(cam)):
        low, high = float(cam[b].min()), float(cam[b].max())
        for y in range(cam.shape[1]):
            for x in range(cam.shape[2]):
                if (float(cam[b, y, x]) - low) / (high - low) > threshold:
                    keep[b, y, x] = 0
    return keep


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_erased_where_the_cam_is_strong(threshold):
    cam = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    keep = unseen(cam, threshold)
    assert torch.equal(keep, kept_by_loops(cam, threshold))
    assert ((keep == 0).flatten(1).sum(dim=1) > 0).all()
    assert torch.equal(unseen(torch.ones(1, 2, 2), threshold), torch.ones(1, 2, 2))


def second_by_hand(method, feature_map, keep):
    x = feature_map * keep[:, None]
    first, _, second, _, third = method.second
    x = third(second(first(x).clamp_min(0)).clamp_min(0))
    return x.flatten(2).sum(dim=2) / (x.shape[2] * x.shape[3])


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_convnext"])
def test_both_classifiers_by_hand(name, batch):
    network = trainable(name)
    method = method_for("acol", network, channels=8, threshold=0.6)
    with torch.no_grad():
        logits, terms = method.terms(network, batch, classify, MOMENT)
        outputs = network(batch.images)
        feature_map, weight = outputs.feature_map, outputs.weight
        cam = torch.stack(
            [(feature_map[b] * weight[batch.target[b]][:, None, None]).sum(dim=0) for b in range(4)]
        )
        second = second_by_hand(method, feature_map, kept_by_loops(cam, 0.6))
    assert second.shape == (4, CLASSES)
    torch.testing.assert_close(logits, outputs.logits)
    torch.testing.assert_close(terms["classification"].value, classify(outputs.logits, batch))
    torch.testing.assert_close(terms["second"].value, classify(second, batch))
    expected = classify(outputs.logits, batch) + classify(second, batch)
    torch.testing.assert_close(total(terms), expected)


def test_what_each_loss_trains(batch):
    network = trainable()
    method = method_for("acol", network, channels=8)
    terms = method.terms(network, batch, classify, MOMENT)[1]
    terms["second"].value.backward(retain_graph=True)
    of_network = gradients(network.module)
    assert of_network["fc.weight"] == of_network["fc.bias"] == 0, "A learns nothing from B"
    assert all(v for k, v in of_network.items() if not k.startswith("fc"))
    assert all(gradients(method).values())
    network.zero_grad()
    method.zero_grad()
    terms["classification"].value.backward()
    assert gradients(network.module)["fc.weight"]
    assert not any(gradients(method).values())


def test_b_does_not_see_what_a_looks_at(batch):
    network = trainable()
    method = method_for("acol", network, channels=8)
    seen = []

    def note(_layer, inputs):
        inputs[0].retain_grad()
        seen.append(inputs[0])

    handle = method.second.register_forward_pre_hook(note)
    method.terms(network, batch, classify, MOMENT)
    handle.remove()
    with torch.no_grad():
        outputs = network(batch.images)
        erased = kept_by_loops(outputs.cam(batch.target), 0.7) == 0
    positions = (seen[0] != 0).any(dim=1)
    assert erased.any() and not positions[erased].any()
    assert torch.equal(
        seen[0].permute(0, 2, 3, 1)[~erased], outputs.feature_map.permute(0, 2, 3, 1)[~erased]
    )


def test_the_cam_is_float32_under_autocast(batch):
    network = trainable()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(batch.images)
        cam = outputs.cam(batch.target)
    weight = outputs.weight[batch.target][:, :, None, None]
    torch.testing.assert_close(cam, (outputs.feature_map * weight).sum(dim=1))
