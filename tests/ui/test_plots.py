"""The plots: which box tells positions apart, and colours that can be seen."""

import numpy as np
import pytest

from wsolviz.compare import CompareRequest, compare
from wsolviz.render import Look
from wsolviz.ui.controls import EXAMPLES
from wsolviz.ui.plots import INSIDE, OUTSIDE, decomposition_figure
from wsolviz.ui.plots_panel import _plot_box


def row_of(*methods):
    return compare(EXAMPLES[0], CompareRequest(methods=methods)).rows[0]


def test_the_box_is_the_true_one_or_the_first_heatmaps():
    row = row_of("pc_rgb", "cam")
    box, caption = _plot_box(row, Look(true_box=(1, 2, 30, 40)))
    assert (box, caption) == ((1, 2, 30, 40), "inside or outside the true box")
    box, caption = _plot_box(row, Look())
    assert list(box) == row.cells[1].boxes_at(0.3)[0].tolist()
    assert caption == "inside or outside the box of CAM at threshold 0.30"


@pytest.mark.parametrize(("methods", "threshold"), [(("pc_rgb",), 0.3), (("cam",), 1.0)])
def test_without_a_box_positions_are_not_told_apart(methods, threshold):
    row = row_of(*methods)
    box, caption = _plot_box(row, Look(cam_threshold=threshold))
    assert box is None
    assert caption.startswith("every position")
    figure = decomposition_figure(row, box)
    assert [trace.name for trace in figure.data] == ["position"] * 3
    assert len(figure.data[0].x) == 49


@pytest.mark.parametrize("narrow", [False, True])
def test_every_position_is_in_each_plot(narrow):
    figure = decomposition_figure(row_of("cam"), (0, 0, 200, 299), narrow=narrow)
    for first, second in zip(figure.data[:3], figure.data[3:], strict=True):
        assert len(first.x) + len(second.x) == 49
    assert len({trace.xaxis for trace in figure.data}) == 3


@pytest.mark.parametrize("ground", ["#ffffff", "#1e293b"])
@pytest.mark.parametrize("colour", [INSIDE, OUTSIDE])
def test_marks_have_a_contrast_of_3_on_both_themes(colour, ground):
    shaded = 0.92 * channels(ground) + 0.08 * 128  # the plots' own background
    bright, dim = sorted((luminance(channels(colour)), luminance(shaded)), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 3


def channels(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def luminance(rgb):
    """WCAG 2.2's relative luminance of an sRGB colour."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
