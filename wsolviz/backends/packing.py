"""The layers of a network replaced by packed ones, where this build of torch has the operators."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import nn

from wsolviz.backends.activations import NO_ACTIVATION, Activation, as_activation
from wsolviz.backends.dataflow import Dataflow
from wsolviz.backends.depthwise import is_endless
from wsolviz.backends.large_kernel import LargeKernelConv2d
from wsolviz.backends.packed_layers import PackedConv2d, PackedLinear, fits, operators_work


def packing_type() -> torch.dtype | None:
    """What weights are packed in for a pass at this point: None where autocast has its own type."""
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32
    return torch.bfloat16 if torch.get_autocast_dtype("cpu") is torch.bfloat16 else None


def pack(module: nn.Module, flow: Dataflow, dtype: torch.dtype | None = torch.float32) -> None:
    """Replace the linear layers and convolutions that ran in the traced pass by packed ones.

    Args:
        module: a network in float32.
        flow: of a pass through it.
        dtype: float32, bfloat16 for passes under autocast, or None to leave all as it is.
    """
    for name in flow.weighted_layers(module):
        pack_layer(module, flow, name, dtype)


def pack_layer(module: nn.Module, flow: Dataflow, name: str, dtype: torch.dtype | None) -> None:
    """Replace one layer by a packed one, if it is of a kind that can be; see `pack`."""
    layer = module.get_submodule(name)
    if dtype is None or not can_pack(layer, dtype):
        return
    place, activation = _activation_behind(module, flow, name)
    if place is not None:
        module.set_submodule(place, nn.Identity())
    shape = flow.input_shapes[name]
    if isinstance(layer, nn.Conv2d) and is_endless(layer.weight, dtype):
        dtype = torch.float32  # and under autocast it computes as the layer itself does
    packed = (
        PackedLinear(layer, shape, activation, dtype)
        if isinstance(layer, nn.Linear)
        else PackedConv2d(layer, shape, activation, dtype)
    )
    module.set_submodule(name, packed)


def packed_bytes(module: nn.Module) -> int:
    """Bytes of the packed weights, which are in no state dict."""
    layers = [m for m in module.modules() if isinstance(m, (PackedLinear, PackedConv2d))]
    return sum(w.numel() * w.element_size() for layer in layers for w in layer.packed_weights)


def can_pack(layer: nn.Module, dtype: torch.dtype) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether a layer is of a kind, type and place that can be packed."""
    if isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, LargeKernelConv2d):
        padded = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return padded and fits(layer.weight, torch.float32) and operators_work(dtype)
    return type(layer) is nn.Linear and fits(layer.weight, torch.float32) and operators_work(dtype)


def _activation_behind(
    module: nn.Module, flow: Dataflow, name: str
) -> tuple[str | None, Activation]:
    """The activation that alone takes a layer's output, through folded norms if need be."""
    place = flow.sole_consumers.get(name)
    while place is not None and type(module.get_submodule(place)) is nn.Identity:
        place = flow.sole_consumers.get(place)
    activation = None if place is None else as_activation(module.get_submodule(place))
    return (None, NO_ACTIVATION) if activation is None else (place, activation)
