"""Learning a single pass's CAM from better maps that image labels alone give; this project's own.

The maps are `training.target_maps`'. Together with `distillation`, which holds the logits, the
network learns to spread its class's evidence over the whole object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.losses import map_correlation_loss, map_square_loss
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
from training.section import NonNegative
from training.target_maps import FILE, MapTeacherConfig, make_maps

if TYPE_CHECKING:
    from training.data.sources import PhotoSet


@register("map_distillation")
class MapDistillation(Method):
    """λ_square · mean (M̂ − T)² + λ_correlation · (1 − corr(M, T)), and λ_classification · CE.

    M is the CAM of the label, M̂ the same min-max normalized within the image, T the taught map.
    """

    class Options(MethodOptions):
        """The maps' teacher, and weights.

        Attributes:
            teacher: makes the maps.
            square_weight: λ_square.
            correlation_weight: λ_correlation.
            classification_weight: λ_classification; with `distillation` it may be 0.
        """

        name: Literal["map_distillation"]
        teacher: MapTeacherConfig
        square_weight: NonNegative = 8.0
        correlation_weight: NonNegative = 4.0
        classification_weight: NonNegative = 0.0

    needs_maps = True

    def __init__(self, options: Options, network: TrainableNetwork) -> None:
        super().__init__(options, network)
        self.options: MapDistillation.Options = options

    @classmethod
    def target_maps(
        cls, options: Options, photos: PhotoSet, device: torch.device, folder: Path
    ) -> Mapping[str, NDArray[np.float32]]:
        """See `Method.target_maps`."""
        return make_maps(photos, options.teacher, device, folder / FILE)

    def terms(
        self, network: TrainableNetwork, batch: Batch, classify: Classify, moment: Moment
    ) -> tuple[torch.Tensor, Terms]:
        """See `Method.terms`."""
        assert batch.maps is not None, "the loader gives what target_maps made"
        outputs = network(batch.images)
        cam = outputs.cam(batch.target)
        options = self.options
        terms = {
            "map_square": Term(map_square_loss(cam, batch.maps), options.square_weight),
            "map_correlation": Term(
                map_correlation_loss(cam, batch.maps), options.correlation_weight
            ),
        }
        if options.classification_weight:
            loss = classify(outputs.logits, batch)
            terms["classification"] = Term(loss, options.classification_weight)
        return outputs.logits, terms
