"""A second classifier that has to do without what the first one looks at (Zhang et al., CVPR 2018).

"Adversarial Complementary Learning for Weakly Supervised Object Localization", section 3.2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from training.losses import min_max
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
from training.section import Count, Fraction


@register("acol")
class Acol(Method):
    """L = CE(classifier A) + CE(classifier B), B on the map erased where A's CAM is strong.

    A is the network's own head, and alone is kept. B, which the paper builds like A, has the
    paper's layers: two 3×3 convolutions with ReLU, a 1×1 convolution to the classes, and the
    average. Three things differ from the paper, since the network is not rewritten: A has no
    convolutions of its own in front, so that it is shallower than B; B belongs to the training,
    so that maps are A's and not the maximum of both; what B learns reaches the kept network
    through the map that both see.

    The map is taken in logit space, where a cell of 0 adds nothing to any logit.
    """

    class Options(MethodOptions):
        """The hyperparameters.

        Attributes:
            threshold: δ, on the CAM of the label, min-max normalized within each image; the WSOL
                benchmark's value.
            channels: of B's convolutions; the paper's value.
        """

        name: Literal["acol"]
        threshold: Fraction = 0.7
        channels: Count = 1024

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: Acol.Options = options
        self.second = nn.Sequential(
            nn.Conv2d(network.channels, options.channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(options.channels, options.channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(options.channels, network.num_classes, 1),
        )

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        outputs = network(batch.images)
        keep = unseen(outputs.cam(batch.target), self.options.threshold)
        second = self.second(outputs.feature_map * keep[:, None]).float().mean(dim=(2, 3))
        return outputs.logits, {
            "classification": Term(classify(outputs.logits, batch)),
            "second": Term(classify(second, batch)),
        }


@torch.no_grad()
def unseen(cam: torch.Tensor, threshold: float) -> torch.Tensor:
    """(B,h,w): 0 where a CAM (B,h,w), min-max normalized in each image, exceeds δ; 1 elsewhere."""
    return (min_max(cam) <= threshold).to(cam)
