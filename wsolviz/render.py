"""Drawing: heatmap over photo, the mask's outline and the boxes. The browser draws the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wsolviz.analysis.boxes import quantize, scale_boxes, threshold_level
from wsolviz.analysis.scoremap import resize_heatmap
from wsolviz.defaults import DEFAULTS
from wsolviz.types import Contours, Explanation

RGB = NDArray[np.uint8]

SEQUENTIAL = ("turbo", "viridis", "magma", "inferno", "cividis", "gray")
DIVERGING = ("coolwarm", "RdBu_r", "PuOr_r", "seismic")

# Classes that win few positions share one grey, so that a legend stays readable.
LEGEND_CLASSES = 8
OTHER_CLASSES = ("other classes", "#9ca3af")

# The browser draws cells by the same numbers: assets/viewer_levels.js, assets/viewer.css.
OUTSIDE_DIM = 0.5  # share of the light that is taken away outside the mask
OUTSIDE_HEAT = 0.4  # the heatmap's opacity there, as a share of the one inside
PIXELS_PER_OUTLINE = 240  # pixels of the map for each pixel of the outline's width
BOX_COLOUR = (255, 255, 255)
TRUE_BOX_COLOUR = (255, 95, 210)
DASH, DASH_GAP = 6, 4


@dataclass(frozen=True)
class Look:
    """How cells are drawn.

    Attributes:
        cam_threshold: share of the score map's range, in [0,1].
        overrides: thresholds of single cells, by (backbone, method).
        contours: which contours give boxes.
        opacity: of the heatmap over the photo, in [0,1].
        colormap: for maps that are not signed, one of SEQUENTIAL.
        diverging_colormap: for signed maps, one of DIVERGING.
        true_box: x0,y0,x1,y1 in the photo's own pixels, corners included; or None.
        marks: thresholds that are marked on the slider, each with what it is.
    """

    cam_threshold: float = DEFAULTS.cam_threshold
    overrides: dict[tuple[str, str], float] = field(default_factory=dict)
    contours: Contours = DEFAULTS.contours
    opacity: float = DEFAULTS.opacity
    colormap: str = DEFAULTS.colormap
    diverging_colormap: str = DEFAULTS.diverging_colormap
    true_box: tuple[int, int, int, int] | None = None
    marks: tuple[tuple[float, str], ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("cam_threshold", self.cam_threshold), ("opacity", self.opacity)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1.")
        if self.colormap not in SEQUENTIAL:
            raise ValueError(f"colormap is one of {', '.join(SEQUENTIAL)}, not {self.colormap!r}.")

    def threshold_of(self, backbone: str, method: str) -> float:
        """A cell's own threshold where it has one, else the common one."""
        return self.overrides.get((backbone, method), self.cam_threshold)


def colormap_table(name: str) -> RGB:
    """The 256 colours of a matplotlib colour map, (256,3) uint8."""
    colours = matplotlib.colormaps[name](np.arange(256))[:, :3]
    return np.round(255 * colours).astype(np.uint8)


def colour_indices(explanation: Explanation) -> NDArray[np.uint8]:
    """Which of a colour table's 256 entries each of the 256 levels gets.

    A signed map is spread around zero: the level of raw value r gets 0.5 + 0.5·r/max|r| of the
    table, so that zero is its middle and equal distances from zero look equal.
    """
    if not explanation.signed:
        return np.arange(256, dtype=np.uint8)
    raw = resize_heatmap(explanation.heatmap, explanation.scoremap.shape)
    values = np.linspace(raw.min(), raw.max(), 256)
    largest = np.abs(values).max()
    centred = 0.5 + 0.5 * values / largest if largest > 0 else np.full(256, 0.5)
    return np.floor(255 * centred + 0.5).astype(np.uint8)


def cell_image(photo: Image.Image, explanation: Explanation, look: Look) -> RGB:
    """One cell as the app shows it: overlay, outline, boxes; (H,W,3) on the score map's grid."""
    height, width = explanation.scoremap.shape
    background = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))
    name = look.diverging_colormap if explanation.signed else look.colormap
    table = colormap_table(name)
    threshold = look.threshold_of(explanation.backbone, explanation.method)
    level = threshold_level(explanation.scoremap, threshold)
    levels = quantize(explanation.scoremap)
    colours = table[colour_indices(explanation)][levels]
    drawn = draw_mask(background, colours, levels, level, look.opacity)
    for box in explanation.boxes_on_map(threshold, look.contours):
        draw_box(drawn, box, BOX_COLOUR)
    _draw_true_box(drawn, photo.size, look)
    return drawn


def photo_image(photo: Image.Image, grid: tuple[int, int], look: Look) -> RGB:
    """The photo on the (H,W) display grid, with the true box where there is one."""
    height, width = grid
    drawn = np.array(photo.resize((width, height), Image.Resampling.BICUBIC))
    _draw_true_box(drawn, photo.size, look)
    return drawn


def _draw_true_box(image: RGB, photo_size: tuple[int, int], look: Look) -> None:
    if look.true_box is None:
        return
    height, width = image.shape[:2]
    edge = np.tile(np.array(photo_size) - 1, 2)
    inside = np.minimum(np.maximum(look.true_box, 0), edge)
    (box,) = scale_boxes(inside[None], photo_size, (width, height))
    draw_box(image, box, TRUE_BOX_COLOUR, dashed=True)


def draw_mask(
    background: RGB, colours: RGB, levels: NDArray[np.uint8], level: int, opacity: float
) -> RGB:
    """Lay the colours over the photo: vivid inside the mask, dim outside, white on its outline."""
    inside = levels > level
    heat = np.where(inside, opacity, OUTSIDE_HEAT * opacity)[:, :, None]
    light = np.where(inside, 1.0, 1 - OUTSIDE_DIM)[:, :, None]
    blended = light * ((1 - heat) * background + heat * colours)
    width = max(1, round(max(levels.shape) / PIXELS_PER_OUTLINE))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    blended[inside & (cv2.erode(levels, cross, iterations=width) <= level)] = 255
    return np.round(blended).astype(np.uint8)


def draw_box(
    image: RGB, box: NDArray[np.integer], colour: tuple[int, int, int], *, dashed: bool = False
) -> None:
    """Draw a box x0,y0,x1,y1 (corners included) with a dark rim, into `image` itself."""
    x0, y0, x1, y1 = (int(side) for side in box)
    cv2.rectangle(image, (x0, y0), (x1, y1), (0, 0, 0), 4)
    if not dashed:
        cv2.rectangle(image, (x0, y0), (x1, y1), colour, 2)
        return
    for x in range(x0, x1 + 1, DASH + DASH_GAP):
        for y in (y0, y1):
            cv2.line(image, (x, y), (min(x + DASH, x1), y), colour, 2)
    for y in range(y0, y1 + 1, DASH + DASH_GAP):
        for x in (x0, x1):
            cv2.line(image, (x, y), (x, min(y + DASH, y1)), colour, 2)


def picture_pixels(
    panel: torch.Tensor, class_names: Sequence[str]
) -> tuple[RGB, tuple[tuple[str, str], ...]]:
    """Turn one picture panel into pixels and a legend.

    Args:
        panel: (3,h,w) in [0,1], or (h,w) int64 class indices.
        class_names: K names, or none.

    Returns:
        (h,w,3) uint8 and, for class indices, (name, "#rrggbb") of the classes that win most
        positions, most first.
    """
    if panel.ndim == 3:
        return np.round(255 * panel.permute(1, 2, 0).double().numpy()).astype(np.uint8), ()
    winners, places = np.unique(panel.numpy(), return_inverse=True)
    order = np.argsort(-np.bincount(places.ravel()), kind="stable")
    palette = [matplotlib.colors.to_hex(c) for c in matplotlib.color_sequences["tab10"]]
    colours = np.full(len(winners), OTHER_CLASSES[1], dtype="<U7")
    colours[order[:LEGEND_CLASSES]] = palette[: min(LEGEND_CLASSES, len(winners))]
    named = order[:LEGEND_CLASSES]
    legend = [
        (class_names[winners[i]] if class_names else f"class {winners[i]}", str(colours[i]))
        for i in named
    ]
    if len(winners) > LEGEND_CLASSES:
        legend.append(OTHER_CLASSES)
    table = np.array([matplotlib.colors.to_rgb(str(c)) for c in colours])
    pixels = np.round(255 * table[places.reshape(panel.shape)]).astype(np.uint8)
    return pixels, tuple(legend)
