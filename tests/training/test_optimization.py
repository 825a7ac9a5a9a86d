"""What is trained, and what stays as it is."""

from __future__ import annotations

import torch
from torch import nn

from training.config import FreezeConfig
from training.optimization import freeze, set_training


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False))


def modes(module: nn.Module) -> list[bool]:
    return [layer.training for layer in module.children()]


def test_batchnorm_with_frozen_parameters_or_statistics_keeps_its_statistics() -> None:
    module, images = network(), torch.randn(5, 3, 2, 2)
    for config, kept in (
        (FreezeConfig(), [False, False]),
        (FreezeConfig(parameters=("0.*",)), [False, False]),
        (FreezeConfig(parameters=("1.weight",)), [False, False]),  # its bias learns
        (FreezeConfig(parameters=("1.*",)), [True, False]),
        (FreezeConfig(statistics=True), [True, True]),
    ):
        freeze(module, config)
        set_training(module, config)
        assert modes(module) == [True, *(not one for one in kept)]
        before = [module[i].running_mean.clone() for i in (1, 2)]
        module(images)
        after = [module[i].running_mean for i in (1, 2)]
        assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == kept
