"""The weights of a run as a file of this project, with all that it takes to make them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.config import TrainingConfig
from training.record.epoch import EpochRecord
from training.record.files import write_whole
from wsolviz.backends.base import Backbone, without_folder
from wsolviz.backends.checkpoints import misfits, sha256_of
from wsolviz.backends.identify import identify
from wsolviz.backends.loading import FILE_FAMILY, find_entry
from wsolviz.backends.own_format import Input, WeightsHeader, read_header, save_checkpoint
from wsolviz.backends.zoo import ZOO
from wsolviz.version import __version__

LARGE = 8192  # numbers from which on a tensor is worth rounding to half precision


@dataclass(frozen=True)
class Origin:
    """How a run was made.

    Attributes:
        command: that starts it, see `training.publish.command`.
        hardware: that it ran on, in words; see `hardware`.
        versions: of the packages.
        git_commit: of the code; None where nobody knows.
    """

    command: str
    hardware: str
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None


def hardware(device: torch.device, processes: int = 1) -> str:
    """What a run's processes compute on, each on one device of a kind.

    >>> hardware(torch.device("meta"), processes=2)
    '2 × meta'
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        cores = torch.get_num_threads()
        name = f"CPU, {cores} cores" if device.type == "cpu" else device.type
    return name if processes == 1 else f"{processes} × {name}"


def write_weights(
    folder: Path,
    config: TrainingConfig,
    backbone: Backbone,
    record: EpochRecord,
    origin: Origin,
    *,
    state: Mapping[str, torch.Tensor] | None = None,
    half: bool = False,
) -> Path:
    """Write NAME.safetensors, which `load_backbone` opens, and NAME.json, its header to be read.

    Args:
        folder: of the run, which exists.
        config: of the run.
        backbone: that was trained, in eval mode; says the input and the classes.
        record: of the epoch that the weights are of.
        origin: command, hardware, versions.
        state: the weights, under the names of the backbone's module; None for that module's own.
        half: whether `halved`.

    Raises:
        OSError: a file cannot be written; the one before is still there.
    """
    weights = backbone.module.state_dict() if state is None else state
    problems = misfits(backbone.module.state_dict(), weights)
    assert not problems, f"these are not {backbone.name}'s weights: {problems}"
    header = WeightsHeader(
        backbone=network_name(config.backbone.name),
        num_classes=backbone.num_classes,
        output_stride=output_stride(config),
        class_names=backbone.class_names,
        input=Input.of(backbone.preprocessing),
        licence=config.licence,
        source=f"training run {config.name} of wsolviz {__version__}",
        details=details(config, record, origin),
    )
    path = folder / f"{config.name}.safetensors"
    save_checkpoint(halved(weights) if half else weights, path, header)
    told = {"file": path.name, "sha256": sha256_of(path), **header.model_dump(mode="json")}
    write_whole(path.with_suffix(".json"), json.dumps(told, indent=1, ensure_ascii=False))
    return path


def halved(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with its large matrices and kernels in float16.

    What is small stays as it is: it saves next to no bytes, and rounding it costs most of the
    accuracy, since first layers and depthwise kernels are small. EfficientNet-Lite0's logits are
    then off by up to 0.2 % of the largest one on 32 crops of the example photos, on half of them by
    less than 0.1 %; with all kernels rounded it is up to 0.7 %. Vectors, such as running variances,
    span more orders of magnitude than float16 does; a tensor with a value beyond its range stays
    whole, too.
    """
    return {name: tensor.half() if _halves(tensor) else tensor for name, tensor in state.items()}


def _halves(tensor: torch.Tensor) -> bool:
    large = tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel() >= LARGE
    return large and bool(tensor.abs().max() <= torch.finfo(torch.float16).max)


def network_name(name: str) -> str:
    """What `load_backbone` takes together with a weights file for the network of that name.

    A checkpoint of the zoo or a file says which network it is of; every other name is a network's.

    >>> network_name("replknet_31b.cub")
    'replknet_31b'
    """
    if name.startswith(FILE_FAMILY):
        return identify(name.removeprefix(FILE_FAMILY)).backbones[0]
    return ZOO[name].backbone if name in ZOO else name


def timm_model(network: str) -> str | None:
    """The name that timm knows a network by, None for one that is not timm's.

    >>> timm_model("efficientnet_lite0"), timm_model("slak_tiny")
    ('tf_efficientnet_lite0', None)
    """
    name = find_entry(network).network or network
    return name.removeprefix("timm/") if name.startswith("timm/") else None


def output_stride(config: TrainingConfig) -> int | None:
    """The output stride that was trained with: the configuration's or its starting weights'."""
    wanted = config.backbone
    if wanted.output_stride is not None:
        return wanted.output_stride
    if wanted.name in ZOO:
        return ZOO[wanted.name].output_stride
    named = wanted.name.startswith(FILE_FAMILY)
    file = wanted.name.removeprefix(FILE_FAMILY) if named else wanted.weights
    header = None if file in ("default", None) else read_header(file)
    return None if header is None else header.output_stride


def details(config: TrainingConfig, record: EpochRecord, origin: Origin) -> dict[str, Any]:
    """What a header keeps of the run; its configuration and command without local folders."""
    told = without_folders(config.model_dump(mode="json"))
    figures = record.validation
    return {
        "epochs_done": record.epochs_done,
        "steps": record.steps,
        "figures": None if figures is None else figures.model_dump(mode="json"),
        "seed": config.seed,
        "command": origin.command,
        "hardware": origin.hardware,
        "versions": dict(origin.versions),
        "git_commit": origin.git_commit,
        "config": told,
        "config_sha256": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
    }


def without_folders(value: Any) -> Any:
    """A configuration's plain values, of absolute paths only the last part: for other eyes.

    >>> without_folders({"root": "/home/me/cub", "split": "train", "shards": ["http://a/b.tar"]})
    {'root': 'cub', 'split': 'train', 'shards': ['http://a/b.tar']}
    """
    if isinstance(value, dict):
        return {name: without_folders(of) for name, of in value.items()}
    if isinstance(value, list):
        return [without_folders(of) for of in value]
    if not isinstance(value, str):
        return value
    prefix = FILE_FAMILY if value.startswith(f"{FILE_FAMILY}/") else ""
    return prefix + without_folder(value.removeprefix(prefix))
