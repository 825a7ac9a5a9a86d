"""What a training method is, and the registry of all of them.

A method is one file in this folder: a class with its options and its losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.models import TrainableNetwork
from training.section import Section
from wsolviz.registry import Registry

if TYPE_CHECKING:
    from training.data.sources import PhotoSet


class MethodOptions(Section):
    """A method's options; `name` says which method they are of."""

    name: str


class Term(NamedTuple):
    """One part of the loss: its value, a scalar, and the weight that it counts with."""

    value: torch.Tensor
    weight: float = 1.0


Terms: TypeAlias = dict[str, Term]


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        images: (B,3,H,W), normalized.
        target: (B,) int64, the network's class of each.
        soft_target: (B,K) probabilities where images were mixed, else None.
        maps: (B,h,w) in [0,1], what the method's `target_maps` gave, cropped and mirrored as the
            images were; else None.
    """

    images: torch.Tensor
    target: torch.Tensor
    soft_target: torch.Tensor | None = None
    maps: torch.Tensor | None = None

    def to(self, device: torch.device, layout: torch.memory_format) -> Batch:
        """The same on a device, the images in a layout."""
        return Batch(
            self.images.to(device, memory_format=layout, non_blocking=True),
            self.target.to(device),
            None if self.soft_target is None else self.soft_target.to(device),
            None if self.maps is None else self.maps.to(device),
        )

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in equal parts, in its order."""
        size = len(self.images) // count
        for first in range(0, size * count, size):
            part = slice(first, first + size)
            yield Batch(
                self.images[part],
                self.target[part],
                None if self.soft_target is None else self.soft_target[part],
                None if self.maps is None else self.maps[part],
            )


Classify: TypeAlias = Callable[[torch.Tensor, Batch], torch.Tensor]
"""The classification loss of logits (B,K) against a batch's labels, smoothed or mixed."""


@dataclass(frozen=True)
class Moment:
    """Where in the run a step is; `epoch` counts from 0 and has fractions within an epoch."""

    epoch: float
    epochs: int


class Method(nn.Module, ABC):
    """What is learned. Layers of its own are trained with the network and not kept.

    Attributes:
        options: from the configuration.
        mixes_images: whether it brings its own mixing, so that mixup and cutmix must be off.
        needs_maps: whether it learns from `target_maps`, which are of photos that are read by name
            and whose pixels stay in place.
    """

    Options: ClassVar[type[MethodOptions]]
    mixes_images: ClassVar[bool] = False
    needs_maps: ClassVar[bool] = False

    def __init__(self, options: Any, network: TrainableNetwork) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def target_maps(
        cls, options: Any, photos: PhotoSet, device: torch.device, folder: Path
    ) -> Mapping[str, NDArray[np.float32]] | None:
        """Maps that `Batch.maps` are cut out of, by image id; None for a method that needs none.

        Args:
            options: from the configuration.
            photos: that are trained on.
            device: where networks run.
            folder: of the run, to keep them in.
        """
        return None

    @abstractmethod
    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """The logits (B,K) that accuracy is counted on, and the losses by name."""


METHODS: Registry[type[Method]] = Registry("training method")
"""Training methods by the `name` in their options; filled by the files of this folder."""


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Make a method known by its name, which its options must have as their `name`'s one value."""

    def add(method: type[Method]) -> type[Method]:
        return METHODS.register(name, method)

    return add


def total(terms: Mapping[str, Term]) -> torch.Tensor:
    """Σ weight · value."""
    return torch.stack([term.weight * term.value for term in terms.values()]).sum()
