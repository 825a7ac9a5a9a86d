"""Where score maps come from: a network that is run on the photos, or files that others made."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from wsolviz.analysis.scoremap import merged_scoremap
from wsolviz.backends.base import Backbone
from wsolviz.compare import CompareOptions
from wsolviz.evaluation.box_metrics import MAP_SIZE, ScoremapBoxes
from wsolviz.evaluation.classes import match_classes
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.mask_metrics import MaskEvaluator
from wsolviz.evaluation.records import ImageRecord, MethodRecord, Settings
from wsolviz.explain import inspect_photo
from wsolviz.methods import find_method
from wsolviz.photo import Photo
from wsolviz.views import mean_logits, take_views

ClassFrom = Literal["label", "prediction"]

CENTRE_BOX = "centre_box"
TOP = 5
SHOWN = 3


@cache
def centre_boxes(size: int) -> tuple[NDArray[np.float64], ScoremapBoxes]:
    """The baseline that looks at no photo: score 1 in the middle, falling to 0 at the border.

    Its box at a threshold is centred and has the photo's proportions, so that the sweep over
    thresholds finds the best such box of the data set.
    """
    distance = np.abs(np.linspace(-1, 1, size))
    scores = 1 - np.maximum(distance[:, None], distance[None, :])
    return scores, ScoremapBoxes.of(scores)


class Scorer:
    """Compares score maps with the ground truth of one data set."""

    def __init__(self, dataset: Dataset, map_size: int) -> None:
        self.metadata = dataset.metadata
        self.map_size = map_size
        self._masks = (
            MaskEvaluator(self.metadata, dataset.mask_root, size=map_size)
            if self.metadata.masks
            else None
        )

    def score(
        self, scoremap: NDArray[Any], image_id: str, boxes: ScoremapBoxes | None = None
    ) -> MethodRecord:
        """What a run keeps of one score map.

        Args:
            scoremap: (map_size,map_size) in [0,1].
            image_id: in the metadata.
            boxes: the map's boxes, where they are known already.

        Raises:
            ValueError: a map out of range, or a mask that cannot be read.
            FileNotFoundError: a mask that is not there.
        """
        curves = largest = histograms = None
        if image_id in self.metadata.boxes:
            boxes = boxes or ScoremapBoxes.of(scoremap)
            curves = boxes.curves(self.metadata.resized_boxes(image_id, (self.map_size,) * 2))
            largest = boxes.boxes["largest"]
        if self._masks is not None and image_id in self.metadata.masks:
            histograms = self._masks.histograms(scoremap, image_id)
        return MethodRecord(curves, largest, histograms)

    def baseline(self, image_id: str) -> MethodRecord:
        """What the centre box gives."""
        scores, boxes = centre_boxes(self.map_size)
        return self.score(scores, image_id, boxes)


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

    @property
    def settings(self) -> Settings:
        """See `Source`."""
        return {
            "backbone": self.backbone.name,
            "weights": self.backbone.weights.source,
            "weights_sha256": self.backbone.weights.sha256,
            "class_from": self.class_from,
            "classes_sha256": hashlib.sha256(repr(self._classes).encode()).hexdigest(),
            "map_size": self.map_size,
            **asdict(self.options),
        }

    def heatmaps(self, image_id: str, method: str, explained: int | None) -> list[NDArray[Any]]:
        """See `Source`."""
        photo = self.dataset.images.read(image_id)
        inspection = inspect_photo(photo, self.backbone, self.options.space, self.options.views)
        return [result.float().numpy() for result in inspection.compute(method, explained).results]

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


class ScoremapSource(Source):
    """Score maps that others made: a .npy file of (S,S) values in [0,1] for each image."""

    def __init__(self, dataset: Dataset, folder: Path, *, map_size: int = MAP_SIZE) -> None:
        """Check that all files are there, and their size, before any is measured.

        Args:
            dataset: what is measured.
            folder: holds IMAGE_ID.npy, or the same with the photo's suffix left out; its name
                becomes the method's.
            map_size: side of the score maps in pixels.

        Raises:
            FileNotFoundError: no such folder, or images without a file.
            ValueError: a map of another size, or a file that holds none.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder of score maps {folder}.")
        self.dataset, self.folder, self.map_size = dataset, folder, map_size
        self.methods = (folder.resolve().name, CENTRE_BOX)
        self._scorer = Scorer(dataset, map_size)
        missing = []
        for image_id in dataset.metadata.image_ids:
            path = self._path(image_id)
            if path is None:
                missing.append(image_id)
                continue
            shape = read_scoremap(path, mmap_mode="r").shape
            if shape != (map_size, map_size):
                raise ValueError(
                    f"The score map {path} has shape {shape}, not {(map_size, map_size)}; maps of "
                    "another size are measured with --map-size."
                )
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(dataset.metadata.image_ids)} images have no score map in "
                f"{folder}: {', '.join(missing[:SHOWN])}{', …' if len(missing) > SHOWN else ''}."
            )

    def _path(self, image_id: str) -> Path | None:
        whole = self.folder / f"{image_id}.npy"
        paths = (whole, (self.folder / image_id).with_suffix(".npy"))
        return next((path for path in paths if path.is_file()), None)

    @property
    def settings(self) -> Settings:
        """See `Source`."""
        return {"scoremaps": str(self.folder.resolve()), "map_size": self.map_size}

    def heatmaps(self, image_id: str, method: str, explained: int | None) -> list[NDArray[Any]]:
        """See `Source`."""
        return [self._read(image_id)]

    def load(self, index: int) -> NDArray[Any]:
        """The score map."""
        return self._read(self.dataset.metadata.image_ids[index])

    def _read(self, image_id: str) -> NDArray[Any]:
        path = self._path(image_id)
        if path is None:
            raise FileNotFoundError("Its score map is gone.")
        return read_scoremap(path)

    def measure(self, batch: Sequence[tuple[int, Any]]) -> list[Callable[[], ImageRecord]]:
        """Nothing but the comparison is left to do."""
        return [partial(self._record, index, scoremap) for index, scoremap in batch]

    def _record(self, index: int, scoremap: NDArray[Any]) -> ImageRecord:
        image_id = self.dataset.metadata.image_ids[index]
        methods = {
            self.methods[0]: self._scorer.score(scoremap, image_id),
            CENTRE_BOX: self._scorer.baseline(image_id),
        }
        return ImageRecord(index, image_id, methods=methods)


def read_scoremap(path: Path, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """An array of real numbers out of a .npy file.

    Raises:
        ValueError: the file holds something else, or is damaged.
    """
    try:
        scores = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a .npy file that can be read: {error}.") from error
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiub":
        raise ValueError(f"{path} does not hold an array of real numbers.")
    return scores
