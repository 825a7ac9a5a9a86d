"""Small networks to train, a fixed batch, and the loss that the trainer hands to methods."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.nn import functional

import wsolviz
from training.methods import METHODS, Batch, Method, Moment
from training.models import TrainableNetwork

SIDE, CLASSES = 64, 5
MOMENT = Moment(epoch=50.0, epochs=70)


@cache
def _built(name: str) -> tuple[TrainableNetwork, dict[str, torch.Tensor]]:
    """A network and its first weights, no norm among them at 0, behind which no gradient comes."""
    torch.manual_seed(0)
    network = TrainableNetwork(wsolviz.load_backbone(name, weights=None, num_classes=CLASSES))
    state = {key: value.clone() for key, value in network.module.state_dict().items()}
    for key, value in state.items():
        if key.endswith("weight") and value.ndim == 1 and not value.any():
            value.fill_(1.0)
    return network, state


def trainable(name: str = "timm/test_resnet") -> TrainableNetwork:
    """A network with the same random weights each time, in training mode."""
    network, state = _built(name)
    network.module.load_state_dict(state)
    network.requires_grad_(True).train().zero_grad()
    return network


def method_for(name: str, network: TrainableNetwork, **options: object) -> Method:
    torch.manual_seed(1)
    cls = METHODS[name]
    return cls(cls.Options(name=name, **options), network).train()


def classify(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    target = batch.target if batch.soft_target is None else batch.soft_target
    return functional.cross_entropy(logits, target)


def gradients(module: torch.nn.Module) -> dict[str, float]:
    """The largest entry of each parameter's gradient; 0 where there is none."""
    return {
        name: 0.0 if p.grad is None else float(p.grad.abs().max())
        for name, p in module.named_parameters()
    }


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, SIDE, SIDE, generator=generator)
    return Batch(images, torch.tensor([0, 1, 2, 4]))
