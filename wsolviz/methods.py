"""The registries of panels: METHODS give heatmaps, PICTURES give pictures.

A new method is one decorated function in `wsolviz/analysis/`; the app, the command line, the
report and the API read these registries and hold no list of their own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch

from wsolviz.registry import Registry, UnknownNameError, alternatives
from wsolviz.types import ClassIndex, Features

Numbers: TypeAlias = dict[str, torch.Tensor]
PanelFunction: TypeAlias = Callable[
    [Features, ClassIndex], "torch.Tensor | tuple[torch.Tensor, Numbers]"
]
Cost = Literal["free", "gradient", "slow"]


@dataclass(frozen=True)
class Quantity:
    """How a method's number is shown: its label, what it means, and its unit."""

    label: str
    help: str
    unit: Literal["", "%", "yes/no"] = ""


@dataclass(frozen=True)
class Panel:
    """One column of the grid, computed from `Features` and a class.

    Attributes:
        name: what users type and addresses hold.
        title: what stands above the column.
        function: see `__call__`.
        signed: whether zero means something, so that the panel is drawn around it.
        cost: "free" is computed from the forward pass that was done anyway, "gradient" replays the
            head, "slow" runs the network many times.
        quantities: how to show the numbers that `run` gives beside the panel.
    """

    name: str
    title: str
    function: PanelFunction
    signed: bool = False
    cost: Cost = "free"
    quantities: Mapping[str, Quantity] = field(default_factory=dict)

    @property
    def help(self) -> str:
        """What the panel shows, in one sentence: the first paragraph of its docstring."""
        first = inspect.getdoc(self.function) or ""
        return " ".join(first.split("\n\n")[0].split())

    def __call__(self, features: Features, class_index: ClassIndex = None) -> torch.Tensor:
        """Compute the panel for a batch.

        Args:
            features: of B images.
            class_index: None for each image's own top-1, one index, or one for each image.

        Returns:
            (B,h,w), raw and signed; of a picture see `PICTURES`.
        """
        return self.run(features, class_index)[0]

    def run(
        self, features: Features, class_index: ClassIndex = None
    ) -> tuple[torch.Tensor, Numbers]:
        """Compute the panel and its numbers; each number is a (B,) tensor."""
        result = self.function(features, class_index)
        panel, numbers = result if isinstance(result, tuple) else (result, {})
        batch = len(features.logits)
        assert panel.ndim >= 3, f"{self.name} gave {tuple(panel.shape)}, not a batch of maps"
        assert len(panel) == batch, f"{self.name} gave {tuple(panel.shape)} for {batch} images"
        return panel, numbers


# A term of a sum of methods, and what weights make sense in it.
TERM = re.compile(r"(?:(?P<weight>\d*\.?\d+(?:e-?\d+)?)\*)?(?P<method>\w+)")
LEAST_WEIGHT, LARGEST_WEIGHT = 0.001, 1000

METHODS: Registry[Panel] = Registry("method")
"""Heatmaps by name: `METHODS["cam"](features, class_index)` gives (B,h,w), raw and signed."""

PICTURES: Registry[Panel] = Registry("picture")
"""Panels without a threshold by name: (B,3,h,w) in [0,1], or (B,h,w) int64 class indices."""


def method(
    name: str,
    title: str,
    *,
    signed: bool = False,
    cost: Cost = "free",
    quantities: Mapping[str, Quantity] | None = None,
) -> Callable[[PanelFunction], PanelFunction]:
    """Register a function of (features, class_index) that gives (B,h,w) heatmaps."""
    return _registrar(METHODS, name, title, signed, cost, quantities)


def picture(
    name: str,
    title: str,
    *,
    quantities: Mapping[str, Quantity] | None = None,
) -> Callable[[PanelFunction], PanelFunction]:
    """Register a function of (features, class_index) that gives RGB or class-index pictures."""
    return _registrar(PICTURES, name, title, False, "free", quantities)


def _registrar(
    registry: Registry[Panel],
    name: str,
    title: str,
    signed: bool,
    cost: Cost,
    quantities: Mapping[str, Quantity] | None,
) -> Callable[[PanelFunction], PanelFunction]:
    def register(function: PanelFunction) -> PanelFunction:
        assert inspect.getdoc(function), f"{name} needs a docstring: it is the panel's help"
        registry.register(name, Panel(name, title, function, signed, cost, quantities or {}))
        return function

    return register


def find_panel(name: str) -> Panel:
    """The method or picture of that name, or a sum of methods.

    Raises:
        UnknownNameError: a name that neither registry holds.
        ValueError: a sum that cannot be read.
    """
    if name in PICTURES:
        return PICTURES[name]
    if name in METHODS or _is_sum(name):
        return find_method(name)
    raise UnknownNameError(
        f"There is no method {name!r}.{alternatives(name, [*METHODS, *PICTURES])}"
    )


def find_method(name: str) -> Panel:
    """The method of that name, or a sum of methods such as "cam+0.5*feature_norm".

    Raises:
        UnknownNameError: a method that the registry does not hold.
        ValueError: a sum that cannot be read.
    """
    return _sum_of(name) if _is_sum(name) else METHODS[name]


def _is_sum(name: str) -> bool:
    return bool(set(name) & {"+", "*"})


def is_panel(name: str) -> bool:
    """Whether `find_panel` knows a name."""
    try:
        find_panel(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class MethodSum:
    """Weighted sum of methods, each min-max scaled to [0,1] on the feature grid first."""

    terms: tuple[tuple[float, Panel], ...]

    def __call__(self, features: Features, class_index: ClassIndex) -> torch.Tensor:
        """(B,h,w), from 0 to the sum of the weights; a constant map adds nothing."""
        total = torch.zeros(())
        for weight, panel in self.terms:
            heatmap = panel(features, class_index).double().cpu()
            low, high = heatmap.amin((1, 2), keepdim=True), heatmap.amax((1, 2), keepdim=True)
            spread = high - low
            total = total + weight * torch.where(spread > 0, (heatmap - low) / spread, 0)
        return total


def _sum_of(name: str) -> Panel:
    """The panel of a sum, under its name without spaces.

    Raises:
        ValueError: a term that is not METHOD or WEIGHT*METHOD with a weight in its range.
    """
    bare = name.replace(" ", "")
    terms = []
    for term in bare.split("+"):
        found = TERM.fullmatch(term)
        weight = float(found["weight"] or 1) if found else 0.0
        if found is None or not LEAST_WEIGHT <= weight <= LARGEST_WEIGHT:
            raise ValueError(
                f"{name!r} is not a sum of methods: {term!r} should be METHOD or WEIGHT*METHOD, "
                f"with a weight from {LEAST_WEIGHT} to {LARGEST_WEIGHT}, as in "
                "cam+0.5*feature_norm."
            )
        terms.append((weight, METHODS[found["method"]]))
    costliest = max((panel.cost for _, panel in terms), key=get_args(Cost).index)
    title = " + ".join(f"{w:g}·{p.title}" if w != 1 else p.title for w, p in terms)
    return Panel(bare, title, MethodSum(tuple(terms)), cost=costliest)
