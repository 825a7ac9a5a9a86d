"""Rectangles of one image pasted into another, labels in proportion (Yun et al., ICCV 2019).

"CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
section 3.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torchvision.transforms import v2

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
from training.section import Fraction, Positive


@register("cutmix")
class CutMix(Method):
    """Cross entropy of mixed images against both labels, each weighted by its share of the area.

    The share λ of a batch is drawn from Beta(α, α) and the rectangle's place evenly; each image
    gets its rectangle from its neighbour in the batch. Where the rectangle is cut by the border, λ
    is what is left of the area, counted in pixels.
    """

    class Options(MethodOptions):
        """The hyperparameters of the paper on ImageNet, and of the WSOL benchmark.

        Attributes:
            alpha: α of the Beta distribution.
            probability: with which a batch is mixed.
        """

        name: Literal["cutmix"]
        alpha: Positive = 1.0
        probability: Fraction = 1.0

    mixes_images = True

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: CutMix.Options = options
        self.mix = v2.CutMix(alpha=options.alpha, num_classes=network.num_classes)

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        assert batch.soft_target is None, "the configuration mixes images only once"
        if torch.rand(()) < self.options.probability:
            images, shares = self.mix(batch.images, batch.target)
            batch = replace(batch, images=images, soft_target=shares)
        outputs = network(batch.images)
        return outputs.logits, {"classification": Term(classify(outputs.logits, batch))}
