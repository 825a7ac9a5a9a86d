"""PxAP, as the WSOL benchmark's own code gave it.

`masks/` holds 15 images' metadata and masks in the benchmark's format, and their score maps as the
benchmark sees them: in which of its bins each score lies, as second differences, which pack well.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsolviz.evaluation import MaskEvaluator, read_metadata

FOLDER = Path(__file__).parent / "masks"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())["pxap"]
BINS = 1000


def scoremaps(dtype: type[np.floating]) -> list[NDArray[np.floating]]:
    """A score from the middle of each pixel's bin; behind the last one there is only 1."""
    steps = np.load(FOLDER / "bins.npz")["second_differences"]
    bins = steps.cumsum(axis=1).cumsum(axis=2)
    assert bins.min() == 0
    assert (bins.max(axis=(1, 2)) == BINS).all()
    return list(np.minimum((bins + 0.5) / BINS, 1).astype(dtype))


def test_no_interval_is_left_out():
    assert set(EXPECTED) == {"0.001", "0.01"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("interval", EXPECTED)
def test_pxap(interval, dtype):
    metadata = read_metadata(FOLDER)
    evaluator = MaskEvaluator(
        metadata, FOLDER / "OpenImages", cam_thresholds=np.arange(0, 1, float(interval))
    )
    for scoremap, image in zip(scoremaps(dtype), metadata.image_ids, strict=True):
        evaluator.accumulate(scoremap, image)
    metrics = evaluator.compute()
    assert metrics.num_images == 15
    assert metrics.pxap == pytest.approx(EXPECTED[interval], abs=1e-9)
