"""What a weights file is: told from what it says of itself, or from the names of its tensors."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wsolviz.backends.base import Backbone
from wsolviz.backends.candidates import Candidate, candidates
from wsolviz.backends.checkpoints import Checkpoint, open_checkpoint, sha256_of
from wsolviz.backends.loading import (
    FILE_FAMILY,
    LoadRequest,
    describe_by_header,
    find_entry,
    register_backbone,
)
from wsolviz.backends.own_format import WeightsHeader, read_header

CLOSEST = 3


@dataclass(frozen=True)
class Identified:
    """What a weights file is.

    Attributes:
        path: the file.
        form: its format, in words.
        sha256: of the file.
        backbones: what `load_backbone` can be called with together with this file; several where
            networks with the same tensors compute different things with them, in other strides or
            paddings, and neither the file nor its name says which it is.
        num_classes: K.
        header: what a file of this project says about itself; None for any other.
    """

    path: Path
    form: str
    sha256: str
    backbones: tuple[str, ...]
    num_classes: int
    header: WeightsHeader | None = None


def identify(path: str | Path) -> Identified:
    """Say what a weights file is.

    Args:
        path: .safetensors, or a PyTorch file of tensors and plain values.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint, or one that fits no known network whole; the message names the
            networks that come closest, and what keeps it from fitting the first.
    """
    path = Path(path)
    header = read_header(path)
    checkpoint = open_checkpoint(path)
    form, sha256 = checkpoint.form, sha256_of(path)
    if header is not None:
        form = f"{form}, written by wsolviz"
        return Identified(path, form, sha256, (header.backbone,), header.num_classes, header)
    tried = []
    for candidate in candidates(checkpoint, path.stem):
        tried.append(candidate)
        if candidate.fits and not candidate.backbone.startswith("timm/"):
            break
    fitting = [candidate for candidate in tried if candidate.fits]
    if not fitting:
        raise ValueError(f"{path} fits no network whole. {_describe(tried)}")
    names = _named(checkpoint, path, fitting)
    return Identified(path, form, sha256, names, fitting[0].num_classes)


def describe_closest(state: Mapping[str, torch.Tensor]) -> str:
    """Sentences on which networks' tensors a state dict is most like."""
    return _describe(list(candidates(Checkpoint(dict(state), ""))))


@register_backbone(
    FILE_FAMILY,
    "a weights file by its path: file/weights/mine.safetensors",
    default_file=lambda name: Path(name.removeprefix(FILE_FAMILY)),
)
def load_file(request: LoadRequest) -> Backbone:
    """Load a weights file as the network that it was made for, or that network's random weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see `identify`; or weights that fit several networks alike.
    """
    if request.weights not in ("default", request.name, None):
        raise ValueError(f"{request.name} names a weights file already; leave weights out.")
    path = Path(request.name.removeprefix(FILE_FAMILY))
    found = identify(path)
    if len(found.backbones) > 1:
        calls = " or ".join(f"load_backbone({name!r}, {str(path)!r})" for name in found.backbones)
        raise ValueError(
            f"{path} fits several networks alike, and does not say which it is for. Say it with "
            f"{calls}."
        )
    (name,) = found.backbones
    return load_identified(found, name, request)


def load_identified(found: Identified, name: str, request: LoadRequest) -> Backbone:
    """Load a weights file as one of the networks that it fits; random weights if asked for None.

    Args:
        found: what the file is.
        name: one of its networks.
        request: what was asked for; where it says nothing, the file decides.

    Raises:
        ValueError: weights or options that do not fit.
    """
    classes = request.num_classes or found.num_classes
    weights = None if request.weights is None else found.path
    named = replace(request, name=name, weights=weights, num_classes=classes)
    if found.header is not None and request.output_stride is None:
        named = replace(named, output_stride=found.header.output_stride)
    backbone = find_entry(name).load(named)
    loaded = backbone.weights
    describe_by_header(backbone, found.path)
    if weights is None:
        backbone.weights = loaded  # random weights have no licence
    backbone.name = request.name
    return backbone


def _named(checkpoint: Checkpoint, path: Path, fitting: list[Candidate]) -> tuple[str, ...]:
    """The one of the fitting networks that the file or its name says, or else all of them."""
    names = tuple(dict.fromkeys(name for c in fitting for name in (c.backbone, *c.twins)))
    if checkpoint.declared in names:
        return (checkpoint.declared,)
    begun = [name for name in names if path.name.startswith(name.removeprefix("timm/"))]
    return (max(begun, key=lambda name: len(name.removeprefix("timm/"))),) if begun else names


def _describe(tried: list[Candidate]) -> str:
    closest = heapq.nlargest(CLOSEST, tried, key=lambda candidate: candidate.likeness)
    if not closest or closest[0].likeness == 0:
        return "No network that is known here has tensors of these names."
    names = ", ".join(f"{c.backbone} ({c.likeness:.1%} of the tensors)" for c in closest)
    best = closest[0]
    if best.fits:
        return f"It is a checkpoint of {best.backbone} with {best.num_classes} classes."
    return f"Closest: {names}. Of {best.backbone} it has {best.problems}."
