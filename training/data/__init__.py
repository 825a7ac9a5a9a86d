"""Photos to train on: where they come from, what happens to them, and how they are loaded."""

from training.data.augmentation import Augmentation
from training.data.batches import Loaded, Loader, Share
from training.data.loading import make_loader
from training.data.sources import PhotoSet, ShardSet, Sources, TrainingSet, open_sources

__all__ = [
    "Augmentation",
    "Loaded",
    "Loader",
    "PhotoSet",
    "ShardSet",
    "Share",
    "Sources",
    "TrainingSet",
    "make_loader",
    "open_sources",
]
