"""The gradient of a packed convolution by its input: another convolution, or PyTorch's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from wsolviz.backends.packed_layers import PackedConv2d


def own_gradient(layer: PackedConv2d, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """∂/∂input of a convolution as PyTorch computes it, channels_last throughout.

    Of the input PyTorch only looks at shape and layout; memory that is never written to takes none.
    """
    layout = torch.channels_last
    unread = torch.empty(shape, dtype=grad.dtype, memory_format=layout)
    weight = layer.weight.detach().to(grad.dtype).contiguous(memory_format=layout)
    gradient: torch.Tensor = torch.ops.aten.convolution_backward(
        grad,
        unread,
        weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        [True, False, False],
    )[0]
    return gradient


def spread(layer: PackedConv2d, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """∂/∂output of a convolution with strides as that of the one without: zeros in between."""
    sides = zip(shape[2:], layer.padding, layer.dilation, layer.kernel_size, strict=True)
    height, width = (side + 2 * p - d * (k - 1) for side, p, d, k in sides)
    whole = torch.empty(
        (*grad.shape[:2], height, width), dtype=grad.dtype, memory_format=torch.channels_last
    ).zero_()
    whole[:, :, :: layer.stride[0], :: layer.stride[1]] = grad
    return whole


def can_turn(layer: PackedConv2d) -> bool:
    """Whether `turned` gives the gradient of a convolution, and sooner than PyTorch's own.

    Not with padding in excess. Of those with strides only depthwise ones in bfloat16, whose own
    gradient oneDNN takes 2 to 15 times as long for.
    """
    sides = zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
    sooner = not strided(layer) or (
        layer.dtype is torch.bfloat16 and layer.groups == len(layer.weight)
    )
    return sooner and all(d * (k - 1) >= p for p, d, k in sides)


def strided(layer: PackedConv2d) -> bool:
    """Whether a convolution skips positions."""
    return any(stride != 1 for stride in layer.stride)


def turned(layer: PackedConv2d) -> nn.Conv2d:
    """The convolution that takes ∂/∂output to ∂/∂input; with strides, see `spread`."""
    out_channels, per_group, *kernel = layer.weight.shape
    in_channels, groups = per_group * layer.groups, layer.groups
    weight = layer.weight.detach().reshape(groups, out_channels // groups, per_group, *kernel)
    weight = weight.transpose(1, 2).reshape(in_channels, out_channels // groups, *kernel)
    rows, columns = (
        d * (k - 1) - p
        for p, d, k in zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
    )
    with torch.device("meta"):  # its own weight would be drawn for nothing
        backwards = nn.Conv2d(
            out_channels,
            in_channels,
            (kernel[0], kernel[1]),
            padding=(rows, columns),
            dilation=(layer.dilation[0], layer.dilation[1]),
            groups=groups,
            bias=False,
        )
    backwards.weight = nn.Parameter(weight.flip(2, 3), requires_grad=False)
    return backwards
