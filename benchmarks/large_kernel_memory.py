"""Peak memory of networks with large kernels on the CPU: ours against plain PyTorch.

    python -m benchmarks.large_kernel_memory

The sides are those of `benchmarks.large_kernel`. Each runs in a process of its own, and what that
held before it made the network is taken off the largest that it ever held.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.large_kernel import (
    NETWORKS,
    STAGES,
    as_plain,
    backbone_of,
    build,
    input_gradient,
    stage_step,
)


def compare_memory(size: int) -> Table:
    table = Table("what", "plain", "ours", title="peak memory of a process, less that of torch")
    works = (f"{work} of {name}" for name in NETWORKS for work in ("forward", "gradient"))
    for what in (*works, "training step"):
        peaks = []
        for side in ("plain", "ours"):
            command = [sys.executable, "-m", "benchmarks.large_kernel_memory", "--size", str(size)]
            command += ["--worker", what, side]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(f"{float(done.stdout):.0f} MB")
        table.add_row(what, *peaks)
    return table


def print_peak(what: str, side: str, size: int) -> None:
    """What each process that is measured does."""
    work, _, name = what.partition(" of ")
    images = torch.randn(1, 3, size, size)
    before = peak_megabytes()
    if what == "training step":
        pass_once: Callable[[], object] = stage_step(*STAGES[0], plain=side == "plain")
    elif work == "gradient":
        network = build(name)
        pass_once = partial(
            input_gradient, as_plain(network) if side == "plain" else network, images
        )
    elif side == "plain":
        pass_once = torch.no_grad()(partial(as_plain(build(name)), images))
    else:
        backbone = backbone_of(name, build(name), size, torch.float32)
        pass_once = partial(backbone.extract, images)
    pass_once(), pass_once()
    print(peak_megabytes() - before)


def peak_megabytes() -> float:
    """Of this process alone; what `resource.getrusage` says begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=384, help="side of the input in pixels")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.worker:
        what, side = options.worker
        print_peak(what, side, options.size)
    else:
        Console().print(compare_memory(options.size))


if __name__ == "__main__":
    main()
