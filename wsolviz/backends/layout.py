"""The axes of a feature tensor: which are channels, which are space, which tokens have no place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

Axes = Literal["BCHW", "BHWC", "BNC", "BCN"]

# A 1×1 "map" is a pooled vector, and one or two tokens are class tokens.
FEWEST_CELLS = 4


@dataclass(frozen=True)
class Layout:
    """How a network lays out a map that the data path wants as (B,C,h,w).

    Attributes:
        axes: "BCHW", "BHWC", "BNC" (tokens) or "BCN", N = prefix + h·w in row-major order.
        prefix: how many tokens before the patch tokens have no place: class tokens, registers.
    """

    axes: Axes
    prefix: int = 0

    def to_map(self, features: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """The network's own tensor to (B,C,h,w), with (H,W) the size of its input."""
        if self.axes == "BCHW":
            return features
        if self.axes == "BHWC":
            return features.permute(0, 3, 1, 2)
        tokens = features.transpose(1, 2) if self.axes == "BNC" else features
        patches = tokens[:, :, self.prefix :]
        grid = patch_grid(patches.shape[2], image_size)
        assert grid is not None, f"{patches.shape[2]} tokens make no grid like {image_size}"
        return patches.reshape(*patches.shape[:2], *grid)

    def from_map(
        self, feature_map: torch.Tensor, prefix_tokens: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B,C,h,w) to the network's own tensor.

        Args:
            feature_map: (B,C,h,w).
            prefix_tokens: (B,prefix,C); zeros if None.
        """
        if self.axes == "BCHW":
            return feature_map
        if self.axes == "BHWC":
            return feature_map.permute(0, 2, 3, 1)
        tokens = feature_map.flatten(2)
        if self.axes == "BCN":
            return tokens
        tokens = tokens.transpose(1, 2)
        if prefix_tokens is None:
            prefix_tokens = tokens.new_zeros(len(tokens), self.prefix, tokens.shape[2])
        return torch.cat((prefix_tokens, tokens), dim=1)


def patch_grid(count: int, image_size: tuple[int, int]) -> tuple[int, int] | None:
    """The h×w = `count` grid of patches with the aspect of an H×W image; None if there is none.

    Both sides lie within one cell of the exact aspect, which is how far a stride's rounding goes.

    >>> patch_grid(196, (224, 224)), patch_grid(70, (224, 320)), patch_grid(197, (224, 224))
    ((14, 14), (7, 10), None)
    """
    height, width = image_size
    if count < 1:
        return None
    ideal_h = math.sqrt(count * height / width)
    ideal_w = count / ideal_h
    grids = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    h, w = min(grids, key=lambda grid: abs(math.log(grid[0] / ideal_h)))
    return (h, w) if abs(h - ideal_h) < 1 and abs(w - ideal_w) < 1 else None


def infer_layout(
    shape: tuple[int, ...], image_size: tuple[int, int], channels: int, prefix: int | None = None
) -> Layout | None:
    """The layout of a tensor that holds a spatial map, from its shape; None if it can hold none.

    Args:
        shape: of the tensor, batch first.
        image_size: (H,W) of the network's input.
        channels: how many channels the map has.
        prefix: how many prefix tokens the network says that it has, None if it does not say.
    """
    if len(shape) == 4:
        if shape[1] == channels and _fits(shape[2:], image_size):
            return Layout("BCHW")
        if shape[3] == channels and _fits(shape[1:3], image_size):
            return Layout("BHWC")
    if len(shape) == 3 and shape[2] == channels:
        # A class token, a second one from distillation; registers are only found if announced.
        for count in (0, 1, 2) if prefix is None else (prefix,):
            if _is_grid(shape[1] - count, image_size):
                return Layout("BNC", count)
    if len(shape) == 3 and shape[1] == channels and _is_grid(shape[2], image_size):
        return Layout("BCN")
    return None


def _is_grid(count: int, image_size: tuple[int, int]) -> bool:
    return count >= FEWEST_CELLS and patch_grid(count, image_size) is not None


def _fits(grid: tuple[int, ...], image_size: tuple[int, int]) -> bool:
    """Whether h×w is how an image of this aspect would be divided."""
    height, width = image_size
    off = abs(grid[0] - grid[1] * height / width)
    return grid[0] * grid[1] >= FEWEST_CELLS and off < 1 + height / width
