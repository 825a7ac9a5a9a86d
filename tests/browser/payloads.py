"""Payloads for the viewer, made the slow and obvious way: one cv2.findContours for every level."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ASSETS = Path(__file__).resolve().parents[2] / "assets"
COLUMNS = (("cam", "CAM"), ("pc1", "PC1"), ("feature_norm", "‖F‖"), ("cosine", "cosine"))
Box = tuple[int, int, int, int]

SIZE = (120, 90)  # of the display grid that most tests use
IMAGE_SIZE = (301, 200)  # of its photo
TRUE_BOX = (70, 41, 219, 163)


def viewer_script() -> str:
    """Every viewer*.js as one script."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(ASSETS.glob("viewer*.js")))


def viewer_style() -> str:
    """The viewer's CSS."""
    return (ASSETS / "viewer.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Map:
    """One heatmap and what its cell shows.

    Attributes:
        raw: (h,w) float32.
        levels: (H,W) uint8.
        lowest: of the resized raw map; `highest` likewise.
        signed: whether it is drawn around zero.
    """

    raw: NDArray[np.float32]
    levels: NDArray[np.uint8]
    lowest: float
    highest: float
    signed: bool = False

    def level(self, threshold: float) -> int:
        """The level that a threshold cuts at."""
        return int(threshold * int(self.levels.max()))

    def boxes(self, level: int, contours: str) -> list[Box]:
        """The benchmark's boxes at one level, on the display grid; none of an empty mask."""
        mask = (self.levels > level).astype(np.uint8)
        found, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if not found:
            return []
        if contours == "largest":
            found = [max(found, key=cv2.contourArea)]
        height, width = mask.shape
        rectangles = [cv2.boundingRect(contour) for contour in found]
        return [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in rectangles]


def make_map(raw: NDArray[np.floating[Any]], size: tuple[int, int], signed: bool = False) -> Map:
    """Resize a raw map to (width, height) and cut it into levels, as the scoremap does."""
    raw = raw.astype(np.float32)
    resized = cv2.resize(raw, size, interpolation=cv2.INTER_CUBIC).astype(np.float64)
    lowest, highest = float(resized.min()), float(resized.max())
    spread = highest - lowest
    score = (resized - lowest) / spread if spread > 0 else np.zeros_like(resized)
    return Map(raw, (255 * score).astype(np.uint8), lowest, highest, signed)


def noise_map(seed: int, grid: tuple[int, int], size: tuple[int, int], signed: bool = False) -> Map:
    """Bicubic noise with a hill, on a (w,h) grid: several contours, holes and one large object."""
    random = np.random.default_rng(seed)
    width, height = grid
    rows, columns = np.mgrid[0:height, 0:width]
    centre = random.uniform(0.3, 0.7, 2) * (height, width)
    distance = np.hypot(rows - centre[0], columns - centre[1]) / max(grid)
    hill = np.exp(-((distance / 0.28) ** 2))
    raw = 3 * hill + 0.6 * random.standard_normal((height, width))
    return make_map(raw - raw.mean() if signed else np.maximum(raw, 0), size, signed)


def encode(values: NDArray[Any]) -> str:
    """Bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def data_url(pixels: NDArray[np.uint8]) -> str:
    """A grey (H,W) or RGB (H,W,3) picture as a PNG data URL."""
    ordered = pixels if pixels.ndim == 2 else pixels[:, :, ::-1]
    return "data:image/png;base64," + encode(cv2.imencode(".png", ordered)[1])


def boxes_by_level(of: Map, contours: str) -> str:
    """base64 of uint16 rows [first_level, last_level, x0, y0, x1, y1]; equal neighbours merged."""
    rows: list[list[int]] = []
    latest: dict[Box, list[int]] = {}
    for level in range(256):
        for box in dict.fromkeys(of.boxes(level, contours)):
            if box in latest and latest[box][1] == level - 1:
                latest[box][1] = level
            else:
                latest[box] = [level, level, *box]
                rows.append(latest[box])
    return encode(np.array(rows, dtype="<u2").reshape(-1, 6))


def heatmap_cell(of: Map, facts: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """The payload's cell of one map."""
    height, width = of.raw.shape
    return {
        "kind": "heatmap",
        "levels": data_url(of.levels),
        "raw": {"width": width, "height": height, "values": encode(of.raw.astype("<f4"))},
        "lowest": of.lowest,
        "highest": of.highest,
        "signed": of.signed,
        "boxes": {rule: boxes_by_level(of, rule) for rule in ("largest", "all")},
        "facts": facts or [],
    }


def colour_map(name: str) -> NDArray[np.uint8]:
    """256×3 colours."""
    from matplotlib import colormaps

    return np.round(255 * colormaps[name](np.arange(256))[:, :3]).astype(np.uint8)


def smooth_photo(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """A photo-like picture: soft blobs of colour."""
    coarse = np.random.default_rng(seed).integers(40, 220, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def make_payload(
    cells: list[list[dict[str, Any]]],
    size: tuple[int, int],
    image_size: tuple[int, int],
    photo: NDArray[np.uint8] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """A payload of rows of cells; backbones are net0, net1, …, methods the first of COLUMNS."""
    methods = [*COLUMNS, ("winner", "winning class")][: len(cells[0])]
    defaults = {
        "threshold": 0.23,
        "contours": "largest",
        "opacity": 0.6,
        "colormap": "turbo",
        "true_box": None,
    }
    return {
        "photo": {
            "src": data_url(smooth_photo(size) if photo is None else photo),
            "width": size[0],
            "height": size[1],
            "image_size": list(image_size),
            "name": "blobs.png",
        },
        "columns": [
            {"method": method, "title": title, "help": f"what {title} shows"}
            for method, title in methods
        ],
        "rows": [
            {
                "id": f"net{i}",
                "title": f"net{i}",
                "subtitle": "tabby 0.71",
                "facts": [{"label": "‖w‖", "value": "1.23", "help": "norm of the class weight"}],
                "cells": row,
            }
            for i, row in enumerate(cells)
        ],
        "settings": defaults | settings,
        "colormaps": {
            "sequential": {name: encode(colour_map(name)) for name in ("turbo", "viridis")},
            "diverging": {"RdBu_r": encode(colour_map("RdBu_r"))},
        },
    }


def box_in_photo(box: Box, size: tuple[int, int], image_size: tuple[int, int]) -> Box:
    """The photo's pixels that a box of the display grid covers."""
    scales = [Fraction(image, shown) for image, shown in zip(image_size, size, strict=True)]
    x0, y0 = (math.floor(low * scale) for low, scale in zip(box[:2], scales, strict=True))
    x1, y1 = (
        min(math.ceil((high + 1) * scale) - 1, image - 1)
        for high, scale, image in zip(box[2:], scales, image_size, strict=True)
    )
    return x0, y0, x1, y1


def iou_by_counting(a: Box, b: Box, image_size: tuple[int, int]) -> float:
    """IoU of two boxes by painting them and counting pixels."""
    painted = np.zeros((2, image_size[1], image_size[0]), dtype=bool)
    for canvas, (x0, y0, x1, y1) in zip(painted, (a, b), strict=True):
        canvas[y0 : y1 + 1, x0 : x1 + 1] = True
    return float((painted[0] & painted[1]).sum() / (painted[0] | painted[1]).sum())


def page_of(
    payload: dict[str, Any] | None, body: str = "", dark: bool = False, asks: bool = False
) -> str:
    """A page with the viewer mounted as `viewer`, states told in `told`, picks in `picked`.

    With `asks` it may be asked for fields; questions are told in `asked`.
    """
    import json

    data = json.dumps(payload).replace("</", "<\\/")
    ground = "#0b0f19" if dark else "#ffffff"
    theme = (
        "--body-text-color:#f3f4f6;--background-fill-primary:#0b0f19;"
        "--background-fill-secondary:#1f2937;--border-color-primary:#374151;"
        "--color-accent:#60a5fa;"
        if dark
        else ""
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>body{{margin:0;padding:16px;background:{ground};{theme}}}{viewer_style()}</style>"
        f"{body}<div id='host'></div><script>(() => {{{viewer_script()}\n"
        "window.told = []; window.picked = []; window.asked = [];"
        "const host = document.querySelector('#host');"
        "host.addEventListener('wsolviz:pick', (event) => picked.push(event.detail));"
        f"const options = {{ onState: (state) => told.push(state) }};"
        f"if ({json.dumps(asks)}) options.onAsk = (question) => asked.push(question);"
        f"window.viewer = mountWsolviz(host, {data}, options);"
        "})();</script></html>"
    )
