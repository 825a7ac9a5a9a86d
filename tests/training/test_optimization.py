"""Rates, groups, freezing and averages, each derived again by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.config import FreezeConfig, OptimizerConfig, ScheduleConfig
from training.methods import METHODS
from training.models import TrainableNetwork
from training.optimization import (
    averaged,
    freeze,
    lr_factor,
    make_average,
    make_optimizer,
    set_training,
)
from wsolviz.backends.loading import load_backbone


@pytest.fixture
def network() -> TrainableNetwork:
    torch.manual_seed(0)
    return TrainableNetwork(load_backbone("timm/test_efficientnet", None, 5))


def test_the_rate_falls_at_the_milestones_of_the_paper() -> None:
    """CUB: ×0.2 at 41 and 61 of 70 epochs."""
    schedule = ScheduleConfig(name="step", milestones=(41, 61), factor=0.2)
    given = [lr_factor(epoch, 70, schedule) for epoch in (0, 40.99, 41, 60.5, 61, 69)]
    assert given == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine() -> None:
    schedule = ScheduleConfig(name="cosine", warmup_epochs=2, final=0.1)
    assert [lr_factor(e, 10, schedule) for e in (0, 0.5, 1)] == [0, 0.25, 0.5]
    for epoch in (2, 3.5, 6, 10):
        expected = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (epoch - 2) / 8))
        assert lr_factor(epoch, 10, schedule) == pytest.approx(expected)


def test_groups_hold_every_parameter_once_with_its_rate_and_decay(
    network: TrainableNetwork,
) -> None:
    module = network.module
    freeze(module, FreezeConfig(parameters=("conv_stem.*",)))
    method = METHODS["acol"](METHODS["acol"].Options(name="acol"), network)
    config = OptimizerConfig(
        lr=0.1, head_lr_factor=10, weight_decay=0.01, decay_norms_and_biases=False
    )
    optimizer = make_optimizer(network, method, config)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    own = {id(p) for p in method.parameters()}
    assert own, "the second classifier has layers"
    for name, parameter in (*module.named_parameters(), *method.named_parameters()):
        if name.startswith("conv_stem"):
            assert id(parameter) not in found
            continue
        fast = name.startswith("classifier") or id(parameter) in own
        decay = 0.01 if parameter.ndim > 1 else 0.0
        assert found[id(parameter)] == pytest.approx((1.0 if fast else 0.1, decay)), name


def test_frozen_layers_keep_weights_and_statistics_through_a_step(
    network: TrainableNetwork,
) -> None:
    module, config = network.module, FreezeConfig(parameters=("blocks.[01].*", "bn1.*"))
    freeze(module, config)
    set_training(module, config)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    method = METHODS["cam"](METHODS["cam"].Options(name="cam"), network)
    optimizer = make_optimizer(network, method, OptimizerConfig(lr=0.1))
    loss = network(torch.randn(4, 3, 64, 64)).logits.square().mean()
    torch.autograd.backward(loss)
    optimizer.step()
    for name, tensor in module.state_dict().items():
        frozen = name.startswith(("blocks.0.", "blocks.1.", "bn1."))
        assert torch.equal(tensor, before[name]) == frozen, name


def test_frozen_statistics_let_the_norms_weights_learn(network: TrainableNetwork) -> None:
    config = FreezeConfig(statistics=True)
    freeze(network.module, config)
    set_training(network.module, config)
    norm = network.module.get_submodule("bn1")
    before = norm.running_mean.clone()  # type: ignore[operator]
    loss = network(torch.randn(4, 3, 64, 64)).logits.square().mean()
    torch.autograd.backward(loss)
    assert torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    assert norm.weight.grad is not None and norm.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert network.module.training


def test_a_pattern_without_parameters_is_refused(network: TrainableNetwork) -> None:
    with pytest.raises(ValueError, match=r"no parameter matches 'stem\.\*'.*conv_stem\.weight"):
        freeze(network.module, FreezeConfig(parameters=("stem.*",)))


def test_everything_frozen_is_refused(network: TrainableNetwork) -> None:
    freeze(network.module, FreezeConfig(parameters=("*",)))
    method = METHODS["cam"](METHODS["cam"].Options(name="cam"), network)
    with pytest.raises(ValueError, match="Every parameter is frozen"):
        make_optimizer(network, method, OptimizerConfig(lr=0.1))


def test_the_average_is_the_papers_and_gives_the_weights_back(network: TrainableNetwork) -> None:
    module = network.module
    average = make_average(module, 0.9)
    assert average is not None
    weight: torch.Tensor = module.get_parameter("classifier.weight")
    expected = None
    for step in range(4):
        with torch.no_grad():
            weight.copy_(torch.full_like(weight, float(step)))
        average.update_parameters(module)
        expected = float(step) if expected is None else 0.9 * expected + 0.1 * step
    with averaged(module, average):
        assert weight.flatten()[0].item() == pytest.approx(expected)
    assert weight.flatten()[0].item() == 3.0
    with averaged(module, None):
        assert weight.flatten()[0].item() == 3.0


def test_batchnorm_keeps_its_statistics_where_they_or_all_its_parameters_are_frozen() -> None:
    """A norm that has no parameters is not frozen by that."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False))
    for config, kept in (
        (FreezeConfig(), [False, False]),
        (FreezeConfig(parameters=("1.weight",)), [False, False]),  # its bias learns
        (FreezeConfig(parameters=("1.*",)), [True, False]),
        (FreezeConfig(statistics=True), [True, True]),
    ):
        freeze(module, config)
        set_training(module, config)
        before = [module.get_buffer(f"{i}.running_mean").clone() for i in (1, 2)]
        module(torch.randn(5, 3, 2, 2))
        after = [module.get_buffer(f"{i}.running_mean") for i in (1, 2)]
        assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == kept
