"""What the viewer in the browser tells: its threshold, overrides, true box and looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from wsolviz.defaults import DEFAULTS
from wsolviz.photo import MAX_MEGAPIXELS
from wsolviz.render import SEQUENTIAL, Look
from wsolviz.types import Contours

# What an address may say of the viewer is bounded alike, see `wsolviz.ui.address`.
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


def _known_colormap(name: str) -> str:
    if name not in SEQUENTIAL:
        raise PydanticCustomError("colormap", f"Input should be one of {', '.join(SEQUENTIAL)}")
    return name


Colormap: TypeAlias = Annotated[str, AfterValidator(_known_colormap)]

# No photo that is read has a longer side.
Side: TypeAlias = Annotated[int, Field(ge=0, lt=MAX_MEGAPIXELS * 1_000_000)]

# Given to an event as its `js`: fills the last input, the hidden text, with the viewer's state.
FILL_STATE = "(...inputs) => { inputs[inputs.length - 1] = window.wsolvizState(); return inputs; }"


class ViewerState(BaseModel, extra="ignore"):
    """The state that `state()` of assets/viewer.js gives; keys of overrides are "row/method".

    `narrow` is the page's own: whether it has no room for things side by side.
    """

    threshold: Share = DEFAULTS.cam_threshold
    overrides: dict[str, Share] = {}
    contours: Contours = DEFAULTS.contours
    opacity: Share = DEFAULTS.opacity
    colormap: Colormap = DEFAULTS.colormap
    true_box: tuple[Side, Side, Side, Side] | None = None
    narrow: bool = False


def is_narrow(state: str) -> bool:
    """Whether the page has no room for things side by side.

    Raises:
        ValueError: a text that the page does not write.
    """
    return ViewerState.model_validate_json(state or "{}").narrow


def read_look(state: str) -> Look:
    """The viewer's state, as the browser tells it, as a look.

    Raises:
        ValueError: a text that the viewer does not write.
    """
    told = ViewerState.model_validate_json(state or "{}")
    return Look(
        cam_threshold=told.threshold,
        overrides=read_overrides(told.overrides),
        contours=told.contours,
        opacity=told.opacity,
        colormap=told.colormap,
        true_box=told.true_box,
    )


def read_overrides(overrides: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Thresholds of single cells by (backbone, method).

    >>> read_overrides({"timm/resnet50/cam": 0.4})
    {('timm/resnet50', 'cam'): 0.4}
    """
    split = {key: key.rpartition("/") for key in overrides}
    return {(split[key][0], split[key][2]): value for key, value in overrides.items()}
