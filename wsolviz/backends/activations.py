"""Activations that oneDNN computes before a layer's output leaves the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.layers.activations import GELU, GELUTanh
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Activation:
    """An activation in oneDNN's terms, and as a function for when oneDNN is not used."""

    function: Callable[[torch.Tensor], torch.Tensor]
    kind: str
    algorithm: str


NO_ACTIVATION = Activation(lambda x: x, "none", "")
GELU_EXACT = Activation(functional.gelu, "gelu", "none")
GELU_TANH = Activation(lambda x: functional.gelu(x, approximate="tanh"), "gelu", "tanh")
RELU = Activation(functional.relu, "relu", "")
ACTIVATIONS = (nn.GELU, GELU, GELUTanh, nn.ReLU)


def as_activation(layer: nn.Module) -> Activation | None:
    """What a module computes, if it is a GELU or a ReLU."""
    if type(layer) is nn.GELU:
        return GELU_TANH if layer.approximate == "tanh" else GELU_EXACT
    return {GELU: GELU_EXACT, GELUTanh: GELU_TANH, nn.ReLU: RELU}.get(type(layer))
