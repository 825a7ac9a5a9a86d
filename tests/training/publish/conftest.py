"""Runs whose weights are written: of a network of timm's and of one that is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

import wsolviz
from tests.training.record.conftest import record_of
from training.config import TrainingConfig
from training.publish.card import write_card
from training.publish.weights import Origin, write_weights
from training.record.files import JOURNAL
from training.record.journal import Journal
from wsolviz.backends.base import Backbone

CLASSES = ("basset", "boxer, the dog", "\u00e9pagneul", "pug")
ORIGIN = Origin(
    command="python -m training.train --config training/configs/dogs.yaml seed=3",
    hardware="CPU, 2 cores",
    versions={"torch": "2.9"},
    git_commit="0123abcd",
)


@dataclass(frozen=True)
class Run:
    """A run's folder, its network with the weights that were trained, and its configuration."""

    folder: Path
    backbone: Backbone
    config: TrainingConfig

    @property
    def weights(self) -> Path:
        return self.folder / f"{self.config.name}.safetensors"


def config_of(**backbone: object) -> TrainingConfig:
    """A run that begins with this backbone."""
    return TrainingConfig.model_validate(
        {
            "name": "dogs",
            "method": {"name": "bridging_gap", "drop_weight": 0.0},
            "backbone": backbone,
            "data": {
                "train": (
                    {"kind": "metadata", "root": "/home/me/Pets", "split": "train"},
                    {"kind": "folders", "root": "more/dogs"},
                ),
            },
            "optimizer": {"lr": 0.01},
            "epochs": 4,
            "seed": 3,
            "licence": "CC-BY-SA-4.0",
        }
    )


def shake(module: nn.Module) -> None:
    """Norms and biases as of a trained network: not those that everyone begins with."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn_like(tensor))


def make_run(folder: Path, network: str, size: tuple[int, int], stride: int | None) -> Run:
    config = config_of(name=network, weights=None, output_stride=stride)
    torch.manual_seed(0)
    backbone = wsolviz.load_backbone(network, None, len(CLASSES), output_stride=stride)
    shake(backbone.module)
    backbone.class_names = CLASSES
    backbone.preprocessing = replace(backbone.preprocessing, size=size)
    journal = Journal(folder / JOURNAL)
    for epoch, v2 in enumerate((60.25, 61.5, None, 66.75, 64.0)):
        journal.append(record_of(epoch, v2))
    write_weights(folder, config, backbone, record_of(3, 66.75), ORIGIN)
    write_card(folder, config.name)
    return Run(folder, backbone, config)


@pytest.fixture(scope="session")
def timm_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small ResNet of timm with a finer map than its own."""
    return make_run(tmp_path_factory.mktemp("timm") / "dogs", "timm/test_resnet", (96, 96), 16)


@pytest.fixture(scope="session")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The benchmark's ResNet50, which timm does not have."""
    return make_run(tmp_path_factory.mktemp("own") / "dogs", "resnet50_cam", (64, 64), None)
