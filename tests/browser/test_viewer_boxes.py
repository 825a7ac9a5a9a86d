"""The viewer's boxes, shares, IoU and curves against counting pixels."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.browser.harness import SETTLED, map_cells, open_viewer, set_state, slide
from tests.browser.payloads import (
    IMAGE_SIZE,
    SIZE,
    TRUE_BOX,
    Box,
    Map,
    box_in_photo,
    encode,
    heatmap_cell,
    iou_by_counting,
    make_payload,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def boxes_in_photo(of: Map, level: int, contours: str) -> list[Box]:
    return [box_in_photo(box, SIZE, IMAGE_SIZE) for box in of.boxes(level, contours)]


def area(box: Box) -> int:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_boxes_shares_and_iou_equal_numpys(
    page: Page, payload: Any, maps: list[Map], contours: str
) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX), contours=contours)
    for threshold in (0.05, 0.23, 0.6, 1.0):
        set_state(page, threshold=threshold)
        for i, of in enumerate(maps):
            boxes = boxes_in_photo(of, of.level(threshold), contours)
            scores = [iou_by_counting(box, TRUE_BOX, IMAGE_SIZE) for box in boxes]
            cell = map_cells(page).nth(i)
            assert cell.locator(".wv-iou").inner_text() == f"{max(scores, default=0):.3f}"
            drawn = cell.locator("path.wv-box:not(.wv-casing)").get_attribute("d") or ""
            assert set(drawn_boxes(drawn)) == set(of.boxes(of.level(threshold), contours))
            if not boxes:
                numbers = cell.locator(".wv-numbers").inner_text()
                assert " ".join(numbers.split()) == "IoU 0.000 no box"
                continue
            corners = tuple(map(int, re.findall(r"\d+", cell.locator(".wv-corners").inner_text())))
            assert corners in [
                box for box, s in zip(boxes, scores, strict=True) if s == max(scores)
            ]
            share = 100 * area(corners) / (IMAGE_SIZE[0] * IMAGE_SIZE[1])
            assert cell.locator(".wv-share").inner_text() == f"box {share:.1f} %"


def test_where_nothing_lies_above_the_threshold_no_box_is_said(page: Page, payload: Any) -> None:
    open_viewer(page, payload)
    slide(page, ".wv-threshold", 1)
    page.wait_for_timeout(SETTLED)
    label = map_cells(page).first.locator(".wv-view").get_attribute("aria-label")
    assert label == "CAM of net0: threshold 1.00, no box, no true box drawn"


def drawn_boxes(path: str) -> list[Box]:
    """Boxes on the display grid that an SVG path goes around."""
    found = re.findall(r"M(\d+) (\d+)H(\d+)V(\d+)H\1Z", path)
    assert path.count("M") == len(found)
    return [(int(x0), int(y0), int(x1) - 1, int(y1) - 1) for x0, y0, x1, y1 in found]


def test_corners_do_not_move_by_a_floats_rounding(page: Page, maps: list[Map]) -> None:
    image_size = (264, 168)
    scale = image_size[0] / SIZE[0]
    hard = [x for x in range(120) if math.ceil((x + 1) * scale) != -(-(x + 1) * 264 // 120)]
    assert hard
    boxes = [(level, 0, x, 89) for level, x in enumerate(hard)]
    rows = np.array([[level, level, *box] for level, box in enumerate(boxes)], dtype="<u2")
    cell = heatmap_cell(maps[0]) | {"boxes": {"largest": encode(rows), "all": encode(rows)}}
    open_viewer(page, make_payload([[cell]], SIZE, image_size))
    for level, box in enumerate(boxes):
        set_state(page, threshold=(level + 0.5) / 255)
        x0, y0, x1, y1 = box_in_photo(box, SIZE, image_size)
        assert page.locator(".wv-corners").inner_text() == f"{x0}, {y0} – {x1}, {y1}"


@pytest.mark.parametrize("contours", ["largest", "all"])
def test_curve_and_oracle_equal_brute_force(
    page: Page, payload: Any, maps: list[Map], contours: str
) -> None:
    open_viewer(page, payload)
    set_state(page, true_box=list(TRUE_BOX), contours=contours)
    for i, of in enumerate(maps[:3]):
        scores = [
            max(
                (
                    iou_by_counting(box, TRUE_BOX, IMAGE_SIZE)
                    for box in boxes_in_photo(of, level, contours)
                ),
                default=0,
            )
            for level in range(256)
        ]
        cell = map_cells(page).nth(i)
        best = int(np.argmax(scores))
        text = cell.locator(".wv-oracle").inner_text().split("\n")
        assert text == ["oracle here", f"{best / 255:.2f} → {scores[best]:.3f}"]
        path = cell.locator(".wv-curve-line").get_attribute("d") or ""
        points = np.array([[float(v) for v in p.split()] for p in re.split("[ML]", path) if p])
        assert np.array_equal(points[:, 0], np.arange(256))
        np.testing.assert_allclose(points[:, 1], 100 - 100 * np.array(scores), atol=0.0051)


def test_curve_shows_the_boxs_share_without_a_true_box(
    page: Page, payload: Any, maps: list[Map]
) -> None:
    open_viewer(page, payload)
    shares = [
        sum(map(area, boxes_in_photo(maps[0], level, "largest"))) / math.prod(IMAGE_SIZE)
        for level in range(256)
    ]
    cell = map_cells(page).first
    path = cell.locator(".wv-curve-line").get_attribute("d") or ""
    heights = [float(point.split()[1]) for point in re.split("[ML]", path) if point]
    np.testing.assert_allclose(heights, 100 - 100 * np.array(shares), atol=0.0051)
    assert "box share" in cell.locator(".wv-curve-title").inner_text()
    assert cell.locator(".wv-oracle").inner_text().strip() == "IoU needs a true box"
    assert cell.locator(".wv-iou").inner_text() == "–"
