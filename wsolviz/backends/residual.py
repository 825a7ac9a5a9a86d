"""Residual blocks whose last convolution adds the shortcut before its output leaves the cache."""

from __future__ import annotations

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn
from torch.nn import functional

from wsolviz.backends.activations import NO_ACTIVATION, RELU
from wsolviz.backends.packed_layers import PackedConv2d


class SummedBlock(nn.Module):
    """relu(last(branch(x)) + shortcut(x)), written to where the shortcut lay; for inference.

    That is one pass over memory where adding to what the last convolution gave takes three. Where
    the shortcut is the input itself, the input is gone afterwards: nothing else may need it. With a
    gradient nothing is overwritten that anyone needs.

    Attributes:
        branch: all layers but the last.
        last: the convolution behind which the shortcut is added.
        shortcut: what the input goes through; an identity in most blocks.
    """

    def __init__(self, branch: nn.Module, last: PackedConv2d, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.last, self.shortcut = branch, last, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to (B,C',H',W')."""
        y, shortcut = self.branch(x), self.shortcut(x)
        if self.last.adds_to(shortcut, y):
            return self.last.relu_of_sum(shortcut, y)
        return functional.relu(self.last(y).add_(shortcut), inplace=True)


def sum_in_place(module: nn.Module) -> None:
    """Replace timm's residual blocks by `SummedBlock`, where they consist of nothing else.

    To be called when the batch norms are folded and the convolutions packed.
    """
    for name, block in list(module.named_modules()):
        summed = _summed(block)
        if summed is not None:
            module.set_submodule(name, summed)


def _summed(block: nn.Module) -> SummedBlock | None:
    """What takes a block's place; None where it is more than convolutions with a ReLU behind each.

    In eval mode a block's dropouts do nothing.
    """
    layers: list[nn.Module]
    if type(block) is Bottleneck:
        layers, norm, activation = [block.conv1, block.conv2, block.conv3], block.bn3, block.act3
    elif type(block) is BasicBlock:
        layers, norm, activation = [block.conv1, block.conv2], block.bn2, block.act2
    else:
        return None
    packed = [layer for layer in layers if isinstance(layer, PackedConv2d)]
    activations = [RELU] * (len(layers) - 1) + [NO_ACTIVATION]
    if (
        [layer.activation for layer in packed] == activations
        and type(norm) is type(block.aa) is nn.Identity
        and type(activation) is nn.ReLU
        and block.se is None
    ):
        *inner, last = packed
        shortcut = nn.Identity() if block.downsample is None else block.downsample
        return SummedBlock(nn.Sequential(*inner), last, shortcut)
    return None
