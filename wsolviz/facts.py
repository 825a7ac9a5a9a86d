"""The numbers under a row or a cell, as people read them: label, value with unit, meaning."""

from __future__ import annotations

from dataclasses import dataclass

from wsolviz.analysis.decomposition import WEIGHT_NORM
from wsolviz.compare import PanelFailure, Row
from wsolviz.explain import Inspection
from wsolviz.methods import Quantity, find_panel
from wsolviz.types import Explanation, Number, Picture


@dataclass(frozen=True)
class Fact:
    """One number as it is shown."""

    label: str
    value: str
    help: str


def row_facts(row: Row) -> list[Fact]:
    """What holds for a whole row: the class, the space, exactness, sizes and time."""
    if row.inspection is None or row.target is None:
        return []
    features = row.inspection.features
    height, width = features.feature_map.shape[2:]
    norm = float(features.class_weight(row.target.index).norm())
    return [
        Fact(
            "probability",
            f"{row.target.probability:.3f}",
            "Softmax probability of the explained class.",
        ),
        Fact(
            "logit",
            f"{row.target.logit:.2f}".replace("-", "−"),
            "The network's output for the explained class.",
        ),
        Fact(WEIGHT_NORM.label, f"{norm:.3f}", WEIGHT_NORM.help),
        Fact("CAM is", "exact" if features.exact else "not exact", _exactness(row.inspection)),
        Fact(
            "space",
            features.space,
            "logit: the head's norm is folded into the map, so CAM adds up to the logit. "
            "pre_norm: the map before that norm, as the papers' own code used it.",
        ),
        Fact("map", f"{width}×{height}", "Cells of the feature map, before resizing."),
        Fact("input", _inputs(row.inspection), "The photo is warped to this size for the network."),
        Fact(
            "forward",
            _duration(row.inspection.milliseconds),
            "Preprocessing and the forward pass, one a view, that all panels of this row share, "
            "when the features were made; they are kept.",
        ),
    ]


def _inputs(inspection: Inspection) -> str:
    """The sizes of all views: "224×224 px", or "224, 320 px, also mirrored" of several."""
    if len(inspection.views) == 1:
        return "×".join(str(side) for side in inspection.input_size[::-1]) + " px"
    sides = dict.fromkeys(f"{view.features.input_size[1]}" for view in inspection.views)
    mirrored = ", also mirrored" if any(view.flipped for view in inspection.views) else ""
    return f"{', '.join(sides)} px{mirrored}"


def _exactness(inspection: Inspection) -> str:
    if inspection.features.exact:
        return "CAM plus the class bias averages to the logit; checked when the network was loaded."
    reason = inspection.backbone.inexactness or "the map is taken before the head's norm"
    return f"CAM does not add up to the logit: {reason}."


def cell_facts(cell: Explanation | Picture | PanelFailure) -> list[Fact]:
    """A method's own numbers, and what it cost beyond the forward pass."""
    if isinstance(cell, PanelFailure):
        return []
    declared = find_panel(cell.method).quantities
    facts = []
    for name, value in cell.numbers.items():
        quantity = declared.get(name, Quantity(name, ""))
        facts.append(Fact(quantity.label, format_number(value, quantity), quantity.help))
    time = Fact("time", _duration(cell.milliseconds), "Beyond the shared forward pass.")
    return [*facts, time]


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def format_number(value: Number, quantity: Quantity) -> str:
    """A number with its unit.

    >>> format_number(0.336, Quantity("variance", "", "%"))
    '33.6 %'
    """
    if quantity.unit == "%":
        return f"{100 * value:.1f} %"
    if quantity.unit == "yes/no":
        return "yes" if value else "no"
    return f"{value:.3f}"
