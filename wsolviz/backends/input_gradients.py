"""Gradients by the image alone, through layers whose weights are constants.

An effective receptive field asks for ∂output/∂image and for no gradient by a weight. A layer then
need not keep its input: a convolution's gradient by its input is a convolution of the gradient that
comes back, a ReLU needs to know what it gave, a GELU what it was given. autograd keeps the inputs
of all layers, since it does not know that their weights are constants in the end.

A field starts at one position, and so most of the last maps' gradients is zero. Such a gradient is
pulled back within the box that it can reach.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import torch
from torch.autograd.function import once_differentiable

from wsolviz.backends.activations import Activation

Box: TypeAlias = tuple[slice, slice, slice, slice]

# A box of a larger share of the map saves less than it costs to cut out and to put in place.
WORTHWHILE = 0.8


class ConstantLayer(Protocol):
    """A linear layer or convolution with constant weights, and the activation behind it."""

    activation: Activation

    def run(self, x: torch.Tensor, fused: bool) -> torch.Tensor:
        """The output, before or behind the activation."""

    def pull_back(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """∂/∂input from ∂/∂output before the activation; `shape` is the input's."""

    def reach(self) -> tuple[int, int] | None:
        """Rows and columns by which a gradient spreads; None if maps change their size."""


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
        layer, shape = ctx.layer, ctx.shape
        (saved,) = ctx.saved_tensors or (None,)
        reach = layer.reach()
        box = None if reach is None else reached_box(grad, reach)
        with torch.autocast("cpu", enabled=False):
            if box is None:
                return _pull_back(layer, grad, saved, shape).to(ctx.dtype), None
            saved = None if saved is None else saved[box]
            grad = grad[box]
            part = _pull_back(layer, grad, saved, torch.Size((*shape[:2], *grad.shape[2:])))
            whole = torch.empty(shape, dtype=ctx.dtype, memory_format=torch.channels_last).zero_()
            whole[box] = part
            return whole, None


def _pull_back(
    layer: ConstantLayer, grad: torch.Tensor, saved: torch.Tensor | None, shape: torch.Size
) -> torch.Tensor:
    """∂/∂input from ∂/∂output behind the activation; `saved` is what the activation needs."""
    if layer.activation.kind == "gelu":
        grad = torch.ops.aten.gelu_backward(grad, saved, approximate=layer.activation.algorithm)
    elif layer.activation.kind == "relu":
        grad = torch.ops.aten.threshold_backward(grad, saved, 0)
    return layer.pull_back(grad, shape)


def reached_box(grad: torch.Tensor, reach: tuple[int, int]) -> Box | None:
    """Where a gradient that spreads by `reach` can be other than zero; None for about everywhere.

    Args:
        grad: (B,C,H,W); NaN is other than zero.
        reach: in rows and columns.
    """
    if _any_at(grad, 0) and _any_at(grad, -1):
        return None  # what most gradients show by two positions, without a pass over memory
    # An extremum takes a fifth of the time of a comparison, and one of NaN is NaN.
    nonzero = (grad.amax((0, 1)) != 0) | (grad.amin((0, 1)) != 0)
    rows = _span(nonzero.any(dim=1), reach[0])
    columns = _span(nonzero.any(dim=0), reach[1])
    cells = (rows.stop - rows.start) * (columns.stop - columns.start)
    if cells > WORTHWHILE * nonzero.numel():
        return None
    return slice(None), slice(None), rows, columns


def _any_at(grad: torch.Tensor, place: int) -> bool:
    return bool((grad[:, :, place, place] != 0).any())


def _span(nonzero: torch.Tensor, reach: int) -> slice:
    """From the first to the last that is set in (n,), and further by `reach`; never empty."""
    places = nonzero.nonzero().flatten().tolist() or [0]
    return slice(max(0, places[0] - reach), min(len(nonzero), places[-1] + reach + 1))
