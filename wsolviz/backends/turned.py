"""The gradient of a packed convolution by its input: another convolution, or PyTorch's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from wsolviz.backends.packed_layers import PackedConv2d


def strided_gradient(layer: PackedConv2d, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """∂/∂input of a convolution with strides, channels_last throughout.

    Of the input PyTorch only looks at shape and layout; memory that is never written to takes none.
    Depthwise ones are left to float32: oneDNN takes 1.6 to 15 times as long for them in bfloat16.
    """
    if layer.groups == len(layer.weight):
        grad = grad.float()
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


def can_turn(layer: PackedConv2d) -> bool:
    """Whether `turned` gives the gradient of a convolution: without strides or excess padding."""
    sides = zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
    return all(s == 1 for s in layer.stride) and all(d * (k - 1) >= p for p, d, k in sides)


def turned(layer: PackedConv2d) -> nn.Conv2d:
    """The convolution that takes ∂/∂output of one without strides to ∂/∂input."""
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
