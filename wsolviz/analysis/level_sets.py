"""Boxes of the contours of all 256 level sets q > t of an 8-bit map q.

Lowering t only adds pixels to the foreground, so one pass over the pixels from the brightest down,
with a union-find over 8-neighbours, meets every foreground component of every level. One pass from
the darkest up, over 4-neighbours, meets every background component; one that is not connected to
the image's border is a hole. The passes walk the max-tree and the min-tree of the map (Salembier et
al., IEEE Trans. Image Process. 1998) without building their nodes, since only boxes are wanted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsolviz.analysis.pixel_order import BACKGROUND, FOREGROUND, QUAD_GAINS, PixelOrder
from wsolviz.analysis.sweeps import DOWN, UP, Forest, fill_holes, sweep, sweep_largest


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
    pixels, holes = _holes(quantized)
    return _largest(pixels, holes)


def largest_and_all_contours(
    quantized: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`largest_contour` and `all_contours`, which share the sorting and the sweep for holes."""
    pixels, holes = _holes(quantized)
    largest = _largest(pixels, holes)
    return largest, _all(pixels, holes)


def _holes(quantized: NDArray[np.uint8]) -> tuple[PixelOrder, Forest]:
    """The pixels in order, and the boxes of all holes."""
    pixels = PixelOrder.of(quantized)
    forest = Forest.on(pixels)
    sweep(pixels, BACKGROUND, forest, UP)
    return pixels, forest


def _all(pixels: PixelOrder, holes: Forest) -> NDArray[np.int32]:
    """Add the outer contours' boxes to those of the holes; the forest is used up."""
    sweep(pixels, FOREGROUND, holes, DOWN)
    no_contour = np.array([[pixels.values.max(), 255, 0, 0, 0, 0]], np.int32)
    return np.concatenate([no_contour, holes.written()])


def _largest(pixels: PixelOrder, holes: Forest) -> NDArray[np.int32]:
    """The boxes of the largest contour; the forest is left as it is."""
    if len(holes.written()):
        filled = fill_holes(pixels.values, holes).reshape(pixels.grid.padded_shape)
        pixels = PixelOrder.of(filled[1:-1, 1 : pixels.grid.width + 1])
    outer = Forest.on(pixels)
    sweep_largest(pixels, FOREGROUND, QUAD_GAINS, outer)
    return outer.written()
