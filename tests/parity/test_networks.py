"""The papers' networks against what their own code gives with the same weights."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity.fill import fill, image
from wsolviz import METHODS, load_backbone
from wsolviz.backends.architecture import ARCHITECTURES

REFERENCE = Path(__file__).with_name("networks")
TOLERANCE = 1e-4  # of the output's scale

NAMES = {
    "replknet31b": "replknet_31b",
    "replknet31l": "replknet_31l",
    "replknetxl": "replknet_xl",
    "slak_tiny": "slak_tiny",
    "slak_small": "slak_small",
    "slak_base": "slak_base",
    "convnext_base_cub": "convnext_base_cub",
}
WSOL = [
    f"bridging_{network}_{kind}_{side}"
    for network in ("vgg16", "resnet50")
    for kind in ("cam", "drop")
    for side in (14, 28)
]
TARGETS = (3, 77)  # the classes of the benchmark networks' reference maps


@cache
def shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the parameters in every official checkpoint."""
    return json.loads((REFERENCE / "state_dicts.json").read_text())


def official_state(case: str) -> dict[str, torch.Tensor]:
    """A state dict as the official checkpoint's, with numbers drawn for it."""
    counters = {"num_batches_tracked": torch.int64}
    empty = {
        name: torch.zeros(shape, dtype=counters.get(name.rpartition(".")[2], torch.float32))
        for name, shape in shapes()[case].items()
    }
    return fill(empty)


@pytest.fixture
def load(tmp_path):
    """A case's checkpoint, written as the papers' scripts write theirs, as a backbone."""

    def from_file(case: str):
        path = tmp_path / f"{case}.pth"
        torch.save({"state_dict": official_state(case)}, path)
        network = case.split("_")[1] if case.startswith("bridging") else ""
        name = NAMES.get(case, f"{network}_cam")
        stride = {"14": 16, "28": 8}.get(case.rpartition("_")[2])
        backbone = load_backbone(name, path, device="cpu", output_stride=stride)
        path.unlink()
        return backbone, np.load(REFERENCE / f"{case}.npz")

    return from_file


def assert_close(given, expected):
    expected = np.asarray(expected)
    off = np.abs(np.asarray(given) - expected).max()
    assert off <= TOLERANCE * np.abs(expected).max()


def images_of(reference, batch=1):
    return image(int(reference["size"]), int(reference["seed"]), batch)


@pytest.mark.parametrize("case", NAMES)
def test_map_and_output_are_the_papers(case, load):
    backbone, reference = load(case)
    images = images_of(reference)
    (expected_map,) = (reference[k] for k in ("forward_features", "last_stage") if k in reference)
    plain_map, plain_logits = backbone.forward(backbone.module, images)
    fused = backbone.extract(images, "pre_norm")
    for feature_map, logits in ((plain_map, plain_logits), (fused.feature_map, fused.logits)):
        assert_close(feature_map, expected_map)
        if "probabilities" in reference:  # the paper's CUB network ends in a softmax
            assert_close(logits.softmax(dim=1), reference["probabilities"])
        else:
            assert_close(logits, reference["logits"])
    assert backbone.exact


@pytest.mark.parametrize("case", WSOL)
def test_the_benchmarks_networks_give_its_logits_maps_and_factors(case, load):
    backbone, reference = load(case)
    images = images_of(reference, batch=2)
    assert_close(backbone.forward(backbone.module, images)[1], reference["logits"])
    features = backbone.extract(images)
    assert_close(features.logits, reference["logits"])
    for row, target in enumerate(TARGETS):
        cam = METHODS["cam"](features, target)[row]
        # Bridging the Gap averages over the channels where CAM sums.
        assert_close(cam / features.feature_map.shape[1], reference["cams"][row])
        if "sim_target" in reference:
            assert_close(METHODS["cosine"](features, target)[row], reference["sim_target"][row])
            norm = METHODS["feature_norm"](features, target)[row]
            assert_close(norm, reference["feature_norm"][row])


@pytest.mark.parametrize("case", sorted(shapes()))
def test_parameters_are_named_as_in_the_official_checkpoint(case):
    name = NAMES.get(case) or f"{case.split('_')[1]}_cam"
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        state = {k: torch.empty(shape) for k, shape in shapes()[case].items()}
        own = architecture.make_for(architecture.rename(state)).state_dict()
    assert {k: tuple(v.shape) for k, v in own.items()} == {
        k: tuple(v.shape) for k, v in architecture.rename(state).items()
    }
