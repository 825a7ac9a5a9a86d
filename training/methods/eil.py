"""Learning from a map and from the same map with its strongest part erased (Mai et al., CVPR 2020).

"Erasing Integrated Learning: A Simple yet Effective Approach for WSOL", section 3.
"""

from __future__ import annotations

from typing import Literal

import torch

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
from training.section import Fraction, NonNegative


@register("eil")
class Eil(Method):
    """L = CE(plain) + α·CE(erased), both through the same layers, whose weights they share.

    A position of the map behind one layer is erased, in all channels, where the mean over the
    channels exceeds γ times its maximum in that image: the rule of attentive dropout with
    probability 1. Accuracy is counted on the plain branch, which is the network as it is kept.
    """

    class Options(MethodOptions):
        """The paper's hyperparameters.

        Attributes:
            erased_weight: α; at 0 nothing is erased, and a step costs one pass.
            threshold: γ, a share of the maximum; 0.7 in the authors' code.
            erase_after: name of the layer whose output is erased; null for the first block of the
                last stage. The paper's VGG16 erases behind conv4_3 and its pooling.
        """

        name: Literal["eil"]
        erased_weight: NonNegative = 1.0
        threshold: Fraction = 0.7
        erase_after: str | None = None

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: Eil.Options = options
        self.erase = AttentiveDrop(options.threshold, probability=1.0)
        self.place = network.block_before_last(options.erase_after) if options.erased_weight else ""

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        if not self.options.erased_weight:
            outputs = network(batch.images)
            return outputs.logits, {"classification": Term(classify(outputs.logits, batch))}
        outputs, erased = network.with_erased(batch.images, self.place, self.erase)
        return outputs.logits, {
            "classification": Term(classify(outputs.logits, batch)),
            "erased": Term(classify(erased.logits, batch), self.options.erased_weight),
        }
