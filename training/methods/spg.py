"""Masks that a network makes for itself, stage by stage (Zhang et al., ECCV 2018).

"Self-produced Guidance for Weakly-supervised Object Localization", section 3.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import nn
from torch.nn import functional

from training.losses import min_max, region_mean
from training.methods.base import (
    Batch,
    Classify,
    Method,
    MethodOptions,
    Moment,
    Term,
    Terms,
    register,
)
from training.models import TrainableNetwork
from training.places import Place, behind
from training.section import Count, Fraction


def _ordered(thresholds: tuple[float, float]) -> tuple[float, float]:
    low, high = thresholds
    if low > high:
        raise ValueError(f"the lower threshold comes first, and {low} is above {high}")
    return thresholds


Thresholds = Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)]
"""Below the first a position is background, above the second it is foreground."""


@register("spg")
class Spg(Method):
    """L = CE + L(B2, attention) + L(B1, B2) + L(C, (B1 + B2) / 2), each L on seeds only.

    B1 and B2 look at two maps inside the network, C at the last one; each says for every position
    whether the object is there. The CAM of the label, min-max normalized within each image, gives
    seeds of foreground and background to B2; what B2 says gives them to B1; what both say, on
    average, to C. Seeds carry no gradient. All maps are resized to the image's size first.

    As in the paper, B1 and B2 have a 3×3 convolution each and share the next 3×3 and 1×1 ones; C
    has a 3×3 and a 1×1 one. They belong to the training and are not kept. Two things differ, since
    the network is not rewritten: it gets no convolutions (the paper's A3) between its last stage
    and its classifier, and the mean over the seeds is taken within each image before that over
    the images, so that a batch may be divided.
    """

    class Options(MethodOptions):
        """The WSOL benchmark's hyperparameters; its branches have 512 to 1024 channels.

        Attributes:
            after: names of the layers whose maps B1 and B2 look at; null for the first and the
                last block of the last stage but one (ResNet50: layer3.0 and layer3.5, as in the
                benchmark), or, where that has one block only, the one before it and this one.
            channels: of the branches' convolutions.
            attention_thresholds: for seeds from the CAM, lower and upper, in [0,1].
            b2_thresholds: for seeds from B2.
            fused_thresholds: for seeds from the average of B1 and B2.
        """

        name: Literal["spg"]
        after: tuple[str, str] | None = None
        channels: Count = 512
        attention_thresholds: Thresholds = (0.01, 0.7)
        b2_thresholds: Thresholds = (0.05, 0.5)
        fused_thresholds: Thresholds = (0.1, 0.7)

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: Spg.Options = options
        names = guided_layers(network) if options.after is None else options.after
        self.places = [network.place(name) for name in names]
        width = options.channels
        self.b1, self.b2 = (_conv(place.shape[0], width) for place in self.places)
        self.shared = nn.Sequential(_conv(width, width), nn.Conv2d(width, 1, 1))
        self.c = nn.Sequential(_conv(network.channels, width), nn.Conv2d(width, 1, 1))

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        size = (batch.images.shape[2], batch.images.shape[3])
        taken: dict[str, torch.Tensor] = {}

        def take(place: Place, output: torch.Tensor) -> None:
            taken[place.layer] = place.read(output, size)

        with behind(network.module, {p.layer: partial(take, p) for p in self.places}):
            outputs = network(batch.images)
        first, second = (taken[place.layer] for place in self.places)
        b1 = _resized(self.shared(self.b1(first)), size)
        b2 = _resized(self.shared(self.b2(second)), size)
        c = _resized(self.c(outputs.feature_map), size)
        attention = min_max(_resized(outputs.cam(batch.target)[:, None], size))
        fused = (b1.sigmoid() + b2.sigmoid()) / 2
        options = self.options
        return outputs.logits, {
            "classification": Term(classify(outputs.logits, batch)),
            "b2": Term(guidance_loss(b2, attention, options.attention_thresholds)),
            "b1": Term(guidance_loss(b1, b2.sigmoid(), options.b2_thresholds)),
            "c": Term(guidance_loss(c, fused, options.fused_thresholds)),
        }


def guided_layers(network: TrainableNetwork) -> tuple[str, str]:
    """Where B1 and B2 look at, see `Spg.Options`.

    Raises:
        ValueError: a network with too few stages.
    """
    blocks = [place for stage in network.stages[:-1] for place in stage]
    if len(blocks) < 2:
        raise ValueError(
            f"{network.backbone.name} does not have two blocks before its last stage; name in "
            "method.after the two layers whose maps self-produced guidance is to look at."
        )
    stage = network.stages[-2]
    first = stage[0] if len(stage) > 1 else blocks[-2]
    return first.layer, stage[-1].layer


def seeds(
    scores: torch.Tensor, thresholds: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which positions of maps (B,h,w) in [0,1] are foreground, and which are background, bool.

    The others are neither.
    """
    low, high = thresholds
    return scores > high, scores < low


def guidance_loss(
    logits: torch.Tensor, scores: torch.Tensor, thresholds: tuple[float, float]
) -> torch.Tensor:
    """Binary cross entropy of logits (B,h,w) on the seeds of scores (B,h,w), a scalar.

    The mean over an image's seeds, 0 where it has none, and over the images. No gradient flows
    through the scores.
    """
    foreground, background = seeds(scores.detach(), thresholds)
    loss = functional.binary_cross_entropy_with_logits(
        logits, foreground.to(logits), reduction="none"
    )
    return region_mean(loss, foreground | background)


def _conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())


def _resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B,1,h,w) to (B,H,W), bilinear."""
    return functional.interpolate(maps.float(), size, mode="bilinear")[:, 0]
