import cv2
import numpy as np
import pytest
import torch

from wsolviz import scoremap
from wsolviz.analysis.scoremap import resize_heatmap


def cubic_weight(distance):
    """Keys' cubic with a = −0.75, OpenCV's choice."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return 0.0


def slow_cubic(values, length):
    """Resample the rows by the definition: pixel centres, border cells repeated."""
    source = len(values)
    result = np.zeros((length, *values.shape[1:]))
    for i in range(length):
        at = (i + 0.5) * source / length - 0.5
        left = int(np.floor(at))
        for j in range(left - 1, left + 3):
            result[i] += cubic_weight(at - j) * values[min(max(j, 0), source - 1)]
    return result


def test_resize_is_keys_bicubic():
    heatmap = np.random.default_rng(0).normal(size=(7, 5))
    expected = slow_cubic(slow_cubic(heatmap, 30).T, 22).T
    # OpenCV keeps the kernel weights in float32.
    np.testing.assert_allclose(resize_heatmap(heatmap, (30, 22)), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scoremap_is_the_benchmarks_resize_then_min_max(dtype):
    heatmap = torch.randn(7, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    resized = cv2.resize(heatmap.double().numpy(), (224, 224), interpolation=cv2.INTER_CUBIC)
    scores = scoremap(heatmap, 224)
    assert scores.dtype == np.float64
    assert scores.min() == 0
    assert scores.max() == 1
    np.testing.assert_array_equal(scores, (resized - resized.min()) / np.ptp(resized))


@pytest.mark.parametrize("value", [0.0, 3.5, np.nan, np.inf])
def test_a_map_without_contrast_or_with_nan_is_all_zero(value):
    heatmap = np.full((4, 4), 3.5)
    heatmap[1, 2] = value
    if np.isfinite(value) and value != 3.5:
        heatmap[:] = value
    assert not scoremap(heatmap, (8, 9)).any()


@pytest.mark.parametrize(
    ("heatmap", "size", "said"),
    [
        (np.zeros((2, 3, 3)), 8, "of a batch"),
        (np.zeros(3), 8, "has shape"),
        (np.zeros((3, 3)), (0, 8), "at least 1"),
    ],
)
def test_wrong_shapes_are_refused(heatmap, size, said):
    with pytest.raises(ValueError, match=said):
        scoremap(heatmap, size)
