"""Score maps compared with the ground truth, and the baseline that looks at no photo."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsolviz.evaluation.box_metrics import ScoremapBoxes
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.mask_metrics import MaskEvaluator
from wsolviz.evaluation.records import MethodRecord

CENTRE_BOX = "centre_box"


@cache
def centre_boxes(size: int) -> tuple[NDArray[np.float64], ScoremapBoxes]:
    """The baseline that looks at no photo: score 1 in the middle, falling to 0 at the border.

    Its box at a threshold is centred and has the photo's proportions, so that the sweep over
    thresholds finds the best such box of the data set.
    """
    distance = np.abs(np.linspace(-1, 1, size))
    scores = 1 - np.maximum(distance[:, None], distance[None, :])
    return scores, ScoremapBoxes.of(scores)


class Scorer:
    """Compares score maps with the ground truth of one data set."""

    def __init__(self, dataset: Dataset, map_size: int) -> None:
        self.metadata = dataset.metadata
        self.map_size = map_size
        self._masks = (
            MaskEvaluator(self.metadata, dataset.mask_root, size=map_size)
            if self.metadata.masks
            else None
        )

    def score(
        self, scoremap: NDArray[Any], image_id: str, boxes: ScoremapBoxes | None = None
    ) -> MethodRecord:
        """What a run keeps of one score map.

        Args:
            scoremap: (map_size,map_size) in [0,1].
            image_id: in the metadata.
            boxes: the map's boxes, where they are known already.

        Raises:
            ValueError: a map out of range, or a mask that cannot be read.
            FileNotFoundError: a mask that is not there.
        """
        curves = largest = histograms = None
        if image_id in self.metadata.boxes:
            boxes = boxes or ScoremapBoxes.of(scoremap)
            curves = boxes.curves(self.metadata.resized_boxes(image_id, (self.map_size,) * 2))
            largest = boxes.boxes["largest"]
        if self._masks is not None and image_id in self.metadata.masks:
            histograms = self._masks.histograms(scoremap, image_id)
        return MethodRecord(curves, largest, histograms)

    def baseline(self, image_id: str) -> MethodRecord:
        """What the centre box gives."""
        scores, boxes = centre_boxes(self.map_size)
        return self.score(scores, image_id, boxes)
