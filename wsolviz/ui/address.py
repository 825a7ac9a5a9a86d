"""The choices in the page's address: parameters only, never a photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from wsolviz.compare import CompareOptions, CompareRequest
from wsolviz.defaults import DEFAULTS
from wsolviz.render import Look
from wsolviz.types import Contours, Precision, Space
from wsolviz.ui.viewer_state import Colormap, Share
from wsolviz.views import MAX_INPUT, MIN_INPUT

LISTS = ("backbones", "methods", "scales")


class Choices(BaseModel, extra="ignore"):
    """What a visitor chose, as far as an address can hold it.

    Photos stay out of it: an address is passed on, and a photo is private.
    """

    backbones: tuple[str, ...] = DEFAULTS.backbones
    methods: tuple[str, ...] = DEFAULTS.methods
    class_choice: str | None = None
    space: Space = DEFAULTS.space
    image_size: int | None = Field(default=None, ge=MIN_INPUT, le=MAX_INPUT)
    scales: tuple[int, ...] = ()
    flip: bool = False
    output_stride: int | None = None
    precision: Precision = DEFAULTS.precision
    threshold: Share = DEFAULTS.cam_threshold
    contours: Contours = DEFAULTS.contours
    opacity: Share = DEFAULTS.opacity
    colormap: Colormap = DEFAULTS.colormap

    def request(self) -> CompareRequest:
        """What to compute.

        Raises:
            ValueError: see `CompareRequest`.
        """
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
            contours=self.contours,
            opacity=self.opacity,
            colormap=self.colormap,
        )

    def query(self) -> str:
        """The part of an address behind "?": whatever differs from the defaults.

        >>> Choices(methods=("cam", "pc1"), threshold=0.25).query()
        'methods=cam%2Cpc1&threshold=0.25'
        """
        changed = self.model_dump(exclude_defaults=True)
        for name in LISTS:
            if name in changed:
                changed[name] = ",".join(map(str, changed[name]))
        return urlencode(changed)


def read_address(parameters: Mapping[str, str]) -> tuple[Choices, list[str]]:
    """Choices from an address, and a sentence for each part that had to be left out.

    >>> choices, problems = read_address({"methods": "cam,pc1", "threshold": "2"})
    >>> choices.methods, choices.threshold == DEFAULTS.cam_threshold, len(problems)
    (('cam', 'pc1'), True, 1)
    """
    given: dict[str, Any] = {
        name: tuple(value.split(",")) if name in LISTS else value
        for name, value in parameters.items()
        if name in Choices.model_fields
    }
    problems = []
    try:
        choices = Choices(**given)
    except ValidationError as error:
        wrong = {str(problem["loc"][0]): problem["msg"] for problem in error.errors()}
        problems += [f"The address's {name} was left out: {why}." for name, why in wrong.items()]
        choices = Choices(**{name: value for name, value in given.items() if name not in wrong})
    try:
        choices.request()
    except ValueError as error:
        problems.append(f"The address was not understood: {error}")
        choices = choices.model_copy(
            update={
                "backbones": DEFAULTS.backbones,
                "methods": DEFAULTS.methods,
                "output_stride": None,
                "image_size": None,
                "scales": (),
            }
        )
    return choices, problems
