"""Batch normalization folded into the convolution before it."""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from wsolviz.backends.dataflow import Dataflow
from wsolviz.backends.large_kernel import LargeKernelConv2d

# Exact types: a subclass may use its weight in another way, as weight-standardized convolutions do.
CONVOLUTIONS = (nn.Conv2d, Conv2dSame, LargeKernelConv2d)
BATCH_NORMS = (nn.BatchNorm2d, BatchNormAct2d, FrozenBatchNormAct2d)


def fold_batch_norms(module: nn.Module, flow: Dataflow) -> None:
    """Fold each BatchNorm that alone takes a convolution's output into that convolution, in place.

    In eval mode BatchNorm is γ·(x − μ)/σ + β with constants, so behind a convolution W∗x + b it is
    the convolution (γ/σ·W)∗x + γ·(b − μ)/σ + β. The norm's place keeps its activation, if any.
    """
    for name, consumer in flow.sole_consumers.items():
        layer, norm = module.get_submodule(name), module.get_submodule(consumer)
        if type(layer) in CONVOLUTIONS and type(norm) in BATCH_NORMS:
            _fold(cast(nn.Conv2d, layer), cast(nn.BatchNorm2d, norm))
            module.set_submodule(consumer, getattr(norm, "act", nn.Identity()))


def _fold(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        cast(torch.Tensor, norm.running_mean),
        cast(torch.Tensor, norm.running_var),
        norm.eps,
        norm.weight,
        norm.bias,
    )
