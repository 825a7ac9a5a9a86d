"""Boxes of the contours of all 256 level sets q > t of an 8-bit map q.

Lowering t only adds pixels to the foreground, so one pass over the pixels from the brightest down,
with a union-find over 8-neighbours, meets every foreground component of every level. One pass from
the darkest up, over 4-neighbours, meets every background component; one that is not connected to
the image's border is a hole. The passes walk the max-tree and the min-tree of the map (Salembier et
al., IEEE Trans. Image Process. 1998) without building their nodes, since only boxes are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsolviz.analysis.pixel_order import BACKGROUND, FOREGROUND, QUAD_GAINS, PixelOrder
from wsolviz.analysis.sweeps import DOWN, UP, Forest, fill_holes, sweep, sweep_largest

Search: TypeAlias = Callable[[], NDArray[np.int32]]
"""Finds boxes: (m,6), as of `all_contours`."""


def all_contours(quantized: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The box of every contour, outer ones and holes; 0,0,0,0 where there is none.

    Args:
        quantized: (H,W) uint8.

    Returns:
        (m,6) first_level, last_level, x0, y0, x1, y1: a contour's box over the levels at which it
        had it; boxes are written as the WSOL benchmark does, see `LevelBoxes`.
    """
    pixels, forest = _holes(quantized)
    return _all(pixels, forest)


def largest_contour(quantized: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The box of the contour of largest area; of equals, of the one whose first pixel comes last.

    The contour of a hole, or of an island in it, has no larger area than the outer contour around
    it, and OpenCV lists it behind that one. So holes are filled first, and of the components
    without holes the polygon's area is a sum over quads of 2×2 pixels.

    Args:
        quantized: (H,W) uint8.

    Returns:
        (m,6), as of `all_contours`; every level is in just one row.
    """
    return _largest(_filled(*_holes(quantized)))


def largest_and_all_contours(quantized: NDArray[np.uint8]) -> tuple[Search, Search]:
    """What finds `largest_contour` and `all_contours`, once each; they may run at the same time.

    The sorting and the sweep for holes, which both need, are done when this returns.
    """
    pixels, holes = _holes(quantized)
    filled = _filled(pixels, holes)
    return partial(_largest, filled), partial(_all, pixels, holes)


def _holes(quantized: NDArray[np.uint8]) -> tuple[PixelOrder, Forest]:
    """The pixels in order, and the boxes of all holes."""
    pixels = PixelOrder.of(quantized)
    forest = Forest.on(pixels)
    sweep(pixels, BACKGROUND, forest, UP)
    return pixels, forest


def _filled(pixels: PixelOrder, holes: Forest) -> PixelOrder:
    """The pixels in order with all holes filled; the forest is left as it is."""
    if not len(holes.written()):
        return pixels
    filled = fill_holes(pixels.values, holes).reshape(pixels.grid.padded_shape)
    return PixelOrder.of(filled[1:-1, 1 : pixels.grid.width + 1])


def _all(pixels: PixelOrder, holes: Forest) -> NDArray[np.int32]:
    """Add the outer contours' boxes to those of the holes; the forest is used up."""
    sweep(pixels, FOREGROUND, holes, DOWN)
    no_contour = np.array([[pixels.values.max(), 255, 0, 0, 0, 0]], np.int32)
    return np.concatenate([no_contour, holes.written()])


def _largest(pixels: PixelOrder) -> NDArray[np.int32]:
    """The boxes of the largest contour of a map without holes."""
    outer = Forest.on(pixels)
    sweep_largest(pixels, FOREGROUND, QUAD_GAINS, outer)
    return outer.written()
