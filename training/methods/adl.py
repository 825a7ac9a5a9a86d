"""Dropping what a map attends to most, or weighting by it, in turn (Choe & Shim, CVPR 2019).

"Attention-based Dropout Layer for Weakly Supervised Object Localization", section 3.1.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

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
from training.models import AttentiveDrop, TrainableNetwork
from training.places import Place, behind
from training.section import Fraction


class AttentionDropout(nn.Module):
    """Multiplies a map by its drop mask, or by its importance map.

    With m the mean over the channels, the drop mask is 0 where m exceeds γ times its maximum in
    that image and 1 elsewhere, and the importance map is sigmoid(m). One of the two is drawn for
    the whole batch. The gradient flows through the importance map, and through no mask.

    Args:
        drop_rate: probability of the drop mask.
        threshold: γ in [0,1].
    """

    def __init__(self, drop_rate: float, threshold: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.drop = AttentiveDrop(threshold, probability=1.0)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the same, weighted by position."""
        if torch.rand(()) < self.drop_rate:
            return feature_map * self.drop.keep(feature_map)
        return feature_map * feature_map.mean(dim=1, keepdim=True).sigmoid()


@register("adl")
class Adl(Method):
    """Cross entropy, with attention-based dropout behind several layers, in training only."""

    class Options(MethodOptions):
        """The WSOL benchmark's hyperparameters.

        Attributes:
            drop_rate: probability that a layer's map is multiplied by the drop mask rather than by
                the importance map; drawn anew at each layer and step.
            threshold: γ, a share of the maximum.
            after: names of the layers whose outputs are weighted; null for the first blocks of the
                last two stages and the last block of the last one (ResNet50: layer3.0, layer4.0
                and layer4.2, as in the benchmark). The paper's VGG16: behind its third and fourth
                pooling and conv5_3.
        """

        name: Literal["adl"]
        drop_rate: Fraction = 0.75
        threshold: Fraction = 0.9
        after: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.dropout = AttentionDropout(options.drop_rate, options.threshold)
        names = default_layers(network) if options.after is None else options.after
        self.places = [network.place(name) for name in dict.fromkeys(names)]

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        size = (batch.images.shape[2], batch.images.shape[3])

        def weighted(place: Place, output: torch.Tensor) -> torch.Tensor:
            return place.change(output, size, self.dropout)

        with behind(network.module, {p.layer: partial(weighted, p) for p in self.places}):
            outputs = network(batch.images)
        return outputs.logits, {"classification": Term(classify(outputs.logits, batch))}


def default_layers(network: TrainableNetwork) -> list[str]:
    """The first blocks of the last two stages and the last block of the last one, by name.

    Where a stage has one block only, a block may be named twice.

    Raises:
        ValueError: a network without stages.
    """
    if not network.stages:
        raise ValueError(
            f"{network.backbone.name} has no stages of blocks; name in method.after the layers "
            "whose outputs attention-based dropout is to weight."
        )
    return [stage[0].layer for stage in network.stages[-2:]] + [network.stages[-1][-1].layer]
