"""One forward pass: the fast copy, and `extract` with the heatmaps, against timm's default forward.

    python -m benchmarks.extract

All sides run in turns on the same photo-sized noise, each given as the median over the turns. The
bound is the network's multiplications and additions at the rate of this processor's best large
matrix product, measured in the same turns: no float32 forward pass can be faster. With one thread
the times are that thread's CPU time, which other processes hardly disturb; with more, wall time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import wsolviz.analysis  # noqa: F401 - registers the methods
from wsolviz.backends.activations import NO_ACTIVATION
from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.fast import accelerate
from wsolviz.backends.packed_layers import PackedLinear
from wsolviz.backends.packing import packed_bytes
from wsolviz.backends.timm_backbone import as_backbone
from wsolviz.methods import METHODS

MODELS = ("convnext_base", "convnext_tiny", "resnet50", "tf_efficientnet_lite0")
HEADERS = (
    "default",
    "fast",
    "ratio",
    "extract+maps",
    "ratio",
    "bound",
    "deviation",
    "made in",
    "packed",
)
SIDE = 1024  # of the matrix product: large enough for the full rate, small enough for the cache


@dataclass(frozen=True)
class Row:
    """Milliseconds of one network, the deviation of its logits, and megabytes of packed weights."""

    default: float
    fast: float
    extract_and_maps: float
    bound: float
    deviation: float
    making: float
    packed: float

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of HEADERS."""
        return (
            f"{self.default:.0f} ms",
            f"{self.fast:.0f} ms",
            f"{self.default / self.fast:.2f}×",
            f"{self.extract_and_maps:.0f} ms",
            f"{self.extract_and_maps / self.default:.2f}×",
            f"{self.bound:.0f} ms",
            f"{self.deviation:.0e}",
            f"{self.making:.0f} ms",
            f"{self.packed:.0f} MB",
        )


@torch.no_grad()
def measure(name: str, size: int, repeats: int) -> Row:
    """Time one network with random weights."""
    module = timm.create_model(name).eval().requires_grad_(False)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    start = clock()
    fast: Any = accelerate(module, channels_last)
    making = 1000 * (clock() - start)
    backbone = as_backbone(name, module, WeightsInfo("random"))
    free = [panel for panel in METHODS.values() if panel.cost == "free"]
    product = PackedLinear(nn.Linear(SIDE, SIDE), torch.Size([SIDE, SIDE]), NO_ACTIVATION)
    matrix = torch.randn(SIDE, SIDE)

    def forward_fast() -> torch.Tensor:
        return fast.forward_head(fast.forward_features(channels_last))

    def extract_and_maps() -> list[torch.Tensor]:
        features = backbone.extract(images)
        return [panel(features, None) for panel in free]

    with FlopCounterMode(display=False) as counter:
        expected = module(images)
    deviation = float((forward_fast() - expected).abs().max() / expected.abs().max())
    sides = [lambda: module(images), forward_fast, extract_and_maps, lambda: product(matrix)]
    default, accelerated, extracted, multiplied = medians_in_turns(sides, repeats)
    bound = multiplied * counter.get_total_flops() / (2 * SIDE**3)
    packed = packed_bytes(fast) / 1e6
    return Row(default, accelerated, extracted, bound, deviation, making, packed)


def medians_in_turns(sides: list[Callable[[], object]], repeats: int) -> list[float]:
    """Milliseconds of each side, the median over turns; two turns before them warm up."""
    times = np.empty((repeats + 2, len(sides)))
    with torch.inference_mode():
        for turn in times:
            for i, side in enumerate(sides):
                start = clock()
                side()
                turn[i] = clock() - start
    return (1000 * np.median(times[2:], axis=0)).tolist()


def clock() -> float:
    """Seconds, of CPU time where one thread does all the work."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the fast copy against timm's default.")
    parser.add_argument("models", nargs="*", default=MODELS, help="timm names")
    parser.add_argument("--size", type=int, default=384, help="side of the input in pixels")
    parser.add_argument("--repeats", type=int, default=9, help="turns that the median is over")
    parser.add_argument("--threads", type=int, default=2, help="that torch may use")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{'':<24}" + "".join(f"{header:>14}" for header in HEADERS))
    for name in arguments.models:
        cells = measure(name, arguments.size, arguments.repeats).cells()
        print(f"{name:<24}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
