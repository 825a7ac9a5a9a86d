"""Gradients by the image alone, through layers whose weights are constants.

An effective receptive field asks for ∂output/∂image and for no gradient by a weight. A layer then
need not keep its input: a convolution's gradient by its input is a convolution of the gradient that
comes back, a ReLU needs to know what it gave, a GELU what it was given. autograd keeps the inputs
of all layers, since it does not know that their weights are constants in the end.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable

from wsolviz.backends.activations import Activation


class ConstantLayer(Protocol):
    """A linear layer or convolution with constant weights, and the activation behind it."""

    activation: Activation

    def run(self, x: torch.Tensor, fused: bool) -> torch.Tensor:
        """The output, before or behind the activation."""

    def pull_back(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """∂/∂input from ∂/∂output before the activation; `shape` is the input's."""


def differentiable(x: torch.Tensor, layer: ConstantLayer) -> torch.Tensor:
    """What the layer gives, with a gradient by x, which can be taken once."""
    output: torch.Tensor = _ConstantLayer.apply(x, layer)
    return output


class _ConstantLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: ConstantLayer) -> torch.Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, x.shape, x.dtype
        kind = layer.activation.kind
        if kind == "gelu":
            before = layer.run(x, False)
            ctx.save_for_backward(before)
            return layer.activation.function(before)
        output = layer.run(x, True)
        if kind == "relu":
            ctx.save_for_backward(output)  # a quarter of it would do, the signs, at twice the time
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        layer = ctx.layer
        if layer.activation.kind == "gelu":
            (before,) = ctx.saved_tensors
            grad = torch.ops.aten.gelu_backward(
                grad, before, approximate=layer.activation.algorithm
            )
        elif layer.activation.kind == "relu":
            (output,) = ctx.saved_tensors
            grad = torch.ops.aten.threshold_backward(grad, output, 0)
        with torch.autocast("cpu", enabled=False):
            return layer.pull_back(grad, ctx.shape).to(ctx.dtype), None
