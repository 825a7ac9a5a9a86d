"""What holds of every registered method: it runs on any network, and what it trains learns."""

from dataclasses import replace

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
from training.methods import METHODS, total
from training.recompute import recomputing
from training.target_maps import MapTeacherConfig

# Networks with a linear head, with a LayerNorm between, and with layers behind the last stage; and
# the benchmark's, which is large, with the learning rate that a few steps of it bear.
LEARNING_RATES = {
    "timm/test_resnet": 1e-3,
    "timm/test_convnext": 1e-2,
    "timm/test_efficientnet": 1e-2,
    "resnet50_cam": 1e-4,
}
OPTIONS = {
    "acol": {"channels": 16},
    "spg": {"channels": 16},
    "map_distillation": {
        "teacher": MapTeacherConfig(backbone="none", layers=("none",)),  # the maps are made here
        **{"square_weight": 1.0, "correlation_weight": 1.0, "classification_weight": 1.0},
    },
}


def with_maps(network, batch):
    """The batch with a map for each image, of the size of the network's own."""
    with torch.no_grad():
        sides = network.eval()(batch.images).feature_map.shape[2:]
    network.train()
    generator = torch.Generator().manual_seed(4)
    return replace(batch, maps=torch.rand(len(batch.images), *sides, generator=generator))


def step(name, network, method, batch):
    torch.manual_seed(3)  # the trainer seeds each step
    logits, terms = method.terms(network, batch, classify, MOMENT)
    assert logits.shape == (len(batch.images), CLASSES)
    assert all(term.value.ndim == 0 and term.value.isfinite() for term in terms.values()), name
    return total(terms)


@pytest.mark.parametrize("network_name", LEARNING_RATES)
@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_whole_network_and_a_few_steps_lower_the_loss(
    name, network_name, batch
):
    network = trainable(network_name)
    method = method_for(name, network, **OPTIONS.get(name, {}))
    if METHODS[name].needs_maps:
        batch = with_maps(network, batch)
    parameters = [*network.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATES[network_name])
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = step(name, network, method, batch)
        loss.backward()
        assert not [n for n, largest in gradients(network).items() if largest == 0]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0], losses
    assert all(not layer._forward_hooks for layer in network.module.modules())


@pytest.mark.parametrize("name", METHODS)
def test_the_trained_network_has_nothing_of_the_method_in_it(name):
    network = trainable()
    names = list(network.module.state_dict())
    method_for(name, network, **OPTIONS.get(name, {}))
    assert list(network.module.state_dict()) == names


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adl", {"after": ("layer3.0.conv1", "layer4.0.conv2")}),
        ("spg", {"channels": 8, "after": ("layer3.0.conv1", "layer4.0.conv1")}),
    ],
)
def test_a_layer_inside_of_a_block_that_is_run_again(name, options, batch):
    """By then the method no longer looks into the block."""
    found = []
    for again in (False, True):
        network = trainable()
        method = method_for(name, network, **options)
        with recomputing(network, again):
            step(name, network, method, batch).backward()
        found.append([p.grad for p in network.parameters()])
    for kept, computed_again in zip(*found, strict=True):
        torch.testing.assert_close(computed_again, kept)
