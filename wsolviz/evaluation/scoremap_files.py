"""Score maps that others made, out of .npy files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsolviz.evaluation.box_metrics import MAP_SIZE
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.records import ImageRecord, Settings
from wsolviz.evaluation.scoring import CENTRE_BOX, Scorer
from wsolviz.evaluation.sources import Source

SHOWN = 3  # names in an error


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

    @cached_property
    def settings(self) -> Settings:
        """See `Source`."""
        return {"scoremaps": str(self.folder.resolve()), "map_size": self.map_size}

    def stamp(self, index: int) -> int:
        """See `Source`."""
        path = self._path(self.dataset.metadata.image_ids[index])
        return path.stat().st_mtime_ns if path else -1

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
