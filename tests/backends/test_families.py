"""The GAP identity for every family that docs/timm_census.md calls exact."""

from pathlib import Path

import pytest
import timm
import torch

from benchmarks.timm_census import build, num_parameters
from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.timm_backbone import as_backbone

TABLE = Path(__file__).parents[2] / "docs" / "timm_census.md"
LARGE = 100_000_000  # parameters: these few would take longer than all the others together


def exact_models() -> list[str]:
    rows = [line.split("|") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return [row[2].strip() for row in rows if len(row) > 5 and row[4].strip() == "exact"]


@pytest.mark.parametrize("name", exact_models())
def test_cam_plus_bias_averages_to_the_networks_own_logits(name):
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    if num_parameters(name) > LARGE:
        pytest.skip("more than 100 million parameters; the census itself covers it")
    module = build(name)
    backbone = as_backbone(f"timm/{name}", module, WeightsInfo("random"))
    images = torch.rand(1, 3, *backbone.preprocessing.size) * 2 - 1
    features = backbone.extract(images)
    with torch.no_grad():
        expected = module(images)
    averaged = features.feature_map.mean(dim=(2, 3)) @ features.weight.T + features.bias
    assert features.exact
    assert (averaged - expected).abs().max() <= 1e-4 * expected.abs().max()
    cam = torch.einsum("bchw,c->bhw", features.feature_map, features.weight[5])
    torch.testing.assert_close(
        cam.mean(dim=(1, 2)) + features.bias[5], averaged[:, 5], rtol=1e-4, atol=1e-4
    )
    assert cam.std() > 0, "the map shows something"


def test_the_table_counts_enough_families():
    assert len(exact_models()) >= 70
