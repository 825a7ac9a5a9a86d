"""An effective receptive field, against plain PyTorch on the network as it is defined.

    python -m benchmarks.erf

Each side runs in a process of its own, so that its peak memory is known, with the same weights and
the same image; the sides take turns. A process builds its network, measures once to warm up and
then `--repeats` times; its time is the median. The plain side is what the papers' scripts do: the
unfused network in PyTorch's own layers and layout, and `torch.autograd.grad`. The peak is that of
the whole process, with the building of the network.
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


def plain_erf(backbone: Backbone, images: torch.Tensor) -> NDArray[np.float32]:
    """(H,W) as plain PyTorch gives it."""
    images = images.clone().requires_grad_()
    feature_map = backbone.forward_map(backbone.module, images)
    h, w = feature_map.shape[2:]
    asked = feature_map[:, :, h // 2, w // 2].relu().sum()
    (gradient,) = torch.autograd.grad(asked, images)
    contribution: NDArray[np.float32] = gradient.relu().sum(dim=(0, 1)).numpy()
    return contribution


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


def work(name: str, size: int, side: str, repeats: int) -> None:
    """Measure one side and print what was found as JSON."""
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    backbone = plain_backbone(name) if side == "plain" else load_random(name, side)
    measure = plain_erf if side == "plain" else erf
    measure(backbone, images)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        contribution = measure(backbone, images)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    areas = erf_area(contribution)[:, 1].tolist()
    print(json.dumps({"seconds": statistics.median(seconds), "peak": peak, "areas": areas}))


def run_side(name: str, size: int, side: str, repeats: int) -> dict[str, Any]:
    """One side in a process of its own."""
    arguments = ["--work", name, str(size), side, "--repeats", str(repeats)]
    command = [sys.executable, "-m", "benchmarks.erf", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, size: int, turns: int, repeats: int) -> None:
    """Run the sides in turns and print their medians and ratios."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(turns):
        for side in SIDES:
            runs[side].append(run_side(name, size, side, repeats))
    plain = {key: statistics.median(r[key] for r in runs["plain"]) for key in ("seconds", "peak")}
    exact = np.array(runs["float32"][0]["areas"])
    for side in SIDES:
        seconds = statistics.median(run["seconds"] for run in runs[side])
        peak = statistics.median(run["peak"] for run in runs[side])
        off = np.abs(np.array(runs[side][0]["areas"]) / exact - 1).max()
        print(
            f"{name} {size}×{size} {side:>8}: {seconds:7.2f} s {plain['seconds'] / seconds:6.2f} x "
            f"{peak:6.0f} MiB {peak / plain['peak']:5.2f} x, areas off float32's by {off:.2%}",
            flush=True,
        )


def main() -> None:
    """Measure all cases, or one side of one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs=3, metavar=("NAME", "SIZE", "SIDE"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.work:
        name, size, side = arguments.work
        work(name, int(size), side, arguments.repeats)
        return
    for name, size in CASES:
        compare(name, size, arguments.turns, arguments.repeats)


if __name__ == "__main__":
    main()
