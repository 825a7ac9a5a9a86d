"""How long a frame takes while the threshold slider is dragged over 4 backbones × 5 methods.

    python -m benchmarks.slider

Chromium without a GPU drags the real slider back and forth with the mouse. The page counts the
time between animation frames and the time its own script takes in each; beside it the same drags
run with a repaint of every pixel instead of only those that change. Both sides are interleaved.
A mouse driven from outside moves in fewer than all frames, so the page also moves the slider itself
once in every frame, the worst case.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.browser.harness import READY
from tests.browser.payloads import heatmap_cell, make_payload, noise_map, page_of
from tests.conftest import CHROMIUM_FLAGS

ROWS, COLUMNS = 4, 5
SIZE = (384, 384)
ROUNDS = 5
MOVES = 60
FRAME_TARGET = 16.7
# Wraps requestAnimationFrame before the viewer sees it, so that its callbacks are timed.
STOPWATCH = """
window.frames_ = []; window.scripts = [];
const nextFrame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) => nextFrame((now) => {
  const start = performance.now();
  callback(now);
  window.scripts.push(performance.now() - start);
});
let latest = null;
const tick = (now) => {
  if (latest !== null) window.frames_.push(now - latest);
  latest = now;
  nextFrame(tick);
};
nextFrame(tick);
window.moveInEveryFrame = (moves) => new Promise((done) => {
  const slider = document.querySelector(".wv-threshold");
  frames_.length = scripts.length = 0;
  let move = 0;
  const step = () => {
    if (move === moves) return done({ frames: frames_, scripts });
    slider.value = 0.1 + 0.7 * (1 - Math.abs(1 - (2 * move++) / moves));
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    return nextFrame(step);
  };
  nextFrame(step);
});
"""
# The other side: what a viewer does that repaints all pixels at every move.
REPAINT_ALL = """(all) => {
  MaskRaster.prototype.moveTo = all
    ? function (level) { if (level !== this.level) this.paint(this.colours, level); }
    : window.incremental;
}"""


def drag(page: Page) -> dict[str, list[float]]:
    """Drag the slider once across and back; milliseconds of every frame and every script in it."""
    spot = page.locator(".wv-threshold").bounding_box()
    assert spot is not None
    middle = spot["y"] + spot["height"] / 2
    left, right = spot["x"] + 0.1 * spot["width"], spot["x"] + 0.8 * spot["width"]
    page.mouse.move(left, middle)
    page.mouse.down()
    page.evaluate("frames_.length = scripts.length = 0")
    for end in (right, left):
        page.mouse.move(end, middle, steps=MOVES)
    times: dict[str, list[float]] = page.evaluate("({frames: frames_, scripts})")
    page.mouse.up()
    return times


def payload() -> dict[str, Any]:
    """20 different maps with boxes, and a true box, so that everything a cell shows is moving."""
    grid = (12, 12)
    cells = [
        [
            heatmap_cell(noise_map(COLUMNS * r + c, grid, SIZE, signed=c == 4))
            for c in range(COLUMNS)
        ]
        for r in range(ROWS)
    ]
    return make_payload(cells, SIZE, SIZE, true_box=[90, 80, 300, 310])


def summary(times: list[float]) -> str:
    """Median and 95th percentile of milliseconds."""
    ordered = sorted(times)
    return f"{statistics.median(ordered):6.2f} {ordered[int(0.95 * len(ordered))]:6.2f}"


def main() -> int:
    """Print both sides, their ratio, the first paint and the number of requests."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    executable = shutil.which("chromium")
    if executable is None:
        print("No Chromium on the PATH: the slider is measured in one.", file=sys.stderr)
        return 1
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        measure(page)
        browser.close()
    return 0


def measure(page: Page) -> None:
    """Mount the grid and drag, both sides in turn."""
    requests: list[str] = []
    html = page_of(None, body=f"<script>{STOPWATCH}</script>")
    # The page's script keeps its names to itself; the benchmark needs one of them.
    html = html.replace("window.told", "window.MaskRaster = MaskRaster; window.told", 1)
    page.set_content(html)
    page.evaluate("() => { window.incremental = MaskRaster.prototype.moveTo; }")
    first_paint = page.evaluate(
        "(payload) => { const start = performance.now();"
        " return viewer.update(payload).then(() => performance.now() - start); }",
        payload(),
    )
    page.wait_for_selector(READY)
    page.on("request", lambda request: requests.append(request.url))
    sides: dict[str, dict[str, list[float]]] = {}
    drag(page)  # warm-up
    for _ in range(ROUNDS):
        for repaint_all in (False, True):
            page.evaluate(REPAINT_ALL, repaint_all)
            side = "every pixel" if repaint_all else "what changes"
            every_frame = page.evaluate(f"moveInEveryFrame({2 * MOVES})")
            for driver, times in (("mouse", drag(page)), ("every frame", every_frame)):
                for kind, values in times.items():
                    sides.setdefault(f"{side}, {driver}", {}).setdefault(kind, []).extend(values)
    print(f"{ROWS}×{COLUMNS} maps of {SIZE[0]}×{SIZE[1]}, {ROUNDS} drags a side, milliseconds")
    report(sides)
    print(f"{len(requests)} requests; first paint of {ROWS * COLUMNS} cells: {first_paint:.0f} ms")


def report(sides: dict[str, dict[str, list[float]]]) -> None:
    """Print every side, and the ratio of the scripts' medians."""
    print(f"{'repainting, driver':26} {'frame median, p95':>18} {'script median, p95':>20}")
    for name, kinds in sides.items():
        print(f"{name:26} {summary(kinds['frames']):>18} {summary(kinds['scripts']):>20}")
    what, every = (
        statistics.median(sides[f"{side}, mouse"]["scripts"])
        for side in ("what changes", "every pixel")
    )
    print(f"script: every pixel / what changes = {every / what:.1f}")
    frame = statistics.median(sides["what changes, mouse"]["frames"])
    print(f"median frame while dragging {frame:.2f} ms, target ≤ {FRAME_TARGET}")


if __name__ == "__main__":
    sys.exit(main())
