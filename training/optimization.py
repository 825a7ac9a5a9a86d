"""What the optimizer changes, how fast, and what stays frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.config import FreezeConfig, OptimizerConfig, ScheduleConfig
from training.methods import Method
from training.models import TrainableNetwork


def freeze(module: nn.Module, config: FreezeConfig) -> None:
    """Let gradients into all parameters but the frozen ones.

    Raises:
        ValueError: a pattern that no parameter has.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in config.parameters:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"freeze.parameters: no parameter matches {pattern!r}; they are called "
                f"{names[0]} … {names[-1]}."
            )
    for name, parameter in module.named_parameters():
        frozen = any(fnmatchcase(name, pattern) for pattern in config.parameters)
        parameter.requires_grad_(not frozen)


def set_training(module: nn.Module, config: FreezeConfig) -> None:
    """Training mode, in which BatchNorm with frozen statistics or parameters stays in eval mode."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and (config.statistics or _frozen(layer)):
            layer.eval()


def _frozen(layer: nn.Module) -> bool:
    """Whether all its parameters are; one that has none is not."""
    parameters = list(layer.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def make_optimizer(
    network: TrainableNetwork, method: Method, config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The optimizer over what is not frozen; the classifier and the method's layers learn faster.

    Raises:
        ValueError: everything is frozen.
    """
    head = {id(p) for p in (*network.classifier.parameters(), *method.parameters())}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in (*network.parameters(), *method.parameters()):
        if parameter.requires_grad:
            decays = config.decay_norms_and_biases or parameter.ndim > 1
            groups.setdefault((id(parameter) in head, decays), []).append(parameter)
    if not groups:
        raise ValueError("Every parameter is frozen, so there is nothing to train.")
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": config.lr * (config.head_lr_factor if of_head else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (of_head, decays), parameters in groups.items()
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(settings)
    return torch.optim.SGD(
        settings, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0
    )


def lr_factor(epoch: float, epochs: int, config: ScheduleConfig) -> float:
    """The learning rate at a moment, as a share of its full height.

    Args:
        epoch: epochs done, with fractions.
        epochs: of the whole run.
        config: the schedule.
    """
    if epoch < config.warmup_epochs:
        return epoch / config.warmup_epochs
    if config.name == "step":
        return config.factor ** sum(epoch >= milestone for milestone in config.milestones)
    if config.name == "cosine":
        share = (epoch - config.warmup_epochs) / max(epochs - config.warmup_epochs, 1e-9)
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * min(share, 1))) / 2
    return 1.0


def make_average(module: nn.Module, decay: float | None) -> AveragedModel | None:
    """A running average of the weights and buffers, None where none is wanted."""
    if decay is None:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


@contextmanager
def averaged(module: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """The module holds the averaged weights while this lasts."""
    if average is None:
        yield
        return
    current = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        module.load_state_dict(current)
