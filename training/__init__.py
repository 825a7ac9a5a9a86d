"""The training pipeline: from image labels to weights that localize better."""

import wsolviz  # noqa: F401  (before torch: see wsolviz.openmp)
