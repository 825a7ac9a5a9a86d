"""Aligning feature norm and cosine, and dropping what is strongest (Kim et al., CVPR 2022)."""

from __future__ import annotations

from typing import Literal

import torch

from training.losses import Over, alignment_losses, drop_loss
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


@register("bridging_gap")
class BridgingGap(Method):
    """L = CE + λ_drop·L_drop, and after the warm-up + λ_sim·L_sim + λ_norm·L_norm."""

    class Options(MethodOptions):
        """The paper's hyperparameters; the values here are those of CUB with ResNet50.

        Attributes:
            sim_weight: λ_sim.
            norm_weight: λ_norm.
            drop_weight: λ_drop; at 0 nothing is erased, and a step costs one pass.
            warmup_epochs: epochs without alignment.
            foreground_threshold: τ_fg.
            background_threshold: τ_bg.
            norm_over: see `alignment_losses`.
            drop_threshold: γ.
            drop_probability: p.
            drop_after: name of the layer whose output is erased; null for the first block of the
                last stage.
        """

        name: Literal["bridging_gap"]
        sim_weight: NonNegative = 0.5
        norm_weight: NonNegative = 0.05
        drop_weight: NonNegative = 2.0
        warmup_epochs: NonNegative = 20.0
        foreground_threshold: Fraction = 0.4
        background_threshold: Fraction = 0.2
        norm_over: Over = "max"
        drop_threshold: Fraction = 0.8
        drop_probability: Fraction = 0.25
        drop_after: str | None = None

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: BridgingGap.Options = options
        self.drop = AttentiveDrop(options.drop_threshold, options.drop_probability)
        self.place = network.block_before_last(options.drop_after) if options.drop_weight else ""

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        options, terms = self.options, Terms()
        if options.drop_weight:
            outputs, erased = network.with_erased(batch.images, self.place, self.drop)
            feature_map = outputs.feature_map
            terms["drop"] = Term(drop_loss(feature_map, erased.feature_map), options.drop_weight)
        else:
            outputs = network(batch.images)
            feature_map = outputs.feature_map
        terms["classification"] = Term(classify(outputs.logits, batch))
        if moment.epoch >= options.warmup_epochs:
            sim, norm = alignment_losses(
                feature_map,
                outputs.weight,
                batch.target,
                options.foreground_threshold,
                options.background_threshold,
                options.norm_over,
            )
            terms["sim"] = Term(sim, options.sim_weight)
            terms["norm"] = Term(norm, options.norm_weight)
        return outputs.logits, terms
