"""Plain classification, as class activation maps were made for (Zhou et al., CVPR 2016)."""

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
from training.models import TrainableNetwork


@register("cam")
class Cam(Method):
    """Cross entropy."""

    class Options(MethodOptions):
        """Nothing to choose."""

        name: Literal["cam"]

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        outputs = network(batch.images)
        return outputs.logits, {"classification": Term(classify(outputs.logits, batch))}
