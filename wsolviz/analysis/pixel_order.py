"""The order in which an 8-bit map's pixels enter its level sets, and what each meets there.

Pixels enter the foreground q > t one by one as t falls: the brightest first and, of equals, the
last of the raster first. They enter the background q <= t in just the reverse order. So whether a
neighbour is in already when a pixel enters follows from comparing the two, before any sweep. Those
eight bits are the pixel's ring; tables hold, for all 256 rings, what a sweep wants to know of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# Neighbours (dx, dy), clockwise from the east: the first four come after the pixel in the raster,
# the even ones are its 4-neighbours, the odd ones the corners of the four quads that it is in.
NEIGHBOURS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))


def kernel(function: Kernel) -> Kernel:
    """Compile at the first call, keep the machine code on disk, and let other threads run.

    Numba does not see that a function or an array which a kernel uses from another file changed,
    and would go on with the old one: kernels call only their own file's, and get tables passed.
    """
    compiled: Any = njit(cache=True, nogil=True)(function)
    return compiled


class RingTable(NamedTuple):
    """What a pixel joins when it enters, by its ring.

    Attributes:
        joined: (256,4) int8, one neighbour of each component that it joins, -1 behind the last.
        enclosed: (256,) bool, true where it joins one component, which lies on all four sides of
            it, so that the component's box holds it already.
    """

    joined: NDArray[np.int8]
    enclosed: NDArray[np.bool_]

    @classmethod
    def of(cls, connectivity: int) -> RingTable:
        """The table for components of 4-neighbours or of 8-neighbours."""
        joined = np.full((256, 4), -1, np.int8)
        enclosed = np.zeros(256, np.bool_)
        for ring in range(256):
            components = _ring_components(ring, connectivity)
            joined[ring, : len(components)] = [component[0] for component in components]
            if len(components) == 1:
                dx, dy = zip(*(NEIGHBOURS[k] for k in components[0]), strict=True)
                enclosed[ring] = {-1, 1} <= set(dx) and {-1, 1} <= set(dy)
        return cls(joined, enclosed)


def _ring_components(ring: int, connectivity: int) -> list[list[int]]:
    """The components that a ring's neighbours form among themselves and that touch the pixel.

    Each starts with a neighbour that is connected to the pixel itself.
    """
    rest = [k for k in range(8) if ring >> k & 1]
    components = []
    while rest:
        component = [rest.pop(0)]
        for k in component:
            for other in list(rest):
                dx, dy = (abs(a - b) for a, b in zip(NEIGHBOURS[k], NEIGHBOURS[other], strict=True))
                if (dx + dy if connectivity == 4 else max(dx, dy)) == 1:
                    rest.remove(other)
                    component.append(other)
        touching = [k for k in component if connectivity == 8 or k % 2 == 0]
        if touching:
            components.append(touching + [k for k in component if k not in touching])
    return components


def _quad_gains() -> NDArray[np.int8]:
    """What a pixel adds to twice the area of its component's polygon, (256,) by its ring.

    The polygon runs through pixel centres. Of a quad of 2×2 pixels it covers the whole where all
    four are in, half where three are, and else nothing.
    """
    gains = np.zeros(256, np.int8)
    for ring in range(256):
        for corner in (1, 3, 5, 7):
            others = sum(ring >> k % 8 & 1 for k in (corner - 1, corner, corner + 1))
            gains[ring] += others >= 2
    return gains


FOREGROUND = RingTable.of(connectivity=8)
BACKGROUND = RingTable.of(connectivity=4)
QUAD_GAINS = _quad_gains()


class Grid(NamedTuple):
    """How a map lies in memory: padded by one pixel all round, flat, in rows of 2**bits.

    Place p is at x = p % 2**bits - 1, y = (p >> bits) - 1, and has all its neighbours.
    """

    bits: int
    height: int
    width: int

    @property
    def padded_shape(self) -> tuple[int, int]:
        """(rows, row length) with the frame."""
        return self.height + 2, 1 << self.bits


class PixelOrder(NamedTuple):
    """A map's pixels in the order in which they enter the background, with their rings.

    Attributes:
        values: (P,) uint8, the padded flat map.
        order: (H·W,) int32, places from the darkest to the brightest.
        rings: (H·W,) uint8, in that order; bit k is set where neighbour k enters the foreground
            before the pixel, and so the background after it.
        starts: (257,) int64; the pixels of value v are order[starts[v]:starts[v + 1]].
        steps: (8,) int64, from a place to its neighbours'.
        grid: where the places are.
    """

    values: NDArray[np.uint8]
    order: NDArray[np.int32]
    rings: NDArray[np.uint8]
    starts: NDArray[np.int64]
    steps: NDArray[np.int64]
    grid: Grid

    @classmethod
    def of(cls, quantized: NDArray[np.uint8]) -> PixelOrder:
        """Pad, compare and sort a uint8 map of shape (H,W)."""
        height, width = quantized.shape
        grid = Grid((width + 1).bit_length(), height, width)
        padded = np.zeros(grid.padded_shape, np.uint8)
        padded[1:-1, 1 : width + 1] = quantized
        values = padded.ravel()
        steps = np.array([dx + (dy << grid.bits) for dx, dy in NEIGHBOURS])
        rings = _compare(values, grid.padded_shape[1])
        _take_frame_out(rings.reshape(grid.padded_shape), grid)
        return cls(values, *_sort_by_value(values, rings, grid), steps, grid)


@kernel
def _compare(values: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
    """Every place's ring, except in the first and the last row of the frame.

    One slice for each neighbour, and nothing wider than 8 bits: so the loop becomes vector code.
    """
    rings = np.zeros_like(values)
    first, end = row + 1, len(values) - row - 1
    pixels, out = values[first:end], rings[first:end]
    east, west = values[first + 1 :], values[first - 1 :]
    south, north = values[first + row :], values[first - row :]
    southeast, northwest = values[first + row + 1 :], values[first - row - 1 :]
    southwest, northeast = values[first + row - 1 :], values[first - row + 1 :]
    for p in range(len(pixels)):
        value = pixels[p]
        out[p] = (
            np.uint8(east[p] >= value)
            | np.uint8(southeast[p] >= value) << np.uint8(1)
            | np.uint8(south[p] >= value) << np.uint8(2)
            | np.uint8(southwest[p] >= value) << np.uint8(3)
            | np.uint8(west[p] > value) << np.uint8(4)
            | np.uint8(northwest[p] > value) << np.uint8(5)
            | np.uint8(north[p] > value) << np.uint8(6)
            | np.uint8(northeast[p] > value) << np.uint8(7)
        )
    return rings


def _take_frame_out(rings: NDArray[np.uint8], grid: Grid) -> None:
    """Let the frame enter the foreground after all pixels, even after those of its own value 0.

    Equals count only later in the raster, where the first row has no frame.
    """
    rings[:, grid.width] &= _ring_without(dx=1)
    rings[:, 1] &= _ring_without(dx=-1)
    rings[grid.height] &= _ring_without(dy=1)


def _ring_without(dx: int | None = None, dy: int | None = None) -> np.uint8:
    """The ring of all neighbours but those of one column or one row."""
    return np.uint8(sum(1 << k for k, (x, y) in enumerate(NEIGHBOURS) if x != dx and y != dy))


@kernel
def _sort_by_value(
    values: NDArray[np.uint8], rings: NDArray[np.uint8], grid: Grid
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Counting sort of the pixels' places and rings; stable, so that equals stay in raster order.

    Returns:
        order, rings and starts, as `PixelOrder` has them.
    """
    bits, height, width = grid
    starts = np.zeros(257, np.int64)
    for y in range(1, height + 1):
        for p in range((y << bits) + 1, (y << bits) + 1 + width):
            starts[values[p] + 1] += 1
    for value in range(256):
        starts[value + 1] += starts[value]
    free = starts[:256].copy()
    order = np.empty(height * width, np.int32)
    ordered_rings = np.empty(height * width, np.uint8)
    for y in range(1, height + 1):
        for p in range((y << bits) + 1, (y << bits) + 1 + width):
            rank = free[values[p]]
            order[rank], ordered_rings[rank] = p, rings[p]
            free[values[p]] = rank + 1
    return order, ordered_rings, starts
