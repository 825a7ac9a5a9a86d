"""A backbone in training: feature map and classifier with gradients, also with a part erased.

The losses need what `Features` holds, in a differentiable form and of the network as it stands in
training, where nothing is fused; `Outputs` is that.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.places import Change, Place, Places, behind, evaluating, find_places, find_stages
from wsolviz.backends.base import Backbone
from wsolviz.backends.heads import Head


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
        # Autocast would sum in half precision, and a threshold on the map notices.
        with torch.autocast(self.activation.device.type, enabled=False):
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
    def num_classes(self) -> int:
        """K; unlike the backbone's own, it is not looked for anew while the weights change."""
        return self._head.weight.shape[0]

    @property
    def channels(self) -> int:
        """C of the map that the network averages."""
        return self._head.weight.shape[1]

    @property
    def classifier(self) -> nn.Module:
        """The layer that makes the logits."""
        assert self._head.layers is not None, "head.live() has looked"
        return self._head.layers.classifier

    def forward(self, images: torch.Tensor) -> Outputs:
        """(B,3,H,W) to `Outputs`."""
        activation, logits = self.backbone.forward(self.module, images)
        return Outputs(activation.float(), logits.float(), self._head.live())

    @cached_property
    def places(self) -> Places:
        """The layers whose output is a map, by name; found by running the network once."""
        return find_places(self.backbone)

    @cached_property
    def stages(self) -> list[tuple[Place, ...]]:
        """The places behind the blocks of each stage, see `find_stages`."""
        return find_stages(self.module, self.places)

    def place(self, name: str) -> Place:
        """The place behind a layer.

        Raises:
            ValueError: no such layer, or one that does not give one map a pass.
        """
        if name in self.places:
            return self.places[name]
        if name and name in dict(self.module.named_modules()):
            raise ValueError(f"{self.backbone.name}: {name!r} does not give one map a pass.")
        raise ValueError(
            f"{self.backbone.name} has no layer {name!r}. Layers with a map are, from the last one "
            f"back: {', '.join(list(self.places)[:-9:-1])} …"
        )

    def with_erased(
        self, images: torch.Tensor, place: str, erase: Change
    ) -> tuple[Outputs, Outputs]:
        """One pass as it is and one with the map at a place erased in part.

        What comes before the place is computed once. What comes behind it runs on both together;
        BatchNorm takes its statistics of each by itself, as two passes would.

        Args:
            images: (B,3,H,W).
            place: name of the layer whose output is erased.
            erase: the map (B,c,h,w) to the map with a part erased.
        """
        batch, size = len(images), (images.shape[2], images.shape[3])
        erased_at = self.place(place)

        def double(output: torch.Tensor) -> torch.Tensor:
            return torch.cat([output, erased_at.change(output, size, erase)])

        self.doubled = batch
        try:
            with behind(self.module, {place: double}), norms_by_halves(self.module, batch):
                both = self(images)
        finally:
            self.doubled = None
        first, second = both.activation.split(batch)
        logits, erased_logits = both.logits.split(batch)
        return Outputs(first, logits, both.head), Outputs(second, erased_logits, both.head)

    def block_before_last(self, place: str | None = None) -> str:
        """Where a map is erased: the place that was named, or the first block of the last stage.

        The last stage is the last one of several blocks (ResNet50: layer4.0, as in the paper).
        Where every stage has one block only, it is the last but one, so that layers follow.

        Raises:
            ValueError: no such layer, one beside which a map goes past, or a network without
                stages.
        """
        if place is not None:
            self._refuse_bypassed(place)
            return place
        several = [stage for stage in self.stages if len(stage) > 1] or self.stages[:-1]
        if not several:
            raise ValueError(
                f"{self.backbone.name} has no stages of blocks; say behind which layer to erase."
            )
        return several[-1][0].layer

    def _refuse_bypassed(self, place: str) -> None:
        """Refuse a layer inside of a residual branch: the sum is then of 2B maps and of B."""
        images = torch.zeros(2, 3, *self.backbone.preprocessing.size, device=self.backbone.device)
        try:
            with torch.no_grad(), evaluating(self.module):
                self.with_erased(images, place, lambda feature_map: feature_map)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                f"{self.backbone.name}: nothing can be erased behind {place!r}, which a shortcut "
                "goes past; name a layer that everything goes through, such as a whole block."
            ) from error


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
