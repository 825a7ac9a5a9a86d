"""RepLKNet: depthwise convolutions as wide as 31×31 (Ding et al., CVPR 2022, arXiv 2203.06717).

Parameter names are those of the official checkpoints (MIT licence), so that these load as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from wsolviz.backends.architecture import Architecture, register_architecture
from wsolviz.backends.large_kernel import LargeKernelConv2d, merge_branches
from wsolviz.preprocess import Preprocessing

BLOCKS = (2, 2, 18, 2)
FFN_RATIO = 4


class ConvNorm(nn.Sequential):
    """A convolution without bias, its BatchNorm, and a ReLU if asked for; "same" padding."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.conv = (LargeKernelConv2d if depthwise else nn.Conv2d)(
            in_channels,
            channels,
            sides,
            stride,
            padding=(sides[0] // 2, sides[1] // 2),
            groups=channels if depthwise else 1,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(channels)
        if relu:
            self.nonlinear = nn.ReLU()


class LargeKernel(nn.Module):
    """A large depthwise convolution and, in training, a small one beside it (section 3.2).

    Attributes:
        lkb_origin: the large one.
        small_conv: the small one, absent where `small_kernel` is None.
    """

    def __init__(self, channels: int, kernel_size: int, small_kernel: int | None) -> None:
        super().__init__()
        self.lkb_origin = ConvNorm(channels, channels, kernel_size, depthwise=True)
        self.small_conv = (
            None
            if small_kernel is None
            else ConvNorm(channels, channels, small_kernel, depthwise=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        wide: torch.Tensor = self.lkb_origin(x)
        return wide if self.small_conv is None else wide + self.small_conv(x)

    def merged(self) -> nn.Module:
        """One convolution that gives the same in eval mode."""
        parts = (self.lkb_origin, self.small_conv)
        return merge_branches([(part.conv, part.bn) for part in parts if part is not None])


class LargeKernelBlock(nn.Module):
    """x + BN, 1×1, large kernel, ReLU, 1×1."""

    def __init__(
        self, channels: int, inner: int, kernel_size: int, small_kernel: int | None
    ) -> None:
        super().__init__()
        self.pw1 = ConvNorm(channels, inner, relu=True)
        self.pw2 = ConvNorm(inner, channels)
        self.large_kernel = LargeKernel(inner, kernel_size, small_kernel)
        self.lk_nonlinear = nn.ReLU()
        self.prelkb_bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        inner = self.lk_nonlinear(self.large_kernel(self.pw1(self.prelkb_bn(x))))
        return x + self.pw2(inner)


class FeedForward(nn.Module):
    """x + BN, 1×1, GELU, 1×1: a transformer's feed-forward layers as convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.preffn_bn = nn.BatchNorm2d(channels)
        self.pw1 = ConvNorm(channels, FFN_RATIO * channels)
        self.pw2 = ConvNorm(FFN_RATIO * channels, channels)
        self.nonlinear = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        return x + self.pw2(self.nonlinear(self.pw1(self.preffn_bn(x))))


class Stage(nn.Module):
    """Blocks of one width, large kernel and feed-forward in turn."""

    def __init__(
        self, channels: int, inner: int, kernel_size: int, small_kernel: int | None, depth: int
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for _ in range(depth):
            blocks += [
                LargeKernelBlock(channels, inner, kernel_size, small_kernel),
                FeedForward(channels),
            ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        return self.blocks(x)


class RepLKNet(nn.Module):
    """The network; its head is BatchNorm, global average, linear.

    Args:
        channels: of the four stages.
        kernel_sizes: of the large convolutions of the four stages.
        inner_ratio: channels of the large convolutions over those of their stage.
        small_kernel: side of the parallel convolution, None for none.
        num_classes: K.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel_sizes: Sequence[int],
        *,
        inner_ratio: float = 1.0,
        small_kernel: int | None = 5,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        first = channels[0]
        self.stem = nn.ModuleList(
            [
                ConvNorm(3, first, 3, stride=2, relu=True),
                ConvNorm(first, first, 3, depthwise=True, relu=True),
                ConvNorm(first, first, relu=True),
                ConvNorm(first, first, 3, stride=2, depthwise=True, relu=True),
            ]
        )
        self.stages = nn.ModuleList(
            Stage(width, int(width * inner_ratio), kernel_size, small_kernel, depth)
            for width, kernel_size, depth in zip(channels, kernel_sizes, BLOCKS, strict=True)
        )
        self.transitions = nn.ModuleList(
            nn.Sequential(
                ConvNorm(width, wider, relu=True),
                ConvNorm(wider, wider, 3, stride=2, depthwise=True, relu=True),
            )
            for width, wider in itertools.pairwise(channels)
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,C,H/32,W/32), the map before the last BatchNorm."""
        x = images
        for layer in self.stem:
            x = layer(x)
        for stage, transition in zip(self.stages, (*self.transitions, nn.Identity()), strict=True):
            x = transition(stage(x))
        return x

    def forward_head(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K)."""
        logits: torch.Tensor = self.head(self.avgpool(self.norm(feature_map)).flatten(1))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to the logits (B,K)."""
        return self.forward_head(self.forward_features(images))


def _register(
    name: str,
    size: int,
    channels: Sequence[int],
    kernel_sizes: Sequence[int] = (31, 29, 27, 13),
    *,
    inner_ratio: float = 1.0,
    small_kernel: int | None = 5,
) -> None:
    # Table 5 of the paper, and the input sizes of the official ImageNet checkpoints.
    sides = "-".join(map(str, kernel_sizes))
    register_architecture(
        Architecture(
            name=name,
            help=f"depthwise kernels {sides}",
            build=partial(
                RepLKNet,
                channels,
                kernel_sizes,
                inner_ratio=inner_ratio,
                small_kernel=small_kernel,
            ),
            preprocessing=Preprocessing(size=(size, size)),
        )
    )


_register("replknet_31b", 224, (128, 256, 512, 1024))
_register("replknet_31l", 384, (192, 384, 768, 1536))
_register(
    "replknet_xl",
    320,
    (256, 512, 1024, 2048),
    (27, 27, 27, 13),
    inner_ratio=1.5,
    small_kernel=None,
)
