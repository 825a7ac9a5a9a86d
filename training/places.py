"""Where in a network a map can be read or changed: the outputs of its layers, found by running it.

A method that looks into a network names a layer, or leaves the choice to the network's stages; no
network is rewritten for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from wsolviz.backends.base import Backbone
from wsolviz.backends.layout import Layout, infer_layout

Change: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""A map (B,C,h,w) to a map of the same shape."""


@dataclass(frozen=True)
class Place:
    """A layer whose output is a map.

    Attributes:
        layer: its name in the module.
        layout: how the output is laid out.
        shape: (C,h,w) of the map, for an image of the backbone's own size.
    """

    layer: str
    layout: Layout
    shape: tuple[int, int, int]

    def read(self, output: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """The map (B,C,h,w) in the layer's output, with (H,W) the size of the network's input."""
        return self.layout.to_map(output, image_size)

    def change(
        self, output: torch.Tensor, image_size: tuple[int, int], change: Change
    ) -> torch.Tensor:
        """The layer's output with its map changed; tokens that have no place stay."""
        prefix = output[:, : self.layout.prefix] if self.layout.axes == "BNC" else None
        return self.layout.from_map(change(self.read(output, image_size)), prefix)


Places: TypeAlias = dict[str, Place]


@torch.no_grad()
def find_places(backbone: Backbone) -> Places:
    """Every layer that gives one map a pass, by name, in the order in which they end.

    Draws no random numbers, and leaves the layers in the mode that they were in.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def note(name: str) -> Callable[[torch.Tensor], None]:
        return lambda output: shapes.setdefault(name, []).append(tuple(output.shape))

    size = backbone.preprocessing.size
    images = torch.zeros(1, 3, *size, device=backbone.device)
    watched = {name: note(name) for name, _ in backbone.module.named_modules() if name}
    with evaluating(backbone.module), behind(backbone.module, watched):
        backbone.forward_map(backbone.module, images)
    prefix = getattr(backbone.module, "num_prefix_tokens", None)
    found = {name: _place(name, s[0], size, prefix) for name, s in shapes.items() if len(s) == 1}
    return {name: place for name, place in found.items() if place is not None}


def find_stages(module: nn.Module, places: Places) -> list[tuple[Place, ...]]:
    """The places behind the blocks of each stage, in the order in which the stages end.

    A stage is a list of blocks, of more than one layer each, whose maps have one shape. What lies
    inside a stage is no stage.
    """
    order = {name: number for number, name in enumerate(places)}
    return sorted(_stages_in(module, "", places), key=lambda stage: order[stage[-1].layer])


@contextmanager
def behind(
    module: nn.Module, functions: Mapping[str, Callable[[torch.Tensor], torch.Tensor | None]]
) -> Iterator[None]:
    """While this lasts, functions are given layers' outputs, and what they return replaces them.

    Args:
        module: the network.
        functions: by the layer's name; one that returns None leaves the output as it is.
    """

    def hook(function: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[..., object]:
        return lambda _layer, _inputs, output: (
            function(output) if isinstance(output, torch.Tensor) else None
        )

    with ExitStack() as hooks:
        for name, function in functions.items():
            handle = module.get_submodule(name).register_forward_hook(hook(function))
            hooks.callback(handle.remove)
        yield


def _place(
    name: str, shape: tuple[int, ...], image_size: tuple[int, int], prefix: int | None
) -> Place | None:
    if len(shape) not in (3, 4):
        return None
    for axis in (1, len(shape) - 1) if len(shape) == 4 else (2, 1):
        layout = infer_layout(shape, image_size, shape[axis], prefix)
        if layout is not None:
            channels, h, w = layout.to_map(torch.empty(shape, device="meta"), image_size).shape[1:]
            return Place(name, layout, (channels, h, w))
    return None


def _stages_in(module: nn.Module, prefix: str, places: Places) -> Iterator[tuple[Place, ...]]:
    for name, layer in module.named_children():
        stage = _as_stage(layer, f"{prefix}{name}.", places)
        if stage:
            yield stage
        else:
            yield from _stages_in(layer, f"{prefix}{name}.", places)


def _as_stage(layer: nn.Module, prefix: str, places: Places) -> tuple[Place, ...]:
    """The places behind a stage's blocks; empty where the layer is no stage."""
    if not isinstance(layer, nn.Sequential | nn.ModuleList):
        return ()
    blocks = [(prefix + name, block) for name, block in layer.named_children()]
    if not all(name in places and any(block.children()) for name, block in blocks):
        return ()
    stage = tuple(places[name] for name, _ in blocks)
    return stage if len({place.shape for place in stage}) == 1 else ()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode while this lasts; then every layer is in the mode that it was in."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
