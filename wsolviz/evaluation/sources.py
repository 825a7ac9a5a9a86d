"""Where score maps come from: a network that is run on the photos, or `scoremap_files`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from wsolviz.analysis.scoremap import merged_scoremap
from wsolviz.backends.base import Backbone
from wsolviz.compare import CompareOptions
from wsolviz.evaluation.box_metrics import MAP_SIZE
from wsolviz.evaluation.classes import match_classes
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.records import ImageRecord, Settings
from wsolviz.evaluation.scoring import CENTRE_BOX, Scorer
from wsolviz.explain import inspect_photo
from wsolviz.methods import find_method
from wsolviz.photo import Photo
from wsolviz.views import mean_logits, take_views

ClassFrom = Literal["label", "prediction"]

TOP = 5  # classes of a photo that are kept
UNKNOWN_LABELS = "not the network's"  # how settings tell of class labels that it does not have


class Source(ABC):
    """Gives the records of images, a batch at a time.

    Attributes:
        dataset: what is measured.
        methods: names of what is measured on each image, the baseline last.
        map_size: side of the score maps in pixels.
    """

    dataset: Dataset
    methods: tuple[str, ...]
    map_size: int

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Everything that the figures depend on, for the journal and the results."""

    @abstractmethod
    def heatmaps(self, image_id: str, method: str, explained: int | None) -> list[NDArray[Any]]:
        """One image's heatmaps again, one a view, to be drawn.

        Args:
            image_id: in the metadata.
            method: one of `methods`, but not the baseline.
            explained: the class whose map it is.
        """

    @abstractmethod
    def stamp(self, index: int) -> int:
        """Changes when what `load` reads was replaced, so that the image is measured again."""

    @abstractmethod
    def load(self, index: int) -> Any:
        """What is to be read from disk for one image; may be called from several threads.

        Raises:
            ValueError: it cannot be read, so that the image is skipped.
            OSError: likewise.
        """

    @abstractmethod
    def measure(self, batch: Sequence[tuple[int, Any]]) -> list[Callable[[], ImageRecord]]:
        """Run a batch of (index, what `load` gave); gives a function an image that ends the work.

        These functions may be called from several threads. What one raises, a ValueError or an
        OSError, makes its image a skipped one.
        """


class NetworkSource(Source):
    """Heatmaps of a network."""

    def __init__(
        self,
        dataset: Dataset,
        backbone: Backbone,
        methods: Sequence[str],
        *,
        class_from: ClassFrom = "label",
        options: CompareOptions = CompareOptions(),  # noqa: B008  (frozen)
        map_size: int = MAP_SIZE,
    ) -> None:
        """Check that the methods and the classes fit.

        Args:
            dataset: what is measured.
            backbone: the network.
            methods: names of methods, or sums of methods.
            class_from: "label" explains the true class, as the benchmark does; "prediction" the
                network's best.
            options: feature space, views and so on.
            map_size: side of the score maps in pixels.

        Raises:
            ValueError: an unknown method, or labels that the network does not have.
        """
        self.dataset, self.backbone, self.class_from = dataset, backbone, class_from
        self.options, self.map_size = options, map_size
        self._panels = [find_method(name) for name in dict.fromkeys(methods)]
        self.methods = (*(panel.name for panel in self._panels), CENTRE_BOX)
        self._scorer = Scorer(dataset, map_size)
        self._classes = self._match_classes()

    def _match_classes(self) -> list[int] | None:
        """The network's class of each label; None where they differ and are not needed."""
        try:
            return match_classes(self.dataset, self.backbone.num_classes, self.backbone.class_names)
        except ValueError:
            if self.class_from == "label":
                raise
            return None

    @cached_property
    def settings(self) -> Settings:
        """See `Source`."""
        return {
            "backbone": self.backbone.name,
            "weights": self.backbone.weights.source,
            "weights_sha256": self.backbone.weights.sha256,
            "class_from": self.class_from,
            "labels": self._labels_are(),
            "classes_sha256": hashlib.sha256(repr(self._classes).encode()).hexdigest(),
            "map_size": self.map_size,
            **asdict(self.options),
        }

    def heatmaps(self, image_id: str, method: str, explained: int | None) -> list[NDArray[Any]]:
        """See `Source`."""
        photo = self.dataset.images.read(image_id)
        inspection = inspect_photo(photo, self.backbone, self.options.space, self.options.views)
        return [result.float().numpy() for result in inspection.compute(method, explained).results]

    def stamp(self, index: int) -> int:
        """See `Source`."""
        return self.dataset.images.stamp(self.dataset.metadata.image_ids[index])

    def load(self, index: int) -> Photo:
        """The photo."""
        return self.dataset.images.read(self.dataset.metadata.image_ids[index])

    def measure(self, batch: Sequence[tuple[int, Photo]]) -> list[Callable[[], ImageRecord]]:
        """One pass of each view over the batch; what is left to do for each photo is returned."""
        photos = [photo.image for _, photo in batch]
        views = take_views(self.backbone, photos, self.options.space, self.options.views)
        logits = mean_logits(views).float()
        top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
        labels = [self._label(index) for index, _ in batch]
        explained = top[:, 0]
        if self.class_from == "label":
            explained = torch.tensor(labels, device=logits.device)
        probabilities = logits.softmax(dim=1).gather(1, explained[:, None])[:, 0].tolist()
        heatmaps = {
            panel.name: [view.run(panel, explained)[0].float().cpu().numpy() for view in views]
            for panel in self._panels
        }
        return [
            partial(
                self._record,
                index,
                {name: [of_view[i] for of_view in maps] for name, maps in heatmaps.items()},
                label=labels[i],
                explained=int(explained[i]),
                top=tuple(top[i].tolist()),
                probability=probabilities[i],
            )
            for i, (index, _) in enumerate(batch)
        ]

    def _labels_are(self) -> str:
        """How class labels became the network's classes, in words."""
        if self._classes is None:
            return UNKNOWN_LABELS
        if self.dataset.class_names and self.backbone.class_names:
            return "matched by name"
        return "taken as the network's own indices"

    def _label(self, index: int) -> int | None:
        label = self.dataset.metadata.class_labels[self.dataset.metadata.image_ids[index]]
        return None if self._classes is None else self._classes[label]

    def _record(
        self, index: int, heatmaps: dict[str, list[NDArray[np.float32]]], **facts: Any
    ) -> ImageRecord:
        image_id = self.dataset.metadata.image_ids[index]
        methods = {
            name: self._scorer.score(merged_scoremap(maps, self.map_size), image_id)
            for name, maps in heatmaps.items()
        }
        methods[CENTRE_BOX] = self._scorer.baseline(image_id)
        return ImageRecord(index, image_id, methods=methods, **facts)
