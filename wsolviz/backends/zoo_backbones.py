"""Every entry of the zoo as a backbone that `load_backbone` knows by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import timm
from timm.models import PretrainedCfg

from wsolviz.backends.architecture import ARCHITECTURES, load_released
from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import LoadRequest, register_backbone
from wsolviz.backends.released import as_released, request_for
from wsolviz.backends.timm_backbone import load_timm
from wsolviz.backends.zoo import ZOO, ZooEntry
from wsolviz.errors import without_path


def load_entry(entry: ZooEntry, request: LoadRequest) -> Backbone:
    """An entry of the zoo as a backbone.

    Args:
        entry: of the zoo.
        request: what was asked for; its weights may also be None or a file of the same kind.

    Raises:
        ValueError: a file that is not the one the zoo means, or that does not fit.
        FileNotFoundError: a file that is not here; the message says how to get it.
    """
    if not entry.backbone.startswith("timm/"):
        return load_released(ARCHITECTURES[entry.backbone], request, entry)
    wanted = request_for(entry, request)
    with without_path(entry.path):
        backbone = load_timm(
            entry.backbone,
            wanted.weights,
            wanted.num_classes,
            device=wanted.device,
            output_stride=wanted.output_stride,
            precision=wanted.precision,
        )
    return as_released(backbone, entry, request)


def input_size(entry: ZooEntry) -> tuple[int, int]:
    """(height, width) of its input in pixels, told without loading anything."""
    if entry.input.size is not None:
        return entry.input.size
    if not entry.backbone.startswith("timm/"):
        return ARCHITECTURES[entry.backbone].preprocessing.size
    config = timm.get_pretrained_cfg(entry.backbone.removeprefix("timm/")) or PretrainedCfg()
    _, height, width = config.input_size
    return height, width


def register_entry(entry: ZooEntry) -> None:
    """Make an entry known to `load_backbone`."""
    register_backbone(
        entry.name, entry.help, entry.missing, partial(_file_of, entry), entry.backbone
    )(partial(load_entry, entry))


def _file_of(entry: ZooEntry, _name: str) -> Path:
    return entry.path


for _entry in ZOO.values():
    register_entry(_entry)
