"""Effective receptive fields against what RepLKNet's own code gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

import wsolviz
from tests.parity.fill import image
from tests.parity.test_networks import official_state

HERE = Path(__file__).parent
AREAS = np.load(HERE / "erf_area.npz")
REFERENCE = np.load(HERE / "erf_replknet31b.npz")


@pytest.mark.parametrize("case", range(3))
def test_areas_are_the_references(case):
    areas = wsolviz.erf_area(AREAS[f"contribution_{case}"], AREAS["thresholds"])
    assert np.array_equal(areas, AREAS[f"side_area_{case}"])


@pytest.fixture(scope="module")
def replknet(tmp_path_factory):
    path = tmp_path_factory.mktemp("erf") / "replknet31b.pth"
    torch.save(official_state("replknet31b"), path)
    return wsolviz.load_backbone("replknet_31b", path, device="cpu")


def test_the_contribution_is_the_references(replknet):
    expected = REFERENCE["contribution"]
    contribution = wsolviz.erf(replknet, image(int(REFERENCE["size"]), int(REFERENCE["seed"])))
    # ReLUs at their edge: float64 and float32 of the same code differ by 1e-3, folding by 6e-3.
    assert np.abs(contribution - expected).max() <= 1e-2 * expected.max()
    assert np.corrcoef(contribution.ravel(), expected.ravel())[0, 1] >= 0.9999
    given, wanted = (wsolviz.erf_area(c)[:, 1] for c in (contribution, expected))
    np.testing.assert_allclose(given, wanted, rtol=0.01)
