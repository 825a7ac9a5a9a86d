"""A fixed set of photos, drawn after each measured epoch: how CAM and its two factors change.

What Fig. 1b of Bridging the Gap (Kim et al., CVPR 2022) shows of one photo, for every epoch.
"""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, TypeAdapter

from training.record.epoch import Validation
from training.record.files import epoch_folder, write_whole
from wsolviz.analysis.boxes import best_iou_at_levels, threshold_level
from wsolviz.backends.base import Backbone
from wsolviz.defaults import DEFAULTS
from wsolviz.evaluation.classes import match_classes
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.gallery import true_boxes_on
from wsolviz.explain import Inspection
from wsolviz.photo import Photo
from wsolviz.render import RGB, TRUE_BOX_COLOUR, Look, cell_image, draw_box
from wsolviz.types import Explanation
from wsolviz.views import take_views

PANELS = ("cam", "feature_norm", "cosine")  # CAM and its factors, as in the paper's figure
INDEX = "photos.json"
QUALITY = 75  # of WebP: some 15 kB an overlay
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GalleryPhoto:
    """One photo of the set.

    Attributes:
        photo: as it was read.
        class_index: the network's class of its label, which is explained.
        boxes: (n,4) x0,y0,x1,y1, corners included; empty where nobody knows the true ones.
        boxes_size: (width, height) of the photo in whose pixels the boxes are.
    """

    photo: Photo
    class_index: int
    boxes: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 4), np.int64))
    boxes_size: tuple[int, int] = (1, 1)

    def true_boxes(self, grid: tuple[int, ...]) -> NDArray[np.int64]:
        """Its true boxes in the pixels of a (height, width) score map."""
        if not len(self.boxes):
            return self.boxes
        return true_boxes_on(grid, self.boxes, self.boxes_size)


class Drawn(BaseModel):
    """One overlay on disk.

    Attributes:
        file: in the epoch's folder.
        cam_threshold: at which its box was made.
        iou: of the largest contour's box with the best true box; None where there is no true box.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    cam_threshold: float
    iou: float | None = None


class DrawnPhoto(BaseModel):
    """One photo's overlays by panel, and how sure the network was of the explained class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    class_name: str
    probability: float
    panels: dict[str, Drawn]


_Index = TypeAdapter(list[DrawnPhoto])


def spread(labels: Sequence[int], count: int) -> list[int]:
    """Which of many images to show: places in `labels`, the same ones each time.

    Of as many classes as possible, evenly over their numbers, each class's first images first.

    >>> spread([0, 0, 1, 1, 2, 2, 3], 2)
    [0, 4]
    >>> spread([0, 0, 0, 1], 3)
    [0, 3, 1]
    """
    places = defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    classes = sorted(places)
    if count < len(classes):
        classes = [classes[i * len(classes) // count] for i in range(count)]
    rounds = zip_longest(*(places[label] for label in classes))
    return [place for place in chain(*rounds) if place is not None][:count]


def gallery_photos(dataset: Dataset, backbone: Backbone, count: int) -> list[GalleryPhoto]:
    """Photos of a split, those with true boxes where there are any.

    Args:
        dataset: the split.
        backbone: whose classes its labels are.
        count: how many; photos that cannot be read are left out.

    Raises:
        ValueError: labels that the network does not have.
    """
    truth = dataset.metadata
    classes = match_classes(dataset, backbone.num_classes, backbone.class_names)
    images = [image for image in truth.image_ids if image in truth.boxes] or truth.image_ids
    chosen = []
    for place in spread([truth.class_labels[image] for image in images], count):
        image = images[place]
        try:
            photo = dataset.images.read(image)
        except (ValueError, OSError) as error:
            _logger.warning("%s is not drawn: %s", image, error)
            continue
        known = (truth.boxes[image], truth.image_sizes[image]) if image in truth.boxes else ()
        chosen.append(GalleryPhoto(photo, classes[truth.class_labels[image]], *known))
    return chosen


def draw_gallery(
    folder: Path,
    epochs_done: int,
    backbone: Backbone,
    photos: Sequence[GalleryPhoto],
    validation: Validation | None = None,
) -> Path:
    """Draw every photo as the network sees it now; returns the epoch's folder.

    Args:
        folder: of all epochs' galleries.
        epochs_done: 0 before any training.
        backbone: in eval mode.
        photos: the set.
        validation: whose thresholds the boxes are made at; None for the app's usual one.

    Raises:
        OSError: a picture cannot be written.
    """
    target = epoch_folder(folder, epochs_done)
    target.mkdir(parents=True, exist_ok=True)
    drawn = []
    for number, shown in enumerate(photos):
        panels = {}
        for cell in explain_now(backbone, shown):
            look = Look(cam_threshold=_threshold(validation, cell.method))
            file = f"{number:02d}-{cell.method}.webp"
            write_whole(target / file, _webp(overlay(shown, cell, look)))
            iou = _iou(shown, cell, look.cam_threshold)
            panels[cell.method] = Drawn(file=file, cam_threshold=look.cam_threshold, iou=iou)
        drawn.append(
            DrawnPhoto(
                name=shown.photo.name,
                class_name=cell.target.name,
                probability=cell.target.probability,
                panels=panels,
            )
        )
    write_whole(target / INDEX, _Index.dump_json(drawn, indent=1))
    return target


def read_gallery(folder: Path, epochs_done: int) -> list[DrawnPhoto]:
    """What `draw_gallery` wrote of an epoch; nothing where it was not drawn, or not to its end."""
    path = epoch_folder(folder, epochs_done) / INDEX
    return _Index.validate_json(path.read_bytes()) if path.is_file() else []


def explain_now(backbone: Backbone, shown: GalleryPhoto) -> list[Explanation]:
    """The photo's class by each of PANELS.

    Not by `wsolviz.explain`, which keeps the features of past photos: these weights will not come
    again.
    """
    views = take_views(backbone, [shown.photo.image])
    inspection = Inspection(shown.photo, backbone, views, milliseconds=0.0)
    started = [inspection.start(name, shown.class_index) for name in PANELS]
    return [cell for cell in (one.result() for one in started) if isinstance(cell, Explanation)]


def overlay(shown: GalleryPhoto, cell: Explanation, look: Look) -> RGB:
    """A cell as the app draws it, with the true boxes; (H,W,3) uint8."""
    drawn = cell_image(shown.photo.image, cell, look)
    for box in shown.true_boxes(cell.scoremap.shape):
        draw_box(drawn, box, TRUE_BOX_COLOUR, dashed=True)
    return drawn


def _threshold(validation: Validation | None, method: str) -> float:
    chosen = None if validation is None else validation.cam_threshold(method)
    return DEFAULTS.cam_threshold if chosen is None else chosen


def _iou(shown: GalleryPhoto, cell: Explanation, cam_threshold: float) -> float | None:
    true_boxes = shown.true_boxes(cell.scoremap.shape)
    if not len(true_boxes):
        return None
    level = threshold_level(cell.scoremap, cam_threshold)
    return float(best_iou_at_levels(cell.boxes["largest"], true_boxes)[level])


def _webp(pixels: RGB) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
