"""Measuring a data set with two processes against one, each limited to one thread.

    python -m benchmarks.processes

Both sides are started by torchrun, with gloo between the processes, and measure the same crops of
the example photos (or a data set that is named); the time is that of the whole measurement behind
the loading of the network, the slowest process's. They take turns; the figures must be identical.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsolviz.backends.loading import load_backbone
from wsolviz.evaluation.dataset import open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.evaluation.team import team
from wsolviz.ui.controls import EXAMPLES

METHODS = ("cam", "pc1", "feature_norm", "cosine")
PROCESSES = (1, 2)
TIME = "seconds.json"


def make_dataset(root: Path, count: int) -> None:
    """Random crops of the example photos, each with a random box."""
    rng = np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in EXAMPLES]
    lines: dict[str, list[str]] = {"image_ids": [], "class_labels": []}
    lines |= {"image_sizes": [], "localization": []}
    (root / "images").mkdir(parents=True)
    for i in range(count):
        photo = photos[i % len(photos)]
        left, top = (int(rng.integers(side // 3)) for side in photo.size)
        crop = photo.crop((left, top, left + photo.width // 2, top + photo.height // 2))
        crop.save(root / "images" / f"{i}.jpg")
        x0, y0 = (int(rng.integers(side // 2)) for side in crop.size)
        x1, y1 = x0 + crop.width // 3, y0 + crop.height // 3
        lines["image_ids"].append(f"{i}.jpg")
        lines["class_labels"].append(f"{i}.jpg,{int(rng.integers(1000))}")
        lines["image_sizes"].append(f"{i}.jpg,{crop.width},{crop.height}")
        lines["localization"].append(f"{i}.jpg,{x0},{y0},{x1},{y1}")
    folder = root / "metadata" / "test"
    folder.mkdir(parents=True)
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def work(data: Path, split: str, backbone_name: str, out: Path) -> None:
    """What each process does; the leading one writes down how long the slowest took."""
    with team() as members:
        dataset = open_dataset(data, split)
        source = NetworkSource(dataset, load_backbone(backbone_name), METHODS)
        source.measure([(0, source.load(0))])[0]()  # compiles what is compiled at the first call
        members.wait()
        start = time.perf_counter()
        evaluate_run(Run(source, out, members))
        seconds = max(members.gather(time.perf_counter() - start), default=0.0)
        if members.leads:
            (out / TIME).write_text(json.dumps(seconds))


def run_side(processes: int, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "benchmarks.processes", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def results_of(out: Path) -> Any:
    """Everything but the date."""
    return {
        k: v for k, v in json.loads((out / "results.json").read_text()).items() if k != "created"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time two processes against one.")
    parser.add_argument("--data", type=Path, help="a data set; crops of the examples otherwise")
    parser.add_argument("--split", default="test")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=400, help="how many crops")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.data, options.split, options.backbone, options.worker)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "crops"
        if options.data is None:
            make_dataset(data, options.images)
        count = len(open_dataset(data, options.split).metadata.image_ids)
        speeds: dict[int, list[float]] = {processes: [] for processes in PROCESSES}
        found = []
        for turn in range(options.turns):
            for processes in PROCESSES:
                out = Path(folder) / f"out-{turn}-{processes}"
                chosen = ["--data", str(data), "--split", options.split, "--worker", str(out)]
                run_side(processes, [*chosen, "--backbone", options.backbone])
                speeds[processes].append(count / float(json.loads((out / TIME).read_text())))
                found.append((results_of(out), (out / "images.csv").read_text()))
        assert all(result == found[0] for result in found), "the figures differ"
    one, two = (statistics.median(speeds[processes]) for processes in PROCESSES)
    print(f"{count} images, {len(METHODS)} methods, {options.backbone}, one thread a process")
    print(f"one process {one:.1f} images/s, two {two:.1f} images/s: {two / one:.2f} ×")
    print("every figure and every row of the table is identical")


if __name__ == "__main__":
    main()
