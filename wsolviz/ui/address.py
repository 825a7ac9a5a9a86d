"""The choices in the page's address: parameters only, never a photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from wsolviz.backends.uploads import is_upload
from wsolviz.compare import CompareOptions, CompareRequest
from wsolviz.defaults import DEFAULTS
from wsolviz.methods import find_panel
from wsolviz.preprocess import MAX_INPUT, MIN_INPUT
from wsolviz.render import Look
from wsolviz.types import Contours, Precision, Space
from wsolviz.ui.backbones import check_allowed
from wsolviz.ui.status import reason
from wsolviz.ui.viewer_state import Colormap, Share, read_overrides

LISTS = ("backbones", "methods", "scales")
LOOK = ("threshold", "overrides", "contours", "opacity", "colormap")


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _as_text(chosen: object) -> object:
    """An index may come as a number; an address holds it as text."""
    return str(chosen) if isinstance(chosen, int) and not isinstance(chosen, bool) else chosen


Names: TypeAlias = Annotated[tuple[str, ...], AfterValidator(_once)]
ClassText: TypeAlias = Annotated[str | None, BeforeValidator(_as_text)]


class Choices(BaseModel, extra="ignore"):
    """What a visitor chose, as far as an address can hold it.

    Photos stay out of it: an address is passed on, and a photo is private. The keys of `overrides`,
    thresholds of single cells, are "backbone/method".
    """

    backbones: Names = DEFAULTS.backbones
    methods: Names = DEFAULTS.methods
    class_choice: ClassText = None
    space: Space = DEFAULTS.space
    image_size: int | None = Field(default=None, ge=MIN_INPUT, le=MAX_INPUT)
    scales: tuple[int, ...] = ()
    flip: bool = False
    output_stride: int | None = None
    precision: Precision = DEFAULTS.precision
    threshold: Share = DEFAULTS.cam_threshold
    overrides: dict[str, Share] = {}
    contours: Contours = DEFAULTS.contours
    opacity: Share = DEFAULTS.opacity
    colormap: Colormap = DEFAULTS.colormap

    def request(self) -> CompareRequest:
        """What to compute.

        Raises:
            ValueError: see `CompareRequest`; or a backbone that visitors may not name.
        """
        for name in self.backbones:
            check_allowed(name)
        options = CompareOptions(
            self.space,
            self.image_size,
            self.output_stride,
            self.precision,
            self.scales,
            self.flip,
        )
        return CompareRequest(self.backbones, self.methods, self.class_choice or None, options)

    def look(self) -> Look:
        """How to draw it."""
        return Look(
            cam_threshold=self.threshold,
            overrides=read_overrides(self.overrides),
            contours=self.contours,
            opacity=self.opacity,
            colormap=self.colormap,
        )

    def without_look(self) -> Choices:
        """What the controls hold of it; the viewer keeps the look by itself."""
        return self.model_copy(update={name: getattr(Choices(), name) for name in LOOK})

    def query(self) -> str:
        """The part of an address behind "?": whatever differs from the defaults.

        Files that were sent to the app stay out of it, as photos do.

        >>> Choices(methods=("cam", "pc1"), threshold=0.25).query()
        'methods=cam%2Cpc1&threshold=0.25'
        """
        passed_on = tuple(name for name in self.backbones if not is_upload(name))
        known = self.model_copy(update={"backbones": passed_on or DEFAULTS.backbones})
        changed = known.model_dump(exclude_defaults=True)
        for name in LISTS:
            if name in changed:
                changed[name] = ",".join(map(str, changed[name]))
        if "overrides" in changed:
            pairs = changed["overrides"].items()
            changed["overrides"] = ",".join(f"{key}:{value:.3f}" for key, value in pairs)
        return urlencode(changed)


def read_address(parameters: Mapping[str, str]) -> tuple[Choices, list[str]]:
    """Choices from an address, and a sentence for each part that had to be left out.

    >>> choices, problems = read_address({"methods": "cam,no,pc1", "threshold": "2"})
    >>> choices.methods, choices.threshold == DEFAULTS.cam_threshold, len(problems)
    (('cam', 'pc1'), True, 2)
    """
    kept: dict[str, Any] = {}
    problems: list[str] = []
    for name in [name for name in Choices.model_fields if name in parameters]:
        value: Any = parameters[name]
        if name in LISTS:
            value = tuple(value.split(","))
        if name == "overrides":
            value = dict(part.rpartition(":")[::2] for part in value.split(",") if part)
        if name == "methods":
            value = _known_methods(value, problems)
        if name == "backbones":
            value = _first_backbones(value, problems)
        if not value:
            continue
        try:
            Choices(**{**kept, name: value}).request()
        except ValueError as error:
            problems.append(f"The address's {name} was left out: {reason(error)}")
        else:
            kept[name] = value
    return Choices(**kept), problems


def _known_methods(names: tuple[str, ...], problems: list[str]) -> tuple[str, ...]:
    known = []
    for name in names:
        try:
            known.append(find_panel(name).name)
        except ValueError as error:
            problems.append(f"A method of the address was left out: {error}")
    return tuple(known)


def _first_backbones(names: tuple[str, ...], problems: list[str]) -> tuple[str, ...]:
    chosen, most = _allowed(_once(names), problems), DEFAULTS.max_backbones
    if len(chosen) > most:
        left_out = ", ".join(chosen[most:])
        problems.append(
            f"Of the address's backbones, {left_out} were left out: at most {most} are compared "
            "at once."
        )
    return chosen[:most]


def _allowed(names: tuple[str, ...], problems: list[str]) -> tuple[str, ...]:
    allowed = []
    for name in names:
        try:
            check_allowed(name)
        except ValueError as error:
            problems.append(f"A backbone of the address was left out: {error}")
        else:
            allowed.append(name)
    return tuple(allowed)
