"""Look at the viewer from outside: its canvases, texts and controls."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.browser.payloads import Map, colour_map, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SETTLED = 800  # milliseconds, beyond the delay after which the viewer tells its state
READY = ".wsolviz[aria-busy=false]"
NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
# A canvas keeps its colours multiplied by their alpha, so both sides are read from a canvas.
READ_CANVAS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  return btoa(text);
}"""
THROUGH_A_CANVAS = """([text, width, height]) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const bytes = Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
  context.putImageData(new ImageData(bytes, width, height), 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
}"""


def open_viewer(page: Page, payload: dict[str, Any] | None, **options: Any) -> None:
    """Mount a payload on an empty page and wait until it is painted."""
    page.set_content(page_of(payload, **options))
    page.wait_for_selector(READY, state="attached")


def set_state(page: Page, **partial: Any) -> None:
    """Change the state from outside and wait for the repaint."""
    page.evaluate("(partial) => viewer.setState(partial)", partial)
    page.evaluate(NEXT_FRAME)


def slide(page: Page, selector: str, value: float) -> None:
    """Move a slider as a drag does, and wait for the repaint."""
    page.eval_on_selector(
        selector,
        "(slider, value) => { slider.value = value;"
        " slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )
    page.evaluate(NEXT_FRAME)


def map_cells(page: Page) -> Locator:
    """The heatmap cells, row by row."""
    return page.locator(".wv-cell:has(.wv-is-map)")


def canvas_pixels(page: Page, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H,W,4) of one heatmap's canvas."""
    text = page.locator(".wv-is-map canvas").nth(index).evaluate(READ_CANVAS)
    return _pixels(text, size)


def through_a_canvas(
    page: Page, pixels: NDArray[np.uint8], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """What a canvas gives back of (H,W,4) pixels put on it."""
    text = base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
    return _pixels(page.evaluate(THROUGH_A_CANVAS, [text, *size]), size)


def _pixels(text: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(size[1], size[0], 4)


def render(of: Map, level: int, opacity: float, colormap: str = "turbo") -> NDArray[np.uint8]:
    """The overlay, (H,W,4): erosion finds the outline, every pixel is blended by itself.

    Inside the mask the colour covers the photo by the opacity a. Outside, the photo under 0.4·a of
    colour is darkened to half: as one layer that is the colour 0.5·0.4·a / A with A = 1 − 0.5·(1 −
    0.4·a). The outline is white and 1 pixel wide for every 240 of the longer side.
    """
    mask = (of.levels > level).astype(np.uint8)
    width = max(1, round(max(mask.shape) / 240))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(mask, cross, iterations=width)
    if of.signed:
        raw = of.lowest + of.levels / 255 * (of.highest - of.lowest)
        share = 0.5 + 0.5 * raw / max(abs(of.lowest), abs(of.highest))
        colours = colour_map("RdBu_r")[np.floor(255 * share + 0.5).astype(int)]
    else:
        colours = colour_map(colormap)[of.levels]
    cover = 1 - 0.5 * (1 - 0.4 * opacity)
    shade = 0.5 * 0.4 * opacity / cover
    outside = np.dstack([shade * colours, np.full(mask.shape, 255 * cover)])
    vivid = np.dstack([colours, np.full(mask.shape, 255 * opacity)])
    pixels = np.where(inside[..., None] > 0, vivid, outside)
    pixels[(mask > 0) & (inside == 0)] = 255
    return np.floor(pixels + 0.5).astype(np.uint8)
