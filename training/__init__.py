"""The training pipeline: from image labels to weights that localize better."""
