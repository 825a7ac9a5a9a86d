"""Typical images of a run, drawn: the heatmap, its box at the run's threshold, the true boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsolviz.analysis.boxes import boxes_of_each_policy, scale_boxes
from wsolviz.analysis.scoremap import merged_scoremap
from wsolviz.evaluation.scoring import CENTRE_BOX, centre_boxes
from wsolviz.evaluation.sources import Source
from wsolviz.explain import display_grid
from wsolviz.render import RGB, TRUE_BOX_COLOUR, Look, cell_image, draw_box
from wsolviz.types import ClassScore, Explanation

LONGEST = 256  # pixels of a drawn image


def case_image(source: Source, case: dict[str, Any], look: Look) -> RGB:
    """Draw one row of the table of images.

    Args:
        source: of the run.
        case: a row that has a box, see `wsolviz.evaluation.table.Row`.
        look: how it is drawn; the threshold is the row's own.

    Returns:
        (H,W,3) uint8.

    Raises:
        ValueError: a photo that cannot be read any more.
        OSError: likewise.
    """
    image_id, method = case["image_id"], case["method"]
    photo = source.dataset.images.read(image_id)
    heatmaps = (
        [centre_boxes(source.map_size)[0]]
        if method == CENTRE_BOX
        else source.heatmaps(image_id, method, case["explained"])
    )
    scores = merged_scoremap(heatmaps, display_grid(photo.size, LONGEST))
    explanation = Explanation(
        backbone="",
        method=method,
        target=ClassScore(case["explained"] or 0, "", 0.0, 0.0),
        heatmap=heatmaps[0].astype(np.float32),
        scoremap=scores,
        boxes=boxes_of_each_policy(scores),
        image_size=photo.size,
    )
    drawn = cell_image(photo.image, explanation, look)
    metadata = source.dataset.metadata
    for box in true_boxes_on(
        scores.shape, metadata.boxes[image_id], metadata.image_sizes[image_id]
    ):
        draw_box(drawn, box, TRUE_BOX_COLOUR, dashed=True)
    return drawn


def true_boxes_on(
    grid: tuple[int, ...], boxes: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """True boxes in the pixels of a score map, (n,4) x0,y0,x1,y1, corners included.

    Args:
        grid: (height, width) of the map.
        boxes: (n,4) in the metadata's pixels.
        size: (width, height) of the image in those pixels.
    """
    edge = np.tile(np.array(size) - 1, 2)  # some sets' boxes end at the width itself
    height, width = grid
    return scale_boxes(np.minimum(boxes, edge), size, (width, height))


def look_of(case: dict[str, Any]) -> Look:
    """The look at which a row's box is drawn."""
    return Look(cam_threshold=case["cam_threshold"], contours="largest")
