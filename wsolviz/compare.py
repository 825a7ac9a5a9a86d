"""One photo, several backbones, several methods: what the app, the CLI and the report all show."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import check_output_stride, load_backbone
from wsolviz.backends.uploads import title_of
from wsolviz.classes import ClassChoice
from wsolviz.defaults import DEFAULTS
from wsolviz.errors import explain_error
from wsolviz.explain import Inspection, inspect_photo
from wsolviz.methods import Cost, find_panel
from wsolviz.photo import Photo, PhotoSource, read_photo
from wsolviz.progress import Progress, StoppedError, ignore_progress, listening
from wsolviz.types import ClassScore, Explanation, Picture, Precision, Space
from wsolviz.views import ViewOptions

# How long steps take, in forward passes: Ablation-CAM and Score-CAM take hundreds.
LOADING_WEIGHT, FORWARD_WEIGHT = 5, 2
PANEL_WEIGHT: dict[Cost, int] = {"free": 1, "gradient": 1, "slow": 300}

NOTHING_CHOSEN = "Choose at least one backbone and one method."


@dataclass(frozen=True)
class PanelFailure:
    """A panel that this backbone does not allow.

    Attributes:
        method: the panel's name.
        message: why.
        notice: the same for visitors of the page, see `wsolviz.errors`.
    """

    method: str
    message: str
    notice: str


Cell: TypeAlias = Explanation | Picture | PanelFailure


@dataclass(frozen=True)
class Row:
    """One backbone's panels.

    Attributes:
        backbone: the name that was asked for, or what `title_of` makes of a file's.
        inspection: the forward pass, or None where the backbone could not be used at all.
        target: the explained class, or None where the backbone does not have it, either.
        cells: one for each method that was asked for.
        failure: why there is no inspection or no target; empty otherwise.
        notice: the same for visitors of the page, see `wsolviz.errors`.
    """

    backbone: str
    inspection: Inspection | None
    target: ClassScore | None
    cells: tuple[Cell, ...]
    failure: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Comparison:
    """The grid: one row a backbone, one column a method."""

    photo: Photo
    request: CompareRequest
    rows: tuple[Row, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The columns."""
        return self.request.methods

    @property
    def is_empty(self) -> bool:
        """Whether no backbone gave a row."""
        return all(row.failure for row in self.rows)

    @property
    def notices(self) -> tuple[str, ...]:
        """Why rows are missing, each reason once, as visitors are told."""
        return tuple(dict.fromkeys(row.notice for row in self.rows if row.failure))


@dataclass(frozen=True)
class CompareOptions:
    """What can be chosen beside photo, backbones, methods and class.

    Attributes:
        space: feature space.
        image_size: see `ViewOptions`; so are scales and flip.
        output_stride: see `load_backbone`.
        precision: of the forward pass, see `load_backbone`.

    Raises:
        ValueError: a size or a stride out of bounds.
    """

    space: Space = DEFAULTS.space
    image_size: int | None = None
    output_stride: int | None = None
    precision: Precision = DEFAULTS.precision
    scales: tuple[int, ...] = ()
    flip: bool = False

    def __post_init__(self) -> None:
        check_output_stride(self.output_stride)
        assert self.views  # which checks what it is made of

    @property
    def views(self) -> ViewOptions:
        """How often, and how large, the network sees a photo."""
        return ViewOptions(self.image_size, self.scales, self.flip)

    def load(self, name: str, device: str = "auto") -> Backbone:
        """Load a backbone with these options; see `load_backbone` for what it raises."""
        return load_backbone(
            name, device=device, output_stride=self.output_stride, precision=self.precision
        )


@dataclass(frozen=True)
class CompareRequest:
    """Which backbones and methods to compare, and for which class; doubles are taken once.

    Raises:
        UnknownNameError: a method that does not exist.
        ValueError: no backbone, no method, more backbones than are compared at once, or two files
            of one name.
    """

    backbones: tuple[str, ...] = DEFAULTS.backbones
    methods: tuple[str, ...] = DEFAULTS.methods
    class_choice: ClassChoice = None
    options: CompareOptions = field(default_factory=CompareOptions)

    def __post_init__(self) -> None:
        for name in ("backbones", "methods"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        if not self.backbones or not self.methods:
            raise ValueError(NOTHING_CHOSEN)
        if len(self.backbones) > DEFAULTS.max_backbones:
            raise ValueError(
                f"{len(self.backbones)} backbones were chosen; at most {DEFAULTS.max_backbones} "
                "are compared at once."
            )
        titles = self.titles
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:  # rows and files of an export are told apart by them
            raise ValueError(
                f"Two different files are named {twice}; rename one of them, and send or name it "
                "again."
            )
        for name in self.methods:
            find_panel(name)

    @property
    def titles(self) -> tuple[str, ...]:
        """The backbones as people are shown them, see `Row`."""
        return tuple(map(title_of, self.backbones))


def compare(
    photo: PhotoSource, request: CompareRequest, progress: Progress = ignore_progress
) -> Comparison:
    """Explain one photo with every backbone and method of a request.

    What fails for one backbone or one panel is told in its place, and stops nothing else.

    Args:
        photo: see `read_photo`.
        request: backbones, methods, class and options.
        progress: called with a share in [0,1] and what is being done; what it raises ends the
            work.

    Raises:
        ValueError: a photo that cannot be read.
    """
    read = read_photo(photo)
    panels = sum(PANEL_WEIGHT[find_panel(name).cost] for name in request.methods)
    row_weight = LOADING_WEIGHT + FORWARD_WEIGHT + panels
    steps = Steps(len(request.backbones) * row_weight, progress)
    rows = tuple(_row(read, name, request, steps) for name in request.backbones)
    progress(1.0, "done")
    return Comparison(read, request, rows)


class Steps:
    """Counts weighted steps of a job, and lets the work inside a step report its own share."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total = total
        self.done = 0
        self._progress = progress

    @contextmanager
    def step(self, text: str, weight: int) -> Iterator[None]:
        """One step; what is reported inside it is passed on with the step's text."""

        def pass_on(share: float, detail: str) -> None:
            self._progress((self.done + weight * share) / self.total, f"{text}: {detail}")

        self._progress(self.done / self.total, text)
        with listening(pass_on):
            yield
        self.done += weight


def _row(photo: Photo, name: str, request: CompareRequest, steps: Steps) -> Row:
    options = request.options
    inspection = None
    title = title_of(name)
    try:
        with steps.step(f"{title}: loading", LOADING_WEIGHT):
            backbone = options.load(name)
        with steps.step(f"{title}: forward pass", FORWARD_WEIGHT):
            inspection = inspect_photo(photo, backbone, options.space, options.views)
        target = inspection.score(inspection.resolve(request.class_choice))
    except StoppedError:
        raise
    except Exception as error:  # whatever it is, the other rows go on
        reason = explain_error(error, title)
        failures = tuple(PanelFailure(method, *reason) for method in request.methods)
        return Row(title, inspection, None, failures, *reason)
    started = [_start(inspection, method, target, steps) for method in request.methods]
    cells = tuple(_finish(inspection, *pair) for pair in zip(request.methods, started, strict=True))
    return Row(title, inspection, target, cells)


def _start(
    inspection: Inspection, method: str, target: ClassScore, steps: Steps
) -> Future[Explanation | Picture] | PanelFailure:
    panel = find_panel(method)
    try:
        with steps.step(_step_name(inspection, method), PANEL_WEIGHT[panel.cost]):
            return inspection.start(method, target.index)
    except StoppedError:
        raise
    except Exception as error:  # whatever it is, the other panels go on
        return PanelFailure(method, *explain_error(error, _step_name(inspection, method)))


def _finish(
    inspection: Inspection, method: str, started: Future[Explanation | Picture] | PanelFailure
) -> Cell:
    if isinstance(started, PanelFailure):
        return started
    try:
        return started.result()
    except Exception as error:  # as above
        return PanelFailure(method, *explain_error(error, _step_name(inspection, method)))


def _step_name(inspection: Inspection, method: str) -> str:
    return f"{title_of(inspection.backbone.name)}: {find_panel(method).title}"
