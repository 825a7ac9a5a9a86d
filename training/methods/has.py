"""Hiding patches of the input at random, so that all parts are sought (Singh & Lee, ICCV 2017).

"Hide-and-Seek: Forcing a Network to be Meticulous for Weakly-supervised Object and Action
Localization", section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

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
from training.section import Fraction, Index


@register("has")
class Has(Method):
    """Cross entropy of images with patches hidden."""

    class Options(MethodOptions):
        """The paper's hyperparameters, for inputs of 224×224 pixels.

        Attributes:
            grid_sizes: sides of the patches in pixels, one of which is drawn for each image; 0
                hides nothing. The values here are the paper's HaS-Mixed; one value alone is what
                the WSOL benchmark does.
            probability: with which each patch is hidden.
        """

        name: Literal["has"]
        grid_sizes: Annotated[tuple[Index, ...], Field(min_length=1)] = (0, 16, 32, 44, 56)
        probability: Fraction = 0.5

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: Has.Options = options

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        hidden = hide(batch.images, self.options.grid_sizes, self.options.probability)
        outputs = network(hidden)
        return outputs.logits, {"classification": Term(classify(outputs.logits, batch))}


def hide(images: torch.Tensor, grid_sizes: Sequence[int], probability: float) -> torch.Tensor:
    """Images with patches set to 0, which is the data's mean, as the paper has it.

    Args:
        images: (B,3,H,W), normalized.
        grid_sizes: sides of the patches in pixels; one is drawn for each image, 0 hides nothing.
            Patches at the right and the lower border may be smaller.
        probability: with which each patch is hidden.
    """
    size = (images.shape[2], images.shape[3])
    drawn = torch.randint(len(grid_sizes), (len(images),)).tolist()
    hidden = torch.stack([_hidden(size, grid_sizes[index], probability) for index in drawn])
    return images.masked_fill(hidden[:, None].to(images.device), 0.0)


def _hidden(size: tuple[int, int], side: int, probability: float) -> torch.Tensor:
    """(H,W) bool: which pixels of one image are hidden."""
    if side == 0:
        return torch.zeros(size, dtype=torch.bool)
    height, width = size
    patches = torch.rand(math.ceil(height / side), math.ceil(width / side)) < probability
    pixels = patches.repeat_interleave(side, dim=0).repeat_interleave(side, dim=1)
    return pixels[:height, :width]
