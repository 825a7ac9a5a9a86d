"""Small networks of equal size for 64×64 images, which differ in how they look around.

They answer in miniature what CAM Back Again (Yasuki & Taki, CVPR 2024) asks of networks that cost
weeks to train: what the kernel's width and form do to receptive field and localization. Stem,
widening, depth and head are the same: ConvNeXt's. The blocks are those of three papers:

- small_convnext: a k×k depthwise convolution, LayerNorm, feed-forward (Liu et al., CVPR 2022);
- small_replknet: k×k beside 5×5, each with BatchNorm, then feed-forward (Ding et al., CVPR 2022);
- small_slak: k×5, 5×k and 5×5, each with BatchNorm, LayerNorm, feed-forward (Liu et al., 2022).

RepLKNet's blocks have two 1×1 convolutions more, so its stages are narrower.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from wsolviz.backends.architecture import Architecture, register_architecture, register_variants
from wsolviz.backends.large_kernel import LargeKernelConv2d
from wsolviz.backends.replknet import FeedForward, LargeKernelBlock
from wsolviz.backends.slak import SMALL_KERNEL, Block, StagedNetwork
from wsolviz.preprocess import Preprocessing

Kind = Literal["convnext", "replknet", "slak"]

DEPTHS = (1, 2, 3)
CHANNELS: dict[Kind, tuple[int, ...]] = {
    "convnext": (24, 48, 96),
    "replknet": (22, 44, 86),
    "slak": (24, 48, 96),
}
USUAL_KERNEL: dict[Kind, int] = {"convnext": 7, "replknet": 13, "slak": 31}
SIDES = (32, 16, 8)  # of the stages' maps at 64×64
# ConvNeXt's 1e-6 is for hundreds of epochs; a short training would end before blocks count.
LAYER_SCALE = 0.1


class SmallNetwork(StagedNetwork):
    """The network; its map has H/8×W/8 positions.

    Args:
        kind: whose blocks.
        kernel_size: longer side of the depthwise convolutions, odd; where a stage's map is so small
            that the kernel would only meet zeros, the kernel ends at 2·side − 1.
        num_classes: K.
    """

    def __init__(self, kind: Kind, kernel_size: int = 7, num_classes: int = 200) -> None:
        channels = CHANNELS[kind]
        stages = (
            _stage(kind, width, min(kernel_size, 2 * side - 1), depth)
            for width, side, depth in zip(channels, SIDES, DEPTHS, strict=True)
        )
        super().__init__(nn.Conv2d(3, channels[0], 4, 2, 1), channels, stages, num_classes)


def _stage(kind: Kind, channels: int, kernel_size: int, depth: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for _ in range(depth):
        if kind == "replknet":
            blocks += [
                LargeKernelBlock(channels, channels, kernel_size, SMALL_KERNEL),
                FeedForward(channels),
            ]
            continue
        block = Block(channels, kernel_size, decomposed=True)
        if kind == "convnext":
            block.large_kernel = LargeKernelConv2d(
                channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
            )
        nn.init.constant_(block.gamma, LAYER_SCALE)
        blocks.append(block)
    return nn.Sequential(*blocks)


def _options_of(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The kernel size is the longest side of the first stage's kernels."""
    sides = [
        max(tensor.shape[2:])
        for name, tensor in state.items()
        if name.startswith("stages.0.0.large_kernel") and tensor.ndim == 4
    ]
    return {"kernel_size": max(sides)} if sides else {}


def _options_of_name(text: str) -> dict[str, Any]:
    if not re.fullmatch(r"\d{1,2}", text) or int(text) % 2 == 0 or int(text) < SMALL_KERNEL:
        raise ValueError(
            f"{text!r} is no kernel size of a small network: an odd one from {SMALL_KERNEL} to 63."
        )
    return {"kernel_size": int(text)}


def _variant_of(kind: Kind, state: Mapping[str, torch.Tensor]) -> str:
    size = _options_of(state).get("kernel_size", USUAL_KERNEL[kind])
    return "" if size == USUAL_KERNEL[kind] else f"/{size}"


def _register(kind: Kind, forms: str) -> None:
    usual = USUAL_KERNEL[kind]
    name = f"small_{kind}"
    architecture = Architecture(
        name=name,
        help=f"for 64×64 images, kernels {forms}, k = {usual}",
        build=partial(SmallNetwork, kind, kernel_size=usual),
        preprocessing=Preprocessing(size=(64, 64)),
        num_classes=200,
        options_of=_options_of,
        variant_of=partial(_variant_of, kind),
    )
    register_architecture(architecture)
    register_variants(architecture, _options_of_name, f"{name} with another k: {name}/31")


_forms: Sequence[tuple[Kind, str]] = (
    ("convnext", "k×k"),
    ("replknet", "k×k beside 5×5"),
    ("slak", "k×5 and 5×k beside 5×5"),
)
for _kind, _text in _forms:
    _register(_kind, _text)
