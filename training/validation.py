"""Measuring the network after an epoch, by the project's own evaluator."""

from __future__ import annotations

from pathlib import Path

from training.config import TrainingConfig
from wsolviz.backends.base import Backbone
from wsolviz.compare import CompareOptions
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.figures import Figures
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.evaluation.team import Team


def measure(
    backbone: Backbone, dataset: Dataset, config: TrainingConfig, folder: Path, team: Team
) -> Figures:
    """Figures of the network as it stands; `folder` keeps results.json and the records.

    Args:
        backbone: in eval mode.
        dataset: with true boxes or masks.
        config: says which methods.
        folder: of this epoch.
        team: the processes that share the photos.

    Returns:
        What results.json holds, in the leading process; in the others nothing.
    """
    side = config.data.image_size
    source = NetworkSource(
        dataset, backbone, config.validation.methods, options=CompareOptions(image_size=side)
    )
    run = Run(source, folder, team)
    run.clear()  # a killed run may have measured these weights in part, or others
    return evaluate_run(run)
