"""An effective receptive field, against plain PyTorch on the network as it is defined.

    python -m benchmarks.erf

Each side runs in a process of its own, so that its peak memory is known, with the same weights and
the same images; the sides take turns. A process builds its network, measures one image to warm up
(`first`: weights are packed, and the system clears the pages of memory) and at once, `--repeats`
times, the mean over `--images` images, one a pass; its time is the median seconds an image. The
plain side is what the papers' scripts do: the unfused network in PyTorch's
own layers and layout, and `torch.autograd.grad`. The peak is that of the whole process, with the
building of the network.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsolviz.analysis.erf import erf_area
from wsolviz.backends.base import Backbone
from wsolviz.backends.large_kernel import LargeKernelConv2d
from wsolviz.backends.loading import load_backbone
from wsolviz.receptive_field import erf

CASES = (("replknet_31b", 1024), ("timm/resnet50", 512), ("timm/convnext_tiny", 512))
SIDES = ("plain", "float32", "bfloat16")
FIGURES = ("seconds", "first", "peak")


def plain_erf(backbone: Backbone, images: torch.Tensor) -> NDArray[np.float64]:
    """(H,W), the mean over the images, as plain PyTorch gives it."""
    total = np.zeros(images.shape[2:])
    for image in torch.split(images, 1):
        asking = image.clone().requires_grad_()
        feature_map = backbone.forward_map(backbone.module, asking)
        h, w = feature_map.shape[2:]
        asked = feature_map[:, :, h // 2, w // 2].relu().sum()
        (gradient,) = torch.autograd.grad(asked, asking)
        total += gradient.relu().sum(dim=(0, 1)).numpy()
    return total / len(images)


def plain_backbone(name: str) -> Backbone:
    """The backbone with PyTorch's own convolutions in place of the fast ones, and gradients on."""
    backbone = load_random(name, "float32")
    for layer in backbone.module.modules():
        if type(layer) is LargeKernelConv2d:
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
    backbone.module.requires_grad_(True)
    return backbone


def load_random(name: str, precision: Any) -> Backbone:
    """With random weights, the same at each call."""
    torch.manual_seed(0)
    return load_backbone(name, None, device="cpu", precision=precision)


def work(name: str, size: int, side: str, count: int, repeats: int) -> None:
    """Measure one side and print what was found as JSON."""
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    backbone = plain_backbone(name) if side == "plain" else load_random(name, side)
    measure = plain_erf if side == "plain" else erf
    start = time.perf_counter()
    areas = erf_area(measure(backbone, images[:1]))[:, 1].tolist()
    first = time.perf_counter() - start
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        measure(backbone, images)
        seconds.append((time.perf_counter() - start) / count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": statistics.median(seconds), "first": first, "peak": peak, "areas": areas}
    print(json.dumps(found))


def run_side(name: str, size: int, side: str, options: list[str]) -> dict[str, Any]:
    """One side in a process of its own."""
    arguments = ["--work", name, str(size), side]
    command = [sys.executable, "-m", "benchmarks.erf", *arguments, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, size: int, turns: int, options: list[str]) -> None:
    """Run the sides in turns and print their medians and ratios."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(turns):
        for side in SIDES:
            runs[side].append(run_side(name, size, side, options))
    medians = {
        side: {key: statistics.median(run[key] for run in runs[side]) for key in FIGURES}
        for side in SIDES
    }
    exact = np.array(runs["float32"][0]["areas"])
    for side, found in medians.items():
        seconds, first, peak = (found[key] for key in FIGURES)
        plain = medians["plain"]
        off = np.abs(np.array(runs[side][0]["areas"]) / exact - 1).max()
        print(
            f"{name} {size}×{size} {side:>8}: "
            f"{seconds:7.2f} s {plain['seconds'] / seconds:6.2f} x, first {first:6.2f} s; "
            f"{peak:6.0f} MiB {peak / plain['peak']:5.2f} x; "
            f"areas off float32's by {off:.2%}",
            flush=True,
        )


def main() -> None:
    """Measure all cases, or one side of one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs=3, metavar=("NAME", "SIZE", "SIDE"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--images", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.work:
        name, size, side = arguments.work
        work(name, int(size), side, arguments.images, arguments.repeats)
        return
    for name, size in CASES:
        options = [f"--{key}={getattr(arguments, key)}" for key in ("repeats", "images")]
        compare(name, size, arguments.turns, options)


if __name__ == "__main__":
    main()
