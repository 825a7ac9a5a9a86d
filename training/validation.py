"""Measuring the network after an epoch, by the project's own evaluator."""

from __future__ import annotations

from pathlib import Path

from training.config import MetadataSource, TrainingConfig
from wsolviz.backends.base import Backbone
from wsolviz.compare import CompareOptions
from wsolviz.evaluation.dataset import Dataset, open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.figures import MAX_BOX_ACC_V2, POLICY_SWEPT, PXAP, Figures
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.evaluation.team import Team


def open_split(source: MetadataSource) -> Dataset:
    """A split in the benchmark's format, with what it holds of boxes and masks.

    Raises:
        FileNotFoundError, ValueError: see `open_dataset`.
    """
    return open_dataset(source.root, source.split, metadata=source.metadata, images=source.images)


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


def score(figures: Figures, method: str) -> float:
    """What the best epoch is chosen by, in per cent.

    MaxBoxAccV2 at the split's own best thresholds, or PxAP where there are only masks.
    """
    of_method = figures["methods"][method]
    if POLICY_SWEPT in of_method:
        return float(of_method[POLICY_SWEPT][MAX_BOX_ACC_V2]["value"])
    return float(of_method[PXAP]["value"])
