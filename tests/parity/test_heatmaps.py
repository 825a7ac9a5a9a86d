"""CAM and PC1 against what the papers' own code gives on the same features and weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wsolviz import METHODS, Features

REFERENCE = np.load(Path(__file__).with_name("heatmaps.npz"))
CASES = range(7)
FLIPPED_CASES = (5, 6)


def features_of(case: int) -> Features:
    feature_map = torch.from_numpy(REFERENCE[f"feature_{case}"])[None]
    weight = torch.from_numpy(REFERENCE[f"weight_{case}"])[None]
    bias = torch.zeros(1)
    return Features(feature_map, weight, bias, feature_map.mean((2, 3)) @ weight.T + bias)


@pytest.mark.parametrize("case", CASES)
def test_cam_is_the_papers_after_relu_and_division_by_the_maximum(case):
    heatmap = METHODS["cam"](features_of(case), 0)[0].numpy().clip(0)
    np.testing.assert_allclose(heatmap / heatmap.max(), REFERENCE[f"cam_{case}"], atol=5e-6)


@pytest.mark.parametrize("case", CASES)
def test_pc1_paper_is_the_papers_after_min_max(case):
    heatmap, numbers = METHODS["pc1_paper"].run(features_of(case), 0)
    scaled = (heatmap[0] - heatmap.min()) / (heatmap.max() - heatmap.min())
    np.testing.assert_allclose(scaled.numpy(), REFERENCE[f"pc1_{case}"], atol=5e-6)
    assert bool(numbers["sign_flipped"]) == (case in FLIPPED_CASES)
