"""Batch normalization folded into the convolution before it."""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d
from torch import nn

from wsolviz.backends.dataflow import Dataflow
from wsolviz.backends.large_kernel import LargeKernelConv2d, fused_with_norm

# Exact types: a subclass may use its weight in another way, as weight-standardized convolutions do.
CONVOLUTIONS = (nn.Conv2d, Conv2dSame, LargeKernelConv2d)
BATCH_NORMS = (nn.BatchNorm2d, BatchNormAct2d, FrozenBatchNormAct2d)


def fold_batch_norms(module: nn.Module, flow: Dataflow) -> None:
    """Fold each BatchNorm into the convolution before or behind it, in place.

    That is done where nothing else uses what is between the two. In eval mode BatchNorm is
    γ·(x − μ)/σ + β with constants, so behind a convolution W∗x + b it is the convolution
    (γ/σ·W)∗x + γ·(b − μ)/σ + β; the norm's place keeps its activation, if any. Before one without
    padding it scales W by input channel, and W∗(β − γμ/σ) is constant.
    """
    for name in flow.weighted_layers(module):
        fold_beside(module, flow, name)


def fold_beside(module: nn.Module, flow: Dataflow, name: str) -> None:
    """Fold the BatchNorms before and behind one layer into it, in place; see `fold_batch_norms`."""
    layer = module.get_submodule(name)
    behind = flow.sole_consumers.get(name)
    norm = None if behind is None else module.get_submodule(behind)
    if behind is not None and type(layer) in CONVOLUTIONS and type(norm) in BATCH_NORMS:
        convolution = cast(nn.Conv2d, layer)
        fused = fused_with_norm(convolution, cast(nn.BatchNorm2d, norm))
        convolution.weight, convolution.bias = fused
        module.set_submodule(behind, getattr(norm, "act", nn.Identity()))
    ahead = flow.sole_makers.get(name)
    norm = None if ahead is None else module.get_submodule(ahead)
    if ahead is not None and type(norm) is nn.BatchNorm2d and type(layer) is nn.Conv2d:
        maker = flow.sole_makers.get(ahead)  # a convolution there takes the norm, if there is one
        taken = maker is not None and type(module.get_submodule(maker)) in CONVOLUTIONS
        if _unpadded(layer) and not taken:
            _fold_ahead(norm, layer)
            module.set_submodule(ahead, nn.Identity())


def _unpadded(layer: nn.Conv2d) -> bool:
    return layer.padding == (0, 0) and layer.groups == 1


def _fold_ahead(norm: nn.BatchNorm2d, layer: nn.Conv2d) -> None:
    mean, variance = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    constant = layer.weight.sum((2, 3)) @ shift
    bias = constant if layer.bias is None else layer.bias + constant
    layer.weight = nn.Parameter(
        layer.weight * scale[:, None, None], requires_grad=layer.weight.requires_grad
    )
    layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)
