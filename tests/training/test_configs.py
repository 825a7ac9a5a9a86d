"""The configurations that come with the project, against the papers' tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional
from torchvision.models import get_model_weights

import training
import wsolviz
from tests.training.data.conftest import write_photos, write_split
from training.config_file import dump_config, load_config, parse_config
from training.data import open_sources
from training.initial import Classes, initial_backbone
from training.methods import METHODS, Batch, Moment, total
from training.models import TrainableNetwork
from wsolviz.backends.architecture import ARCHITECTURES
from wsolviz.backends.zoo import ZOO
from wsolviz.preprocess import Preprocessing

FOLDER = Path(training.__file__).parent / "configs"
GUIDE = FOLDER.parents[1] / "docs" / "training.md"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
SIZE = 64

# Kim et al., CVPR 2022: learning rate, the head's factor, weight decay, the schedule's factor,
# epochs, warm-up, photos a batch; λ_sim, λ_norm, λ_drop; τ_fg, τ_bg; γ, p; whose cosine.
PAPER = {
    "cub_vgg16": (4e-3, 5, 5e-4, 0.2, 70, 20, 64, (0.5, 0.15, 3), (0.6, 0.1), (0.8, 0.5), "max"),
    "cub_resnet50": (
        2e-3,
        10,
        1e-4,
        0.2,
        70,
        20,
        32,
        (0.5, 0.05, 2),
        (0.4, 0.2),
        (0.8, 0.25),
        "max",
    ),
    "ilsvrc_resnet50": (
        *(1e-5, 10, 1e-4, 0.1, 30, 14, 32),
        *((8, 1, 2), (0.28, 0.25), (0.8, 0.25), "target"),
    ),
}
WEIGHT_FILES = {entry.file for entry in ZOO.values()} | {
    str(weights.url).rpartition("/")[2]
    for network in ("vgg16", "resnet50")
    for weights in get_model_weights(network)
}


def load(stem: str):
    return load_config(FOLDER / f"{stem}.yaml")


@pytest.fixture(scope="module")
def networks():
    """A small network, and one with the layers that configurations for VGG16 name."""
    return {
        vgg: TrainableNetwork(wsolviz.load_backbone(name, None, 5, device="cpu"))
        for vgg, name in ((False, "timm/resnet18"), (True, "vgg16_cam"))
    }


def test_runs_do_not_share_a_folder():
    names = [load_config(path).name for path in CONFIGS]
    assert len(set(names)) == len(names)


def test_there_are_configurations():
    assert {f"{method}_{task}" for method in ("bridging_gap", "cam") for task in PAPER} <= {
        path.stem for path in CONFIGS
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_head_says_the_command_the_hardware_the_time_and_what_to_expect(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert f"#     python -m training.train --config training/configs/{path.name}" in head
    for word in ("hardware", "time", "expected"):
        assert any(line.startswith(f"# {word}") for line in head), word


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_names_a_backbone_and_weights_that_there_are(path):
    config = load_config(path)
    assert parse_config(dump_config(config)) == config
    name, weights = config.backbone.name, config.backbone.weights
    if name.startswith("timm/"):
        assert timm.is_model(name.removeprefix("timm/").partition(".")[0])
        assert config.backbone.weights != "default" or timm.is_model_pretrained(name[5:])
    elif name in ARCHITECTURES:
        strides = ARCHITECTURES[name].output_strides
        assert config.backbone.output_stride in (None, *strides)
    else:
        wsolviz.backends.loading.find_entry(name)
    if weights not in (None, "default") and not Path(weights).exists():
        assert Path(weights).name in WEIGHT_FILES


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_method_learns_on_a_small_network(path, networks):
    config = load_config(path)
    network = networks[config.backbone.name == "vgg16_cam"]
    network.module.requires_grad_(True)
    network.train()
    method = METHODS[config.method.name](config.method, network)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    moment = Moment(config.epochs - 1, config.epochs)
    logits, terms = method.terms(
        network,
        Batch(images, torch.tensor([1, 3]), maps=torch.rand(2, 2, 2, generator=generator)),
        lambda logits, batch: functional.cross_entropy(logits, batch.target),
        moment,
    )
    assert logits.shape == (2, 5)
    loss = total(terms)
    (gradient,) = torch.autograd.grad(loss, network.classifier.weight)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("task", PAPER)
def test_the_settings_are_the_papers(task):
    lr, head, decay, factor, epochs, warmup, batch, weights, regions, drop, over = PAPER[task]
    config = load(f"bridging_gap_{task}")
    method, optimizer = config.method, config.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.9, True)
    assert (optimizer.lr, optimizer.head_lr_factor, optimizer.weight_decay) == (lr, head, decay)
    milestones = (21,) if task == "ilsvrc_resnet50" else (41, 61)
    assert (config.schedule.factor, config.schedule.milestones) == (factor, milestones)
    assert (config.epochs, method.warmup_epochs, config.batch_size) == (epochs, warmup, batch)
    assert (method.sim_weight, method.norm_weight, method.drop_weight) == weights
    assert (method.foreground_threshold, method.background_threshold) == regions
    assert (method.drop_threshold, method.drop_probability) == drop
    assert method.norm_over == over
    assert (config.augmentation.resize, config.data.image_size) == (256, 224)
    assert (config.augmentation.crop, config.augmentation.flip) == ("random", 0.5)


def test_the_guide_shows_a_configuration_and_names_every_file():
    guide = GUIDE.read_text(encoding="utf-8")
    example = parse_config(guide.split("```yaml\n")[1].split("```")[0])
    assert example.method == METHODS["bridging_gap"].Options(name="bridging_gap")
    assert [path.stem for path in CONFIGS if f"`{path.stem}`" not in guide] == []


def differing(first: str, second: str) -> set[str]:
    """The keys in which two configurations differ."""
    a, b = load(first).model_dump(), load(second).model_dump()
    return {key for key in a if a[key] != b[key]}


@pytest.mark.parametrize("task", PAPER)
def test_plain_cam_differs_in_the_method_alone(task):
    assert differing(f"cam_{task}", f"bridging_gap_{task}") == {"name", "method"}


def test_a_large_kernel_network_is_aligned_by_one_line():
    plain, aligned = "large_kernel_cub_replknet_31b", "bridging_gap_cub_replknet_31b"
    assert differing(plain, aligned) == {"name", "method"}
    lines = [
        [line for line in (FOLDER / f"{stem}.yaml").read_text().splitlines() if line[:1] != "#"]
        for stem in (plain, aligned)
    ]
    changed = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    assert [pair[1].partition(":")[0] for pair in changed] == ["name", "method"]


@pytest.mark.parametrize("network", ["convnext_base", "replknet_31b", "slak_base"])
def test_large_kernel_networks_get_the_whole_photo(network):
    config = load(f"large_kernel_cub_{network}")
    assert (config.data.image_size, config.augmentation.crop) == (384, "none")
    assert config.data.mean == config.data.std == (0.5, 0.5, 0.5)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (1e-5, 5e-4)


def test_a_run_takes_photos_as_its_configuration_says():
    overrides = ["backbone={name: timm/resnet18, weights: null}"]
    config = load_config(FOLDER / "large_kernel_cub_slak_base.yaml", overrides)
    backbone, _ = initial_backbone(config, Classes(5), "cpu")
    half = (0.5, 0.5, 0.5)
    assert backbone.preprocessing == Preprocessing(
        (384, 384), half, half, Image.Resampling.BILINEAR
    )


@pytest.mark.parametrize("path", [p for p in CONFIGS if "_cub_" in p.stem], ids=lambda p: p.stem)
def test_the_papers_data_are_opened_as_the_benchmark_lays_them_out(path, tmp_path, monkeypatch):
    """Whose metadata hold boxes of all splits, those of the training photos included."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        image_ids = [f"{split}/{number}.png" for number in range(3)]
        write_photos(Path("dataset/CUB"), image_ids)
        write_split(Path("made"), split, image_ids, boxes=True)
    Path("metadata").mkdir()
    Path("made/metadata").rename("metadata/CUB")
    sources = open_sources(load_config(path).data)
    assert [dataset.metadata.boxes for dataset in sources.datasets] == [{}]
    assert len(sources.with_own_classes()) == 3
    assert sources.validation is not None and len(sources.validation.metadata.boxes) == 3
