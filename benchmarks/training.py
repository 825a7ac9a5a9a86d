"""A training step of bridging_gap on ResNet50 with 28×28 maps: ours against plain PyTorch.

    python -m benchmarks.training

The plain side is the step written down as the paper describes it: torchvision's ResNet50, maps in
PyTorch's default layout, two passes through what lies behind the attentive dropout, and the losses
image by image. Ours is what `training.train` runs. The sides start from the same weights and
take turns, each in a process of its own, since ours also settles how the process takes memory; a
step is forward, backward and SGD. Each time is the median over the turns of the medians of a
process, whose first step is not counted.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from training.config import TrainingConfig
from training.methods import Batch, Moment, total
from training.models import TrainableNetwork
from training.optimization import freeze, make_optimizer, set_training
from training.step import TrainingStep
from wsolviz.backends.loading import load_backbone
from wsolviz.memory import keeping_freed_memory

CLASSES = 200
SIDES = ("plain", "ours")
CONFIG = {
    "name": "step",
    "method": {"name": "bridging_gap", "warmup_epochs": 0.0},
    "backbone": {"name": "resnet50_cam", "weights": None},
    "data": {"train": [{"kind": "metadata", "root": "nowhere"}]},
    "optimizer": {"lr": 1e-3, "weight_decay": 1e-4},
    "epochs": 1,
}


class PlainNetwork(nn.Module):
    """ResNet50-CAM whose last stage is cut behind its first block, as for attentive dropout."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        parts = dict(copy.deepcopy(module).named_children())
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        stage = parts["layer4"]
        assert isinstance(stage, nn.Sequential)
        self.before = nn.Sequential(*(parts[name] for name in names), stage[0])
        self.behind: nn.Module = stage[1:]
        self.fc: Any = parts["fc"]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Feature map, feature map with the strongest part erased, logits."""
        x = self.before(images)
        attention = x.mean(dim=1, keepdim=True)
        strong = attention > 0.8 * attention.amax(dim=(2, 3), keepdim=True)
        erased = x * (~(strong & (torch.rand_like(attention) < 0.25))).float()
        feature_map, erased_map = self.behind(x), self.behind(erased)
        return feature_map, erased_map, self.fc(feature_map.mean(dim=(2, 3)))


def plain_losses(network: PlainNetwork, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The paper's loss with the weights of CUB and ResNet50, image by image."""
    feature_map, erased, logits = network(images)
    directions = functional.normalize(network.fc.weight, dim=1)[:, :, None, None]
    cosines = functional.conv2d(functional.normalize(feature_map, dim=1), directions)
    sims, norms = [], []
    for features, cosine, label in zip(feature_map, cosines, target, strict=True):
        norm = features.norm(dim=0)
        norm = (norm - norm.min()) / (norm.max() - norm.min())
        of_target, largest = cosine[label], cosine.max(dim=0).values
        sims.append(_mean(of_target[norm < 0.2]) - _mean(of_target[norm > 0.4]))
        norms.append(_mean(norm[largest < 0]) - _mean(norm[largest > 0]))
    loss = functional.cross_entropy(logits, target) + 2 * functional.l1_loss(feature_map, erased)
    return loss + 0.5 * torch.stack(sims).mean() + 0.05 * torch.stack(norms).mean()


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean() if values.numel() else values.new_zeros(())


def plain_step(module: nn.Module, batch: Batch) -> Callable[[], float]:
    network = PlainNetwork(module).train().requires_grad_(True)
    optimizer = torch.optim.SGD(
        network.parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=1e-4
    )

    def step() -> float:
        loss = plain_losses(network, batch.images, batch.target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.item()

    return step


def our_step(
    network: TrainableNetwork, batch: Batch, config: TrainingConfig
) -> Callable[[], float]:
    freeze(network.module, config.freeze)
    network.module.to(memory_format=torch.channels_last)
    step_module = TrainingStep(network, config)
    optimizer = make_optimizer(network, step_module.method, config.optimizer)
    set_training(step_module, config.freeze)
    images = batch.images.contiguous(memory_format=torch.channels_last)
    ours = Batch(images, batch.target)

    def step() -> float:
        _, terms = step_module(ours, Moment(0.0, 1))
        loss = total(terms)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def work(side: str, batch_size: int, size: int, steps: int) -> None:
    """Take the steps of one side; print the first one's loss, the others' time and the peak."""
    torch.manual_seed(0)
    config = TrainingConfig.model_validate(CONFIG, strict=False)
    network = TrainableNetwork(load_backbone("resnet50_cam", None, CLASSES))
    images = torch.randn(batch_size, 3, size, size)
    batch = Batch(images, torch.randint(CLASSES, (batch_size,)))
    plain = side == "plain"
    step = plain_step(network.module, batch) if plain else our_step(network, batch, config)
    torch.manual_seed(1)
    with nullcontext() if plain else keeping_freed_memory():
        loss = step()
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"loss": loss, "seconds": statistics.median(seconds), "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=SIDES, help="take the steps of one side in this process")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process")
    parser.add_argument("--turns", type=int, default=3, help="processes of each side")
    options = parser.parse_args()
    if options.work:
        work(options.work, options.batch, options.size, options.steps)
        return
    shared = [f"--{name}={getattr(options, name)}" for name in ("batch", "size", "steps")]
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(options.turns):
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.training", "--work", side, *shared]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[side].append(json.loads(done.stdout.splitlines()[-1]))
    found = {
        side: {key: statistics.median(run[key] for run in each) for key in each[0]}
        for side, each in runs.items()
    }
    for side, values in found.items():
        print(
            f"{side:>5}: {values['seconds']:.2f} s a step, "
            f"{found['plain']['seconds'] / values['seconds']:.2f} x, {values['peak']:.0f} MiB, "
            f"loss of the first step {values['loss']:.6f}"
        )


if __name__ == "__main__":
    main()
