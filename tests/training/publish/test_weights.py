"""Published weights give what the trained network gave, and say what they are."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import wsolviz
from tests.training.publish.conftest import CLASSES, ORIGIN, Run, config_of
from tests.training.record.conftest import EXAMPLES, record_of
from training.publish.weights import (
    halved,
    network_name,
    output_stride,
    without_folders,
    write_weights,
)
from wsolviz.backends.base import Backbone
from wsolviz.backends.own_format import read_header
from wsolviz.photo import read_photo

RUNS = ("timm_run", "own_run")
PHOTO = EXAMPLES / "chelsea.png"
EXAMPLE_PHOTOS = ("chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg")


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def outputs(backbone: Backbone) -> tuple[torch.Tensor, np.ndarray]:
    """Logits of two photos by the plain module, and the CAM of one by the whole path."""
    height, width = backbone.preprocessing.size
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = backbone.module(images)
    (cam,) = wsolviz.explain(PHOTO, backbone, ["cam"], class_index=1)
    return logits, cam.heatmap


def test_a_file_opens_by_its_path_and_by_the_networks_name(run: Run) -> None:
    logits, cam = outputs(run.backbone)
    network = run.config.backbone.name
    for opened in (
        wsolviz.load_backbone(f"file/{run.weights}"),
        wsolviz.load_backbone(network, weights=run.weights),
    ):
        found, heatmap = outputs(opened)
        assert torch.equal(found, logits)
        np.testing.assert_array_equal(heatmap, cam)
        assert opened.class_names == CLASSES
        assert opened.preprocessing == run.backbone.preprocessing
        assert opened.weights.licence == "CC-BY-SA-4.0"


def test_half_precision_gives_the_logits_to_a_thousandth(run: Run, tmp_path: Path) -> None:
    logits, cam = outputs(run.backbone)
    path = write_weights(tmp_path, run.config, run.backbone, record_of(3, 66.75), ORIGIN, half=True)
    stored = load_file(path)
    for name, tensor in load_file(run.weights).items():
        rounded = tensor.ndim > 1 and tensor.numel() >= 8192
        assert stored[name].dtype == (torch.float16 if rounded else tensor.dtype), name
    opened = wsolviz.load_backbone(f"file/{path}")
    assert {p.dtype for p in opened.module.parameters()} == {torch.float32}
    found, heatmap = outputs(opened)
    assert 0 < (found - logits).abs().max() <= 1e-3 * logits.abs().max()
    assert np.abs(heatmap - cam).max() <= 1e-2 * np.abs(cam).max()  # terms of both signs cancel


def test_half_precision_halves_the_file(own_run: Run, tmp_path: Path) -> None:
    path = write_weights(
        tmp_path, own_run.config, own_run.backbone, record_of(3, 66.75), ORIGIN, half=True
    )
    assert path.stat().st_size < 0.55 * own_run.weights.stat().st_size


def test_what_half_precision_costs_a_network_with_real_weights() -> None:
    """Deeper than the small ones above: a photo's logits are off by up to 0.2 % of the largest."""
    backbone = wsolviz.load_backbone("efficientnet_lite0")
    rounded = deepcopy(backbone.module)
    rounded.load_state_dict(halved(backbone.module.state_dict()))
    photos = [read_photo(EXAMPLES / name).image for name in EXAMPLE_PHOTOS]
    crops = [photo.crop((0, 0, photo.width // 2, photo.height // 2)) for photo in photos]
    images = torch.stack([backbone.preprocess(photo) for photo in (*photos, *crops)])
    with torch.no_grad():
        whole, half = backbone.module(images), rounded(images)
    deviation = (whole - half).abs().amax(dim=1) / whole.abs().amax(dim=1)
    assert deviation.max() < 3e-3
    assert deviation.median() < 1e-3
    assert torch.equal(whole.argmax(dim=1), half.argmax(dim=1))


def test_what_half_precision_does_not_hold_stays_whole() -> None:
    state = {
        "kernel": torch.randn(128, 64),
        "small": torch.randn(128, 63),
        "large": torch.full((128, 64), 7e4),
        "running_var": torch.full((9000,), 1e-9),
        "count": torch.tensor(3),
        "index": torch.zeros(128, 64, dtype=torch.int64),
    }
    found = halved(state)
    assert found["kernel"].dtype == torch.float16
    for name in ("small", "large", "running_var", "count", "index"):
        assert found[name] is state[name]


def test_averaged_weights_are_written_in_place_of_the_networks(
    timm_run: Run, tmp_path: Path
) -> None:
    own = timm_run.backbone.module.state_dict()
    averaged = {n: 0.5 * t if t.is_floating_point() else t for n, t in own.items()}
    path = write_weights(
        tmp_path, timm_run.config, timm_run.backbone, record_of(3, 1.0), ORIGIN, state=averaged
    )
    stored = load_file(path)
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in averaged.items())
    with pytest.raises(AssertionError, match="1 missing"):
        write_weights(
            tmp_path,
            timm_run.config,
            timm_run.backbone,
            record_of(3, 1.0),
            ORIGIN,
            state=dict(list(averaged.items())[1:]),
        )


def test_header_and_json_say_how_the_weights_were_made(timm_run: Run) -> None:
    header = read_header(timm_run.weights)
    told = json.loads(timm_run.weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert header is not None
    assert told.pop("file") == "dogs.safetensors"
    assert told.pop("sha256") == hashlib.sha256(timm_run.weights.read_bytes()).hexdigest()
    assert told == header.model_dump(mode="json")
    assert (header.backbone, header.num_classes, header.output_stride) == (
        "timm/test_resnet",
        4,
        16,
    )
    assert header.input is not None
    assert header.input.size == (96, 96)
    found = header.details
    assert found["figures"]["methods"]["cam"]["MaxBoxAccV2"]["value"] == 66.75
    assert (found["epochs_done"], found["seed"]) == (3, 3)
    assert (found["command"], found["git_commit"]) == (ORIGIN.command, "0123abcd")
    assert found["versions"] == {"torch": "2.9"}
    assert found["config"]["method"]["name"] == "bridging_gap"
    plain = json.dumps(found["config"], sort_keys=True)
    assert found["config_sha256"] == hashlib.sha256(plain.encode()).hexdigest()


def test_the_header_does_not_tell_this_computers_folders(timm_run: Run) -> None:
    assert b"/home/me" not in timm_run.weights.read_bytes()
    told = without_folders({"a": ["file//x/y.safetensors", "data/cub", "/x/z.pth", 3, None]})
    assert told == {"a": ["file/y.safetensors", "data/cub", "z.pth", 3, None]}


def test_weights_of_a_run_can_begin_another(timm_run: Run) -> None:
    """A file's network and its output stride are those of the next file."""
    assert network_name(f"file/{timm_run.weights}") == "timm/test_resnet"
    for started in (
        {"name": f"file/{timm_run.weights}"},
        {"name": "timm/test_resnet", "weights": str(timm_run.weights)},
    ):
        assert output_stride(config_of(**started)) == 16
    assert output_stride(config_of(name="timm/test_resnet")) is None
    assert output_stride(config_of(name=f"file/{timm_run.weights}", output_stride=32)) == 32
