"""A zoo entry's file as weights: found, known by its hash, and named on the backbone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.checkpoints import sha256_of
from wsolviz.backends.loading import OTHER_WEIGHTS, LoadRequest, describe_by_header
from wsolviz.backends.zoo import ZooEntry
from wsolviz.errors import with_public_text


def request_for(entry: ZooEntry, request: LoadRequest) -> LoadRequest:
    """What its architecture is to be asked for, so that the entry is loaded.

    Args:
        entry: of the zoo.
        request: what was asked for; where it says nothing, the entry decides.

    Raises:
        FileNotFoundError: the entry's file is wanted and not here.
        ValueError: it is here, and another one than the zoo means.
    """
    return replace(
        request,
        weights=checked_file(entry) if request.weights == "default" else request.weights,
        num_classes=request.num_classes or entry.num_classes,
        output_stride=request.output_stride or entry.output_stride,
    )


def checked_file(entry: ZooEntry) -> Path:
    """The entry's file, whose hash is the published one where one was published.

    Raises:
        FileNotFoundError: it is not here; the message says how to get it.
        ValueError: it is another file.
    """
    if not entry.is_here:
        raise with_public_text(
            FileNotFoundError(
                f"{entry.missing()} (Looked for {entry.path.absolute()}.) {OTHER_WEIGHTS}"
            ),
            entry.missing(),
        )
    found = sha256_of(entry.path) if entry.sha256 else None
    if found != entry.sha256:
        raise with_public_text(
            ValueError(
                f"{entry.path} is not the file that the zoo means by {entry.name}: its SHA-256 is "
                f"{found} and not {entry.sha256}. Get it anew. {OTHER_WEIGHTS}"
            ),
            f"The weights of {entry.name} on this server are damaged; take another backbone.",
        )
    return entry.path


def as_released(backbone: Backbone, entry: ZooEntry, request: LoadRequest) -> Backbone:
    """The backbone, changed in place, with the entry's input, class names, source and licence.

    Args:
        backbone: loaded as `request_for` says.
        entry: of the zoo.
        request: what was asked for.
    """
    backbone.name = request.name
    if request.weights == "default":
        describe_by_header(backbone, entry.path)
    backbone.preprocessing = entry.input.over(backbone.preprocessing)
    if request.num_classes in (None, entry.num_classes):
        backbone.class_names = _class_names(entry) or backbone.class_names
    if request.weights == "default":
        source = f"{entry.file} of {entry.page}"
        backbone.weights = WeightsInfo(source, backbone.weights.sha256, entry.licence)
    return backbone


@cache
def _class_names(entry: ZooEntry) -> tuple[str, ...]:
    """ImageNet's names; those of CUB stand in the data set, which may not be passed on."""
    if entry.classes != "ImageNet-1K":
        return ()
    return tuple(ImageNetInfo("imagenet-1k").label_descriptions())
