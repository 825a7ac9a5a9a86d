"""What is asked of a measurement of receptive fields, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from wsolviz.analysis.erf import THRESHOLDS, Gaussian, erf_area, fit_gaussian, top_energy_pixels
from wsolviz.backends.base import without_folder
from wsolviz.backends.loading import check_output_stride, find_entry
from wsolviz.backends.timm_models import check_name
from wsolviz.classes import ClassChoice
from wsolviz.defaults import DEFAULTS
from wsolviz.fields.photos import NamedPhoto
from wsolviz.preprocess import MAX_INPUT, MIN_INPUT
from wsolviz.receptive_field import Erf
from wsolviz.types import Precision

WeightsKind = Literal["trained", "random"]

TOP_SHARE = 0.2  # of the energy, whose pixels are counted
SIZE_WARNING = (
    "These numbers, and the order of the networks, hold for this input size only: at 224 pixels "
    "trained networks' fields fill the image, and at larger sizes the order changes."
)


@dataclass(frozen=True)
class FieldRequest:
    """Which fields to measure; doubles are taken once.

    Attributes:
        backbones: names.
        photos: that each field is the mean over.
        size: side of the network's input in pixels.
        weights: "trained", "random" or both, a row each.
        position: (row, column) of the feature map; None for its middle.
        class_choice: index or name of the class whose CAM is asked about; None for all channels.
        output_stride: see `load_backbone`; so is precision.
        batch_size: photos a pass; changes nothing but the last bits.
        seed: of the random weights.

    Raises:
        UnknownNameError: a backbone that does not exist.
        ValueError: no backbone or photo, or an option out of range.
    """

    backbones: tuple[str, ...]
    photos: tuple[NamedPhoto, ...]
    size: int = DEFAULTS.erf_size
    weights: tuple[WeightsKind, ...] = ("trained",)
    position: tuple[int, int] | None = None
    class_choice: ClassChoice = None
    output_stride: int | None = None
    precision: Precision = DEFAULTS.precision
    batch_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("backbones", "weights"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        if not self.backbones or not self.photos or not self.weights:
            raise ValueError("Choose at least one backbone, one photo and one kind of weights.")
        if not MIN_INPUT <= self.size <= MAX_INPUT:
            raise ValueError(
                f"size is {self.size}; it must lie between {MIN_INPUT} and {MAX_INPUT} pixels."
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it is at least 1.")
        check_output_stride(self.output_stride)
        for name in self.backbones:
            find_entry(name)
            if name.startswith("timm/"):
                check_name(name.removeprefix("timm/"))

    @property
    def networks(self) -> list[tuple[str, WeightsKind]]:
        """Name and kind of weights of each row."""
        return [(name, kind) for name in self.backbones for kind in self.weights]


@dataclass(frozen=True)
class Area:
    """The smallest square about the centre that holds more than a share of the log-scaled field.

    Attributes:
        threshold: the share t, in (0,1).
        side: of the square in pixels, odd; NaN where the field is zero everywhere.
        share: of the image that the square covers, in [0,1]; NaN likewise.
    """

    threshold: float
    side: float
    share: float


@dataclass(frozen=True)
class BrokenPhoto:
    """A photo that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class FieldRow:
    """The field of one backbone with one kind of weights.

    Attributes:
        backbone: the name that was asked for.
        weights: trained or random.
        source: where the weights came from.
        sha256: of the weights' file; of the parameters where there is no file.
        seed: of random weights; None for trained ones.
        erf: the field, its position and how many photos it is the mean over.
        class_name: of the class whose CAM was asked about; empty for all channels.
        broken: photos that could not be read, besides those that `erf` counts as skipped.
        seconds: that the measurement took, in this run or an earlier one.
        num_reused: photos whose contributions were on disk already.
    """

    backbone: str
    weights: WeightsKind
    source: str
    sha256: str
    seed: int | None
    erf: Erf
    class_name: str = ""
    broken: tuple[BrokenPhoto, ...] = ()
    seconds: float = 0.0
    num_reused: int = 0

    @property
    def label(self) -> str:
        """Backbone and kind of weights."""
        return label_of(self.backbone, self.weights)

    @property
    def size(self) -> tuple[int, int]:
        """(H,W) of the network's input in pixels."""
        height, width = self.erf.contribution.shape
        return height, width

    @property
    def num_skipped(self) -> int:
        """Photos that could not be read, and those without a finite gradient."""
        return len(self.broken) + self.erf.num_skipped

    @property
    def highest(self) -> float:
        """The largest contribution."""
        return float(self.erf.contribution.max())

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """At each of THRESHOLDS."""
        found = erf_area(self.erf.contribution, THRESHOLDS, self.erf.centre)
        return tuple(Area(t, *map(float, row)) for t, row in zip(THRESHOLDS, found, strict=True))

    @cached_property
    def top_pixels(self) -> int:
        """How few pixels hold TOP_SHARE of the energy."""
        return top_energy_pixels(self.erf.contribution, TOP_SHARE)

    @cached_property
    def gaussian(self) -> Gaussian | None:
        """The Gaussian that fits best; None where the field is the same everywhere."""
        return fit_gaussian(self.erf.contribution)


@dataclass(frozen=True)
class MissingRow:
    """A network that could not be measured.

    Attributes:
        backbone: the name that was asked for.
        weights: trained or random.
        failure: why.
        notice: the same for visitors of the page, see `wsolviz.errors`.
    """

    backbone: str
    weights: WeightsKind
    failure: str
    notice: str

    @property
    def label(self) -> str:
        """Backbone and kind of weights."""
        return label_of(self.backbone, self.weights)


@dataclass(frozen=True)
class Fields:
    """What a request gave.

    Attributes:
        request: what was asked.
        rows: in the request's order.
        missing: the networks that could not be measured.
    """

    request: FieldRequest
    rows: tuple[FieldRow, ...]
    missing: tuple[MissingRow, ...] = ()

    @property
    def title(self) -> str:
        """What was measured, with the input size, without which no number means anything."""
        size, request = self.request.size, self.request
        where = "" if request.position is None else ", position {},{}".format(*request.position)
        of = "" if request.class_choice is None else f", class {request.class_choice}"
        return f"Effective receptive fields at {size}×{size}, {self.photos}{where}{of}"

    @property
    def photos(self) -> str:
        """How many photos the fields are the mean over, and how many were skipped, in words."""
        counts = [row.erf.num_images for row in self.rows] or [len(self.request.photos)]
        skipped = [row.num_skipped for row in self.rows]
        # Unreadable photos are the same for all networks, gradients that are not finite are not.
        least = f"{min(counts)} to " if min(counts) < max(counts) else ""
        told = f"{least}{max(counts)} photo{'' if max(counts) == 1 else 's'}"
        if not any(skipped):
            return told
        up_to = "up to " if min(skipped) < max(skipped) else ""
        return f"{told} ({up_to}{max(skipped)} skipped)"

    def for_visitors(self) -> Fields:
        """The same without what only the server's owner is to know: its folders."""
        rows = (replace(row, source=without_folder(row.source)) for row in self.rows)
        missing = (replace(row, failure=row.notice) for row in self.missing)
        return replace(self, rows=tuple(rows), missing=tuple(missing))


def label_of(backbone: str, weights: WeightsKind) -> str:
    """What a row is called.

    >>> label_of("efficientnet_lite0", "random")
    'efficientnet_lite0, random'
    """
    return f"{backbone}, {weights}"
