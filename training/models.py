"""A backbone in training: feature map and classifier with gradients, also with a part erased.

The losses need what `Features` holds, in a differentiable form and of the network as it stands in
training, where nothing is fused; `Outputs` is that.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsolviz.backends.base import Backbone
from wsolviz.backends.heads import Head

Erase: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Outputs:
    """What one pass in training gives, differentiable.

    Attributes:
        activation: (B,C,h,w), the map that the network averages, before any norm of the head.
        logits: (B,K).
        head: what lies between the two, by its parameters as they are now.
    """

    activation: torch.Tensor
    logits: torch.Tensor
    head: Head

    @property
    def feature_map(self) -> torch.Tensor:
        """(B,C,h,w) in logit space: mean_hw(feature_map) @ weight.T + bias are the logits.

        A BatchNorm of the head counts by its running statistics here, as it will in use.
        """
        return self.head.features(self.activation, "logit")[0]

    @property
    def weight(self) -> torch.Tensor:
        """(K,C), the classifier's."""
        return self.head.weight

    def cam(self, target: torch.Tensor) -> torch.Tensor:
        """(B,h,w), the class activation map of each image's class (B,), signed."""
        return torch.einsum("bchw,bc->bhw", self.feature_map, self.weight[target])


class TrainableNetwork(nn.Module):
    """A backbone's module with its gradients on.

    Args:
        backbone: with an exact map; its module is trained in place.

    Attributes:
        doubled: images of the batch whose maps are run twice just now, see `with_erased`.

    Raises:
        ValueError: a backbone whose logits are no average of its map.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        head = backbone.head
        if head is None:
            raise ValueError(
                f"{backbone.name} cannot be trained here: {backbone.inexactness}, so that its CAM "
                "is not exact and no class weight can be aligned with its map."
            )
        head.live()  # says now what cannot be trained, rather than in the first step
        self._head = head
        self.backbone = backbone
        self.module = backbone.module
        self.doubled: int | None = None

    @property
    def classifier(self) -> nn.Module:
        """The layer that makes the logits."""
        assert self._head.layers is not None, "head.live() has looked"
        return self._head.layers.classifier

    def forward(self, images: torch.Tensor) -> Outputs:
        """(B,3,H,W) to `Outputs`."""
        activation, logits = self.backbone.forward(self.module, images)
        return Outputs(activation.float(), logits.float(), self._head.live())

    def with_erased(
        self, images: torch.Tensor, place: str, erase: Erase
    ) -> tuple[Outputs, Outputs]:
        """One pass as it is and one with the map at a place erased in part.

        What comes before the place is computed once. What comes behind it runs on both together;
        BatchNorm takes its statistics of each by itself, as two passes would.

        Args:
            images: (B,3,H,W).
            place: name of the layer whose output is erased.
            erase: the map (B,c,h,w) to the map with a part erased.
        """
        batch = len(images)

        def double(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            return torch.cat([output, erase(output)])

        handle = self.module.get_submodule(place).register_forward_hook(double)
        self.doubled = batch
        try:
            with norms_by_halves(self.module, batch):
                both = self(images)
        finally:
            handle.remove()
            self.doubled = None
        first, second = both.activation.split(batch)
        logits, erased_logits = both.logits.split(batch)
        return Outputs(first, logits, both.head), Outputs(second, erased_logits, both.head)

    def block_before_last(self, place: str | None = None) -> str:
        """Where a map is erased: the place that was named, or the first block of the last stage.

        A stage is a list of blocks of more than one layer each, which are no mere chains of layers;
        of those with several blocks, it is the last (ResNet50: layer4.0, as in the paper).

        Raises:
            ValueError: no such layer, or a network without stages.
        """
        layers = dict(self.module.named_modules())
        if place is not None:
            if place in layers and place:
                return place
            raise ValueError(f"{self.backbone.name} has no layer {place!r}.")
        stages = stages_of(self.module)
        if not stages:
            raise ValueError(
                f"{self.backbone.name} has no stages of blocks; say behind which layer to erase."
            )
        name, stage = stages[-1]
        return f"{name}.{next(stage.named_children())[0]}"


def stages_of(module: nn.Module) -> list[tuple[str, nn.Sequential | nn.ModuleList]]:
    """The lists of several blocks, of more than one layer each, by name and in the network's order."""
    return [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Sequential | nn.ModuleList)
        and len(layer) > 1
        and all(any(b.children()) and not isinstance(b, nn.Sequential) for b in layer)
    ]


class AttentiveDrop(nn.Module):
    """Erases where a map is strongest (Kim et al., CVPR 2022, section 3.3), in training only.

    A position is erased, in all channels, with probability `probability` where the mean over the
    channels exceeds `threshold` times its maximum in that image.

    Args:
        threshold: γ in [0,1].
        probability: p in [0,1].
    """

    def __init__(self, threshold: float = 0.8, probability: float = 0.25) -> None:
        super().__init__()
        self.threshold, self.probability = threshold, probability

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the same with positions set to 0."""
        if not self.training:
            return feature_map
        return feature_map * self.keep(feature_map)

    @torch.no_grad()
    def keep(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,1,h,w): 0 where the map is erased, 1 elsewhere."""
        mean = feature_map.mean(dim=1, keepdim=True)
        strong = mean > self.threshold * mean.amax(dim=(2, 3), keepdim=True)
        drawn = torch.rand(mean.shape, device=mean.device) < self.probability
        return (~(strong & drawn)).to(feature_map)

    def extra_repr(self) -> str:
        """For printing."""
        return f"threshold={self.threshold}, probability={self.probability}"


@contextmanager
def norms_by_halves(module: nn.Module, batch: int) -> Iterator[None]:
    """BatchNorm in training takes a batch of 2·`batch` as two of `batch` each."""
    norms: list[Any] = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    plain = {norm: norm.forward for norm in norms}

    def by_halves(norm: Any, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 2 * batch:
            return plain[norm](x)
        return torch.cat([plain[norm](half) for half in torch.split(x, batch)])

    for norm in norms:
        norm.forward = types.MethodType(by_halves, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward
