"""SLaK: kernels as wide as 51×51, kept cheap by thin factors (Liu et al., ICLR 2023, 2207.03620).

A ConvNeXt whose 7×7 depthwise convolution becomes the sum of a k×5, a 5×k and a 5×5 one, each with
its BatchNorm. Parameter names are those of the official checkpoints (MIT licence). Those were
trained with dynamic sparsity, which leaves zeros in the weights and nothing in the network's form.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers.norm import LayerNorm2d
from torch import nn

from wsolviz.backends.architecture import Architecture, register_architecture, register_variants
from wsolviz.backends.large_kernel import merge_branches
from wsolviz.backends.replknet import ConvNorm, LargeKernel

KERNEL_SIZES = (51, 49, 47, 13)
SMALL_KERNEL = 5
WIDTH_FACTOR = 1.3
LAYER_SCALE = 1e-6
EPS = 1e-6


@dataclass(frozen=True)
class Kernels:
    """The large convolutions of the four stages.

    Attributes:
        sizes: their longer sides; odd.
        decomposed: k×5 and 5×k beside 5×5, rather than k×k beside 5×5.
    """

    sizes: tuple[int, ...] = KERNEL_SIZES
    decomposed: bool = True

    @classmethod
    def parse(cls, text: str) -> Kernels:
        """From "61-59-57-13" or "31-29-27-13-plain".

        Raises:
            ValueError: anything else.
        """
        found = re.fullmatch(r"(\d+)-(\d+)-(\d+)-(\d+)(-plain)?", text)
        sizes = tuple(map(int, found.groups()[:4])) if found else ()
        if found is None or any(size % 2 == 0 or size < SMALL_KERNEL for size in sizes):
            raise ValueError(
                f"{text!r} does not say which kernels the four stages have: four odd sides of at "
                f"least {SMALL_KERNEL}, such as 61-59-57-13, and -plain behind them for square "
                "kernels in place of the two thin ones."
            )
        return cls(sizes, found[5] is None)

    @classmethod
    def of_state(cls, state: Mapping[str, torch.Tensor]) -> Kernels:
        """What a state dict holds; what it does not say is as in the official networks."""
        for decomposed, layer in ((True, "LoRA1"), (False, "lkb_origin")):
            weights = [
                state.get(f"stages.{stage}.0.large_kernel.{layer}.conv.weight")
                for stage in range(4)
            ]
            if all(weight is not None and weight.ndim == 4 for weight in weights):
                return cls(tuple(w.shape[2] for w in weights if w is not None), decomposed)
        return cls()

    @property
    def text(self) -> str:
        """As `parse` takes it."""
        return "-".join(map(str, self.sizes)) + ("" if self.decomposed else "-plain")


class ThinKernels(nn.Module):
    """The sum of a k×5, a 5×k and a 5×5 depthwise convolution, each with its BatchNorm."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.LoRA1 = ConvNorm(channels, channels, (kernel_size, SMALL_KERNEL), depthwise=True)
        self.LoRA2 = ConvNorm(channels, channels, (SMALL_KERNEL, kernel_size), depthwise=True)
        self.small_conv = ConvNorm(channels, channels, SMALL_KERNEL, depthwise=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        thin: torch.Tensor = self.LoRA1(x) + self.LoRA2(x)
        return thin + self.small_conv(x)

    def merged(self) -> nn.Module:
        """Two thin convolutions, one with the small kernel in its middle; the same in eval mode."""
        parts = (self.LoRA1, self.LoRA2, self.small_conv)
        return merge_branches([(part.conv, part.bn) for part in parts])


class Block(nn.Module):
    """x + γ·(large kernel, LayerNorm, linear, GELU, linear)."""

    def __init__(self, channels: int, kernel_size: int, decomposed: bool) -> None:
        super().__init__()
        self.large_kernel: nn.Module = (
            ThinKernels(channels, kernel_size)
            if decomposed
            else LargeKernel(channels, kernel_size, SMALL_KERNEL)
        )
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        inner = self.norm(self.large_kernel(x).permute(0, 2, 3, 1))
        inner = self.gamma * self.pwconv2(self.act(self.pwconv1(inner)))
        return x + inner.permute(0, 3, 1, 2)


class StagedNetwork(nn.Module):
    """ConvNeXt's frame around any blocks; its head is global average, LayerNorm, linear.

    Args:
        stem: (B,3,H,W) to the first stage's channels, without its norm.
        channels: of the stages.
        stages: in their order; may be made while they are read.
        num_classes: K.
    """

    def __init__(
        self,
        stem: nn.Conv2d,
        channels: Sequence[int],
        stages: Iterable[nn.Module],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(stem, LayerNorm2d(channels[0], eps=EPS))]
        )
        for width, wider in itertools.pairwise(channels):
            self.downsample_layers.append(
                nn.Sequential(LayerNorm2d(width, eps=EPS), nn.Conv2d(width, wider, 2, 2))
            )
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(channels[-1], eps=EPS)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,C,h,w), the last stage's map."""
        x = images
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return x

    def forward_head(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K)."""
        logits: torch.Tensor = self.head(self.norm(feature_map.mean(dim=(2, 3))))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to the logits (B,K)."""
        return self.forward_head(self.forward_features(images))


class SLaK(StagedNetwork):
    """The network; its map has H/32×W/32 positions.

    Args:
        channels: of the four stages.
        depths: blocks of the four stages.
        kernels: of the four stages.
        num_classes: K.
    """

    def __init__(
        self,
        channels: Sequence[int],
        depths: Sequence[int],
        kernels: Kernels = Kernels(),
        num_classes: int = 1000,
    ) -> None:
        stages = (
            nn.Sequential(*(Block(width, side, kernels.decomposed) for _ in range(depth)))
            for width, depth, side in zip(channels, depths, kernels.sizes, strict=True)
        )
        super().__init__(nn.Conv2d(3, channels[0], 4, 4), channels, stages, num_classes)


def _options_of(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {"kernels": Kernels.of_state(state)}


def _variant_of(state: Mapping[str, torch.Tensor]) -> str:
    kernels = Kernels.of_state(state)
    return "" if kernels == Kernels() else f"/{kernels.text}"


def _options_of_name(text: str) -> dict[str, Any]:
    return {"kernels": Kernels.parse(text)}


def _register(name: str, base: Sequence[int], depths: Sequence[int]) -> None:
    channels = [int(WIDTH_FACTOR * width) for width in base]
    architecture = Architecture(
        name=name,
        help=f"depthwise kernels {'-'.join(map(str, KERNEL_SIZES))} in thin factors",
        build=partial(SLaK, channels, depths),
        options_of=_options_of,
        variant_of=_variant_of,
    )
    register_architecture(architecture)
    register_variants(
        architecture,
        _options_of_name,
        f"{name} with other kernels: {name}/61-59-57-13, {name}/31-29-27-13-plain",
    )


_register("slak_tiny", (96, 192, 384, 768), (3, 3, 9, 3))
_register("slak_small", (96, 192, 384, 768), (3, 3, 27, 3))
_register("slak_base", (128, 256, 512, 1024), (3, 3, 27, 3))
