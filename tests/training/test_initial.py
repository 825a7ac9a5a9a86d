"""What a run starts with: which weights were filled, and that nobody else's network is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training.config import TrainingConfig
from training.config_file import parse_config
from training.initial import Classes, initial_backbone
from wsolviz.backends.loading import load_backbone

CONFIG = """
name: initial
method: {name: cam}
backbone: {name: timm/test_efficientnet}
data: {train: [{kind: metadata, root: nowhere}], image_size: 64}
optimizer: {lr: 0.1}
epochs: 1
"""
BIRDS = Classes(3, ("ash", "birch", "cedar"))


def config(**backbone: object) -> TrainingConfig:
    settings = parse_config(CONFIG)
    changed = settings.backbone.model_copy(update=backbone)
    return settings.model_copy(update={"backbone": changed})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a network with seven classes."""
    torch.manual_seed(1)
    path = tmp_path / "seven.safetensors"
    module = load_backbone("timm/test_efficientnet", None, 7).module
    save_file({name: t.contiguous() for name, t in module.state_dict().items()}, path)
    return path


def test_a_new_classifier_stands_on_the_weights_that_there_are(file: Path) -> None:
    backbone, filled = initial_backbone(config(weights=str(file)), BIRDS, "cpu")
    given = load_backbone("timm/test_efficientnet", file).module.state_dict()
    assert set(filled.new) == set(filled.unused) == {"classifier.weight", "classifier.bias"}
    for name, tensor in backbone.module.state_dict().items():
        assert name.startswith("classifier") or torch.equal(tensor, given[name]), name
    assert backbone.class_names == BIRDS.names and backbone.num_classes == 3
    assert backbone.preprocessing.size == (64, 64)
    assert "classifier.weight" in str(filled)


def test_the_networks_own_classes_are_kept(file: Path) -> None:
    backbone, filled = initial_backbone(config(weights=str(file), classes="own"), None, "cpu")
    given = load_backbone("timm/test_efficientnet", file)
    assert filled.new == filled.unused == ()
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, given.module.state_dict()[name])
    with torch.no_grad():
        next(backbone.module.parameters()).add_(1)
    again = load_backbone("timm/test_efficientnet", file)
    assert again is given, "the shared network is still there"
    first = next(iter(given.module.state_dict()))
    assert not torch.equal(backbone.module.state_dict()[first], given.module.state_dict()[first])


def test_random_weights_follow_from_the_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        settings = config(weights=None).model_copy(update={"seed": seed})
        return next(initial_backbone(settings, BIRDS, "cpu")[0].module.parameters())

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    module = load_backbone("timm/test_resnet", None, 3).module
    save_file({name: t.contiguous() for name, t in module.state_dict().items()}, path)
    with pytest.raises(ValueError, match=r"fit only \d+ of its \d+ tensors"):
        initial_backbone(config(weights=str(path)), BIRDS, "cpu")


def test_random_weights_have_no_classes_of_their_own() -> None:
    with pytest.raises(ValueError, match="take data"):
        initial_backbone(config(weights=None, classes="own"), None, "cpu")
