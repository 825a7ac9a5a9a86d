"""Networks with large kernels on the CPU: ours against plain PyTorch.

    python -m benchmarks.large_kernel

The plain side is the same network with the same weights as its papers' code computes it: plain
`nn.Conv2d`, contiguous maps, parallel branches one by one. Ours is what `load_backbone` and
`extract` run, and for the training step the network as it is loaded. The sides take turns in one
process; each time is the median over the turns, the least in brackets.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.layers.norm import LayerNorm2d
from torch import nn
from torch.nn import functional

import wsolviz.analysis  # noqa: F401 - registers the methods
from wsolviz.backends.architecture import ARCHITECTURES, NetworkBackbone
from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.depthwise import depthwise_conv2d
from wsolviz.backends.fast import accelerate
from wsolviz.backends.large_kernel import LargeKernelConv2d
from wsolviz.backends.replknet import Stage
from wsolviz.methods import METHODS
from wsolviz.ui.controls import EXAMPLES

Sides: TypeAlias = dict[str, Callable[[], object]]

NETWORKS = ("replknet_31b", "slak_tiny")
PARTS = ("convolutions", "forward", "gradient", "training")
FORWARD = ("plain", "ours", "plain, bfloat16", "ours, bfloat16")
GRADIENT = ("plain", "ours", "ours, fast copy")
LAYOUT = torch.channels_last
# (B,C,H,W) and kernel: the first of RepLKNet-31B at 384, then training at 224, then SLaK-T's.
CONVOLUTIONS = (
    ((1, 128, 96, 96), (31, 31)),
    ((4, 128, 56, 56), (31, 31)),
    ((4, 256, 28, 28), (29, 29)),
    ((4, 512, 14, 14), (27, 27)),
    ((4, 124, 56, 56), (51, 5)),
    ((4, 124, 56, 56), (5, 51)),
    ((4, 496, 14, 14), (5, 47)),
)
# Channels and kernel of three stages of RepLKNet-31B, with the sides of their maps at 224.
STAGES = ((128, 31, 56), (256, 29, 28), (512, 27, 14))
BATCH = 4


class PlainLayerNorm2d(LayerNorm2d):
    """LayerNorm over channels written out on the contiguous map, as SLaK's code has it.

    timm's permutes, and its output happens to be channels_last, so that the whole network is.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to the same shape."""
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        normed = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    LargeKernelConv2d: nn.Conv2d,
    LayerNorm2d: PlainLayerNorm2d,
}


def plain_copy(module: nn.Module) -> nn.Module:
    """The same network without anything of ours."""
    return as_plain(copy.deepcopy(module))


def as_plain(module: nn.Module) -> nn.Module:
    for layer in module.modules():
        for ours, theirs in PLAIN.items():
            if type(layer) is ours:
                layer.__class__ = theirs
    return module


def in_turns(sides: Sides, turns: int) -> dict[str, list[float]]:
    """Milliseconds of each side in each turn, after one turn that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def cells(times: dict[str, list[float]], against: str) -> list[str]:
    """Median, least, and the ratio of the medians to that of one side."""
    base = statistics.median(times[against])
    return [
        f"{(median := statistics.median(values)):.1f} ms ({min(values):.1f})  {base / median:.2f}×"
        for values in times.values()
    ]


def build(name: str) -> nn.Module:
    """A network in eval mode, its norms with statistics of their own as trained ones have."""
    torch.manual_seed(0)
    module = ARCHITECTURES[name].make().eval().requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_var is not None and layer.running_mean is not None
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    return module


def backbone_of(name: str, module: nn.Module, size: int, dtype: torch.dtype) -> NetworkBackbone:
    """What the project's own loading makes of a network."""
    preprocessing = replace(ARCHITECTURES[name].preprocessing, size=(size, size))
    info = WeightsInfo("random")
    backbone = NetworkBackbone(name, module, preprocessing, weights=info, precision=dtype)
    backbone.prepare()
    return backbone


def example_photo(backbone: NetworkBackbone) -> torch.Tensor:
    return backbone.preprocess(Image.open(EXAMPLES[0]))[None]


def stage_step(channels: int, kernel: int, side: int, plain: bool) -> Callable[[], None]:
    """Forward and backward of one stage of two blocks, weights and input differentiated."""
    torch.manual_seed(0)
    stage: nn.Module = Stage(channels, channels, kernel, 5, 2)
    x = torch.randn(BATCH, channels, side, side)
    stage, x = (as_plain(stage), x) if plain else (stage, x.contiguous(memory_format=LAYOUT))

    def step() -> None:
        stage.zero_grad()
        stage(x.detach().requires_grad_()).square().mean().backward()

    return step


def compare_convolutions(turns: int) -> Table:
    table = Table("map", "kernel", "plain", "ours", title="one convolution, forward and gradients")
    for shape, kernel in CONVOLUTIONS:
        weight = torch.randn(shape[1], 1, *kernel, requires_grad=True)
        x, incoming = torch.randn(shape, requires_grad=True), torch.randn(shape)
        last = [t.detach().contiguous(memory_format=LAYOUT) for t in (x, incoming)]
        ours_x, ours_incoming = last[0].requires_grad_(), last[1]
        plain = partial(
            functional.conv2d, padding=(kernel[0] // 2, kernel[1] // 2), groups=shape[1]
        )

        def step(
            convolve: Callable[..., torch.Tensor],
            x: torch.Tensor,
            incoming: torch.Tensor,
            weight: torch.Tensor = weight,
        ) -> None:
            torch.autograd.grad(convolve(x, weight), (x, weight), incoming)

        sides: Sides = {
            "plain": partial(step, plain, x, incoming),
            "ours": partial(step, depthwise_conv2d, ours_x, ours_incoming),
        }
        table.add_row(f"{shape}", f"{kernel}", *cells(in_turns(sides, turns), "plain"))
    return table


def compare_forward(size: int, turns: int) -> Table:
    table = Table("network", *FORWARD, "deviation", "heatmaps", title=f"forward at {size}×{size}")
    for name in NETWORKS:
        module = build(name)
        plain = plain_copy(module)
        full, half = (backbone_of(name, module, size, d) for d in (torch.float32, torch.bfloat16))
        images = example_photo(full)

        def rounded(plain: nn.Module = plain, images: torch.Tensor = images) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return plain(images)

        sides = (
            partial(plain, images),
            partial(full.extract, images),
            rounded,
            partial(half.extract, images),
        )
        with torch.no_grad():
            times = in_turns(dict(zip(FORWARD, sides, strict=True)), turns)
            expected, features = plain(images), full.extract(images)
            cams = [METHODS["cam"](f, None) for f in (features, half.extract(images))]
        deviation = float((features.logits - expected).abs().max() / expected.abs().max())
        correlation = float(torch.corrcoef(torch.stack([cam.flatten() for cam in cams]))[0, 1])
        table.add_row(name, *cells(times, "plain"), f"{deviation:.0e}", f"{correlation:.5f}")
    return table


def input_gradient(network: Any, images: torch.Tensor) -> torch.Tensor:
    """Of the centre of the last map, as the effective receptive field takes it."""
    images = images.detach().requires_grad_()
    features = network.forward_features(images)
    centre = features[:, :, features.shape[2] // 2, features.shape[3] // 2].relu().sum()
    return torch.autograd.grad(centre, images)[0]


def compare_gradient(size: int, turns: int) -> Table:
    table = Table("network", *GRADIENT, "deviation", title=f"input gradient at {size}×{size}")
    for name in NETWORKS:
        module = build(name)
        plain, images = plain_copy(module), torch.randn(1, 3, size, size)
        last = images.contiguous(memory_format=LAYOUT)
        fast = accelerate(module, last)
        networks = ((plain, images), (module, last), (fast, last))
        sides = [partial(input_gradient, *network) for network in networks]
        times = in_turns(dict(zip(GRADIENT, sides, strict=True)), turns)
        expected, given = sides[0](), sides[2]()
        deviation = float((given - expected).norm() / expected.norm())
        table.add_row(name, *cells(times, "plain"), f"{deviation:.0e}")
    return table


def compare_training(turns: int) -> Table:
    table = Table("stage", "plain", "ours", title=f"training step of a stage, batch {BATCH}")
    for channels, kernel, side in STAGES:
        steps: Sides = {
            who: stage_step(channels, kernel, side, who == "plain") for who in ("plain", "ours")
        }
        label = f"{channels} channels, {kernel}×{kernel}, {side}×{side} map"
        table.add_row(label, *cells(in_turns(steps, turns), "plain"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Time networks with large kernels on the CPU.")
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--size", type=int, default=384, help="side of the input in pixels")
    parser.add_argument("--turns", type=int, default=7, help="turns that the median is over")
    parser.add_argument("--threads", type=int, default=2, help="that torch may use")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compare: dict[str, Callable[[], Table]] = {
        "convolutions": partial(compare_convolutions, options.turns),
        "forward": partial(compare_forward, options.size, options.turns),
        "gradient": partial(compare_gradient, options.size, options.turns),
        "training": partial(compare_training, options.turns),
    }
    console = Console(width=150)
    for part in options.parts:
        console.print(compare[part]())


if __name__ == "__main__":
    main()
