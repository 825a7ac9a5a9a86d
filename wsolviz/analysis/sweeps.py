"""The kernels of `level_sets`: sweeps over a map's pixels that write down components' boxes.

A component's box is kept at its root, and is written down, with the levels that it held for, when
it grows or when the component ends. Boxes are kept as the WSOL benchmark writes them: x1 is one
more than the contour's last column, or the map's last one where that lies outside; likewise y1.

Numba counts references whenever an array is taken out of a tuple or sliced, and that would cost
more than a pixel's work: loops over pixels use arrays taken out before, and index them by scalars.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsolviz.analysis.pixel_order import Grid, PixelOrder, RingTable, kernel

Box: TypeAlias = tuple[int, int, int, int]
Int32s: TypeAlias = NDArray[np.int32]

# The step from a sweep's level to its next.
DOWN, UP = -1, 1

# Columns of the table of components, behind the box x0, y0, x1, y1:
SINCE = 4  # the level at which the box became what it is
SPILL = 5  # the level at which a background component met the frame, or ENCLOSED
DOUBLE_AREA = 6  # of the polygon through the pixels' centres
TOP_LEFT = 7  # the component's first place in the raster

ENCLOSED = -1
FRAME = 0  # the background component around the image
DARKEST = 0  # level


class Forest(NamedTuple):
    """The union-find of a sweep, and the boxes that it has written down.

    Attributes:
        labels: (P,) int32, the component that each padded place joined.
        parents: (n,) int32.
        components: (n,8) int32, box and more of each root; see the columns above.
        rows: (m,6) int32, first_level, last_level, x0, y0, x1, y1.
        num_rows: (1,) int64.
    """

    labels: Int32s
    parents: Int32s
    components: Int32s
    rows: Int32s
    num_rows: NDArray[np.int64]

    @classmethod
    def on(cls, pixels: PixelOrder) -> Forest:
        """Room for a sweep up and one down, with nothing in it but the frame.

        A pixel makes at most one box be written for each component that it joins, and all but one
        of these end with it, so that a sweep writes no more boxes than there are pixels. What is
        allocated and not written to takes no memory.
        """
        size = len(pixels.order) + 1
        forest = cls(
            labels=np.full(len(pixels.values), FRAME, np.int32),
            parents=np.empty(size, np.int32),
            components=np.empty((size, 8), np.int32),
            rows=np.empty((2 * size, 6), np.int32),
            num_rows=np.zeros(1, np.int64),
        )
        forest.parents[FRAME] = FRAME
        forest.components[FRAME] = 0
        return forest

    def written(self) -> Int32s:
        """The rows that were written, (m,6)."""
        return self.rows[: self.num_rows[0]].copy()


@kernel
def _find(parents: Int32s, component: int) -> int:
    """The root of a component, halving the path to it."""
    while parents[component] != component:
        parents[component] = parents[parents[component]]
        component = parents[component]
    return component


@kernel
def _pixel_box(grid: Grid, place: int, margin: int) -> Box:
    """The box of the contour at a margin around a single pixel."""
    x = (place & ((1 << grid.bits) - 1)) - 1
    y = (place >> grid.bits) - 1
    x1 = min(x + margin + 1, grid.width - 1)
    y1 = min(y + margin + 1, grid.height - 1)
    return x - margin, y - margin, x1, y1


@kernel
def _box(components: Int32s, root: int) -> Box:
    return components[root, 0], components[root, 1], components[root, 2], components[root, 3]


@kernel
def _holds(components: Int32s, root: int, box: Box) -> bool:
    """Whether a component's box holds another one."""
    x0, y0, x1, y1 = _box(components, root)
    return x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3]


@kernel
def _widen(components: Int32s, root: int, box: Box) -> None:
    """Make a component's box hold another one."""
    components[root, 0] = min(components[root, 0], box[0])
    components[root, 1] = min(components[root, 1], box[1])
    components[root, 2] = max(components[root, 2], box[2])
    components[root, 3] = max(components[root, 3], box[3])


@kernel
def _start(parents: Int32s, components: Int32s, component: int, box: Box) -> None:
    """Make a component of one pixel."""
    parents[component] = component
    for i in range(4):
        components[component, i] = box[i]


@kernel
def _write(forest: Forest, root: int, level: int, step: int) -> None:
    """Write down a component's box as it was before this level, if it was there before."""
    _, _, components, rows, num_rows = forest
    row, since, last = num_rows[0], components[root, SINCE], level - step
    if since == level:
        return
    rows[row, 0], rows[row, 1] = min(since, last), max(since, last)
    for i in range(4):
        rows[row, 2 + i] = components[root, i]
    num_rows[0] += 1
    components[root, SINCE] = level


@kernel
def _merge(forest: Forest, a: int, b: int, level: int, step: int) -> int:
    """Join two roots at a level; returns the one that goes on.

    A hole that meets the frame spills and is one no more. It stays a tree of its own, since all its
    pixels have the same spill level then.
    """
    components = forest.components
    a_spilled, b_spilled = components[a, SPILL] != ENCLOSED, components[b, SPILL] != ENCLOSED
    if a_spilled or b_spilled:
        if not (a_spilled and b_spilled):
            hole = b if a_spilled else a
            _write(forest, hole, level, step)
            components[hole, SPILL] = level
        return a
    if _holds(components, b, _box(components, a)):
        a, b = b, a
    _write(forest, b, level, step)
    forest.parents[b] = a
    if not _holds(components, a, _box(components, b)):
        _write(forest, a, level, step)
        _widen(components, a, _box(components, b))
    return a


@kernel
def _fills(components: Int32s, root: int, grid: Grid) -> bool:
    """Whether a component's box is the whole map, so that it can grow no more."""
    return _box(components, root) == (0, 0, grid.width - 1, grid.height - 1)


@kernel
def sweep(pixels: PixelOrder, table: RingTable, forest: Forest, step: int) -> None:
    """Write down the boxes of all foreground components (DOWN), or of all holes in it (UP)."""
    _, order, rings, starts, steps, grid = pixels
    joined, enclosed = table
    labels, parents, components, _, _ = forest
    born, margin, flip = 1, int(step == UP), 255 if step == UP else 0
    for value in range(256) if step == UP else range(255, 0, -1):
        level = value + min(step, 0)
        for i in range(starts[value], starts[value + 1]):
            rank = i if step == UP else starts[value] + starts[value + 1] - 1 - i
            place = order[rank]
            ring = rings[rank] ^ flip
            if joined[ring, 0] < 0:
                root, born = born, born + 1
                _start(parents, components, root, _pixel_box(grid, place, margin))
                components[root, SINCE], components[root, SPILL] = level, ENCLOSED
            else:
                root = labels[place + steps[joined[ring, 0]]]
                if not enclosed[ring]:
                    root = _find(parents, root)
                    for j in range(1, 4):
                        if joined[ring, j] < 0:
                            break
                        other = _find(parents, labels[place + steps[joined[ring, j]]])
                        if other != root:
                            root = _merge(forest, root, other, level, step)
                    box = _pixel_box(grid, place, margin)
                    if components[root, SPILL] == ENCLOSED and not _holds(components, root, box):
                        _write(forest, root, level, step)
                        _widen(components, root, box)
            labels[place] = root
    for root in range(1, born):  # all holes have spilled by now, but components go on to level 0
        if parents[root] == root and components[root, SPILL] == ENCLOSED:
            _write(forest, root, DARKEST + step, step)


@kernel
def fill_holes(values: NDArray[np.uint8], holes: Forest) -> NDArray[np.uint8]:
    """Raise each pixel to the level at which the hole that it joined spills, after a sweep up.

    So the foreground q > t becomes the same with its holes filled, at every level t at once.
    """
    labels, parents, components, _, _ = holes
    filled = values.copy()
    for place in range(len(values)):
        if labels[place] != FRAME:
            spill = components[_find(parents, labels[place]), SPILL]
            filled[place] = max(filled[place], spill)
    return filled


@kernel
def sweep_largest(
    pixels: PixelOrder, table: RingTable, quad_gains: NDArray[np.int8], forest: Forest
) -> None:
    """Write down the box of the component of largest area; the map must have no holes.

    The frame's row of the table keeps the box that was largest so far, 0,0,0,0 at first. It ends as
    soon as a component fills the map and has more than half of it: none can become larger then.
    """
    _, order, rings, starts, steps, grid = pixels
    joined, enclosed = table
    labels, parents, components, _, _ = forest
    half_of_double_area = (grid.width - 1) * (grid.height - 1)
    components[FRAME, SINCE] = 255
    roots = np.empty(len(order), np.int32)
    born, num_roots = 1, 0
    for value in range(255, 0, -1):
        for i in range(starts[value + 1] - 1, starts[value] - 1, -1):
            place = order[i]
            ring = rings[i]
            if joined[ring, 0] < 0:
                root, born = born, born + 1
                _start(parents, components, root, _pixel_box(grid, place, 0))
                components[root, DOUBLE_AREA], components[root, TOP_LEFT] = 0, place
                roots[num_roots] = root
                num_roots += 1
            else:
                root = _find(parents, labels[place + steps[joined[ring, 0]]])
                for j in range(1, 4):
                    if joined[ring, j] < 0:
                        break
                    other = _find(parents, labels[place + steps[joined[ring, j]]])
                    if other != root:
                        _absorb(parents, components, root, other)
                if not enclosed[ring]:
                    _widen(components, root, _pixel_box(grid, place, 0))
                    components[root, TOP_LEFT] = min(components[root, TOP_LEFT], place)
                components[root, DOUBLE_AREA] += quad_gains[ring]
            labels[place] = root
        if starts[value] < starts[value + 1]:
            num_roots = _keep_roots(parents, roots, num_roots)
            largest = _largest(components, roots, num_roots)
            if _box(components, largest) != _box(components, FRAME):
                _write(forest, FRAME, value - 1, DOWN)
                for i in range(4):
                    components[FRAME, i] = components[largest, i]
            more = components[largest, DOUBLE_AREA] > half_of_double_area
            if more and _fills(components, largest, grid):
                break
    _write(forest, FRAME, DARKEST + DOWN, DOWN)


@kernel
def _absorb(parents: Int32s, components: Int32s, root: int, other: int) -> None:
    """Join a component to another one."""
    parents[other] = root
    _widen(components, root, _box(components, other))
    components[root, DOUBLE_AREA] += components[other, DOUBLE_AREA]
    components[root, TOP_LEFT] = min(components[root, TOP_LEFT], components[other, TOP_LEFT])


@kernel
def _keep_roots(parents: Int32s, roots: Int32s, count: int) -> int:
    """Drop from a list what is no root any more; returns how many are left."""
    kept = 0
    for i in range(count):
        if parents[roots[i]] == roots[i]:
            roots[kept] = roots[i]
            kept += 1
    return kept


@kernel
def _largest(components: Int32s, roots: Int32s, num_roots: int) -> int:
    """The root of largest area; of equals, the one whose first pixel comes last."""
    largest = roots[0]
    for i in range(1, num_roots):
        root = roots[i]
        more = components[root, DOUBLE_AREA] - components[largest, DOUBLE_AREA]
        later = components[root, TOP_LEFT] > components[largest, TOP_LEFT]
        if more > 0 or (more == 0 and later):
            largest = root
    return largest
