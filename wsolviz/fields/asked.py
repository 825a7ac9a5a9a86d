"""The field of one place of one photo: what a value of a heatmap was computed from."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from wsolviz.analysis.erf import THRESHOLDS, erf_area
from wsolviz.backends.loading import on_eviction
from wsolviz.cache import ByteBoundedCache
from wsolviz.defaults import DEFAULTS
from wsolviz.explain import Inspection
from wsolviz.fields.request import Area
from wsolviz.receptive_field import Erf, measure_erf


@dataclass(frozen=True)
class AskedField:
    """The field of one position, of one photo.

    Attributes:
        erf: the field, on the network's input.
        areas: at each of THRESHOLDS, about the position.
        milliseconds: that it took when it was measured.
    """

    erf: Erf
    areas: tuple[Area, ...]
    milliseconds: float


@dataclass(frozen=True)
class _Key:
    """Everything that such a field depends on."""

    photo: str
    backbone: int
    fingerprint: object
    input_size: tuple[int, int]
    position: tuple[int, int]
    class_index: int | None


def cell_at(
    point: tuple[int, int], image_size: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int]:
    """(row, column) of the feature map's cell that lies over a pixel of the photo.

    Args:
        point: (x, y) in the photo's pixels.
        image_size: (width, height) of the photo.
        grid: (h, w) of the feature map.

    Raises:
        ValueError: a point outside of the photo.

    >>> cell_at((99, 0), (100, 50), (7, 7))
    (0, 6)
    """
    (x, y), (width, height), (h, w) = point, image_size, grid
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"The point {x}, {y} lies outside of the photo's {width}×{height} pixels.")
    return int((y + 0.5) * h / height), int((x + 0.5) * w / width)


def field_at(
    inspection: Inspection, point: tuple[int, int], class_index: int | None = None
) -> AskedField:
    """The field of the position under a pixel of the photo, in the first view; kept in memory.

    Args:
        inspection: a photo, and the network that looked at it.
        point: (x, y) in the photo's pixels.
        class_index: the class whose CAM is asked about; None for all channels.

    Raises:
        ValueError: a point outside of the photo, or a gradient that is not finite.
    """
    backbone, photo, features = inspection.backbone, inspection.photo, inspection.features
    height, width = features.feature_map.shape[2:]
    position = cell_at(point, photo.size, (height, width))

    def measure(_: object) -> AskedField:
        start = time.perf_counter()
        preprocess = replace(backbone.preprocessing, size=inspection.input_size)
        images = preprocess(photo.image)[None]
        erf = measure_erf(backbone, images, position=position, class_index=class_index)
        milliseconds = 1000 * (time.perf_counter() - start)
        found = erf_area(erf.contribution, THRESHOLDS, erf.centre)
        areas = (Area(t, *map(float, row)) for t, row in zip(THRESHOLDS, found, strict=True))
        return AskedField(erf, tuple(areas), milliseconds)

    key = _Key(
        photo.digest,
        id(backbone),
        backbone.fingerprint,
        inspection.input_size,
        position,
        class_index,
    )
    return _asked.get(key, measure)


_asked: ByteBoundedCache[AskedField] = ByteBoundedCache(
    DEFAULTS.asked_fields_bytes, size_of=lambda asked: asked.erf.contribution.nbytes
)


@on_eviction
def _forget(_: object) -> None:
    """Another network may get the identity of one that left memory."""
    _asked.discard(lambda _: True)
