"""Looking at photos once or more: at several input scales, and mirrored (test-time augmentation).

A view is one forward pass over a batch of photos. The plain data path has a single one; with more,
each method gives a heatmap a view, and the score map is the mean of the views' score maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from wsolviz.backends.base import Backbone
from wsolviz.defaults import DEFAULTS
from wsolviz.methods import Numbers, Panel
from wsolviz.preprocess import MAX_INPUT, MIN_INPUT
from wsolviz.types import ClassIndex, Features, Space

MAX_SCALES = 8


@dataclass(frozen=True)
class ViewOptions:
    """Which views to take; the default is one, at the backbone's own size.

    Attributes:
        image_size: side of the network's input in pixels; None for each backbone's own.
        scales: several such sides instead, one view each.
        flip: also the mirrored photo at each size; its heatmap is mirrored back.

    Raises:
        ValueError: a size out of bounds, too many scales, or both image_size and scales.
    """

    image_size: int | None = None
    scales: tuple[int, ...] = ()
    flip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))  # it is a part of caches' keys
        if self.image_size is not None and self.scales:
            raise ValueError("Give image_size or scales, not both; one scale is an image_size.")
        if len(self.scales) > MAX_SCALES:
            raise ValueError(f"{len(self.scales)} scales were given; at most {MAX_SCALES} are.")
        for name, size in (("image_size", self.image_size), *(("a scale", s) for s in self.scales)):
            if size is not None and (size != int(size) or not MIN_INPUT <= size <= MAX_INPUT):
                raise ValueError(
                    f"{name} is {size}; it must lie between {MIN_INPUT} and {MAX_INPUT} pixels, "
                    "whole ones."
                )

    @property
    def many(self) -> bool:
        """Whether there is more than one view."""
        return self.flip or len(self.scales) > 1

    def sizes(self, backbone: Backbone) -> list[tuple[int, int]]:
        """(height, width) of the network's input at each scale."""
        sides = self.scales or ((self.image_size,) if self.image_size else ())
        return [(side, side) for side in sides] or [backbone.preprocessing.size]


ONE_VIEW = ViewOptions()


@dataclass(frozen=True)
class View:
    """One forward pass over B photos.

    Attributes:
        features: of the photos as the network saw them.
        flipped: whether it saw them mirrored.
    """

    features: Features
    flipped: bool = False

    def run(self, panel: Panel, class_index: ClassIndex) -> tuple[torch.Tensor, Numbers]:
        """A method's (B,h,w) heatmaps, or a picture, the way round that the photos are."""
        result, numbers = panel.run(self.features, class_index)
        return (result.flip(-1) if self.flipped else result), numbers


def take_views(
    backbone: Backbone,
    photos: Sequence[Image.Image],
    space: Space = DEFAULTS.space,
    options: ViewOptions = ONE_VIEW,
) -> tuple[View, ...]:
    """Run a backbone on a batch of photos, once for each view.

    Args:
        backbone: from `load_backbone`.
        photos: B upright RGB photos of any sizes.
        space: feature space.
        options: which views.

    Raises:
        ValueError: a size that the network refuses, or a space that it does not have.
    """
    views = []
    for size in options.sizes(backbone):
        preprocess = replace(backbone.preprocessing, size=size)
        images = torch.stack([preprocess(photo) for photo in photos])
        views.append(View(backbone.extract(images, space)))
        if options.flip:
            views.append(View(backbone.extract(images.flip(-1), space), flipped=True))
    return tuple(views)


def mean_logits(views: Sequence[View]) -> torch.Tensor:
    """(B,K), the mean of the views' logits: what classes are told from."""
    return torch.stack([view.features.logits for view in views]).mean(dim=0)
