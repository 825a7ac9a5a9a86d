"""Blocks of large depthwise convolutions: a fast layer, and parallel branches merged into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from wsolviz.backends.depthwise import conv2d

Branch = tuple[nn.Conv2d, nn.BatchNorm2d]


class LargeKernelConv2d(nn.Conv2d):
    """`nn.Conv2d` with the same parameters and numbers, by `depthwise_conv2d` where that fits.

    It fits depthwise convolutions of stride and dilation 1 whose zero padding keeps the map's size.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,in,H,W) to (B,out,H',W')."""
        if self.padding_mode != "zeros":
            return super().forward(x)
        return conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


@runtime_checkable
class Mergeable(Protocol):
    """A module that knows a cheaper form of itself for inference."""

    def merged(self) -> nn.Module:
        """A module of its own that gives what this one gives in eval mode."""


class SummedBranches(nn.ModuleList):
    """Layers that take the same input, and whose outputs are added."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the layers take to what they give."""
        first, *others = self
        total: torch.Tensor = first(x)
        for layer in others:
            total = total + layer(x)
        return total


def merge_branches(branches: Sequence[Branch]) -> nn.Module:
    """Parallel depthwise convolutions, each with its BatchNorm, as the fewest worth computing.

    In eval mode each pair is one convolution (see `fold_batch_norms`), and the sum of two is one
    with the sum of the kernels, the smaller in the middle of the larger. That is done where one
    kernel encloses the other: a 51×5 and a 5×51 kernel would make a 51×51 one of five times the
    work (3.4 to 4.5 times the time, measured).

    Args:
        branches: convolutions that differ in the kernel's sides only, all odd, with zero padding
            that keeps the map's size; and their norms, whose running statistics are taken.

    Returns:
        One `LargeKernelConv2d`, or the `SummedBranches` of several, with parameters of their own
        that need no gradient.

    Raises:
        ValueError: no branch, or one that is no such convolution.
    """
    if not branches:
        raise ValueError("merge_branches needs at least one convolution and its BatchNorm.")
    merged: list[tuple[torch.Tensor, torch.Tensor]] = []
    for weight, bias in sorted(map(_folded, branches), key=lambda pair: -pair[0].numel()):
        for i, (larger, shift) in enumerate(merged):
            rows, columns = (larger.shape[axis] - weight.shape[axis] for axis in (2, 3))
            if min(rows, columns) >= 0:
                margins = (columns // 2, columns // 2, rows // 2, rows // 2)
                merged[i] = larger + functional.pad(weight, margins), shift + bias
                break
        else:
            merged.append((weight, bias))
    layers = [_convolution(weight, bias) for weight, bias in merged]
    return layers[0] if len(layers) == 1 else SummedBranches(layers)


def fused_with_norm(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of the convolution that computes a convolution and the norm behind it."""
    return fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        cast(torch.Tensor, norm.running_mean),
        cast(torch.Tensor, norm.running_var),
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _folded(branch: Branch) -> tuple[torch.Tensor, torch.Tensor]:
    """A branch's weight (C,1,kh,kw) and bias (C,) in eval mode."""
    layer, norm = branch
    kernel = layer.kernel_size
    if (
        layer.groups != layer.in_channels
        or layer.groups != layer.out_channels
        or layer.stride != (1, 1)
        or layer.dilation != (1, 1)
        or layer.padding_mode != "zeros"
        or layer.padding != (kernel[0] // 2, kernel[1] // 2)
        or not all(side % 2 for side in kernel)
    ):
        raise ValueError(
            "merge_branches takes depthwise convolutions with odd kernels, stride 1 and zero "
            f"padding that keeps the map's size, not {layer}."
        )
    weight, bias = fused_with_norm(layer, norm)
    return weight.detach(), bias.detach()


def _convolution(weight: torch.Tensor, bias: torch.Tensor) -> LargeKernelConv2d:
    channels, kernel = len(weight), (weight.shape[2], weight.shape[3])
    with torch.device("meta"):  # its weights are not drawn, which takes longer than the merging
        layer = LargeKernelConv2d(
            channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2), groups=channels
        )
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
